"""Volumes with a rod at known millimetres: every slice of the stack shows it where the stack says the slice lies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.headers import InstanceFile, read_header
from dicom_node.pixels import read_frame, read_image
from dicom_node.planes import Plane, planes_of_file
from dicom_node.volumes import SliceStack, slice_stack
from tests.phantoms.ct import COSINES, write_ct
from tests.phantoms.enhanced import write_enhanced_ct, write_enhanced_mr
from tests.phantoms.volume import PhantomPlane, axial_planes, rod_height_mm

SPACING = 5.0


def heights(stack: SliceStack) -> list[float]:
    """Return the z at which each slice's picture shows the rod, in the order of the stack."""
    found = []
    for shown in stack.slices:
        image = read_image(shown.instance.path)
        plane: Plane = planes_of_file(shown.instance)[0][shown.frame]
        values = read_frame(image, shown.frame).astype(np.int16) - 1024
        phantom = PhantomPlane(plane.position, plane.orientation)  # type: ignore[arg-type]
        found.append(rod_height_mm(phantom, values))
    return found


def shuffled(files: Sequence[InstanceFile]) -> list[InstanceFile]:
    mixed = list(files)
    random.Random(7).shuffle(mixed)
    return mixed


def in_steps(count: int, step: float = SPACING) -> list[float]:
    return [(number - (count - 1) / 2) * step for number in range(count)]


def test_classic_slices(tmp_path: Path) -> None:
    stack = slice_stack(shuffled(write_ct(tmp_path, axial_planes(20))))
    assert heights(stack) == pytest.approx(in_steps(20), abs=2.0)
    assert (stack.complete, stack.problems, stack.spacing_mm, stack.taken) == (True, (), SPACING, ())


@pytest.mark.parametrize("position", COSINES)
def test_a_prone_or_feet_first_patient_is_ordered_towards_the_head(tmp_path: Path, position: str) -> None:
    planes = axial_planes(12, orientation=COSINES[position])
    stack = slice_stack(shuffled(write_ct(tmp_path, planes, PatientPosition=position)))
    assert heights(stack) == pytest.approx(in_steps(12), abs=2.0)
    assert (stack.complete, stack.orientation, stack.problems) == (True, "axial", ())


def test_a_tilted_gantry_is_ordered_and_said(tmp_path: Path) -> None:
    stack = slice_stack(shuffled(write_ct(tmp_path, axial_planes(12, tilt_degrees=14))))
    # The rod lies 20 mm in front of the slice's middle, which the tilt brings lower.
    lower = [height - 20 * np.tan(np.radians(14)) for height in in_steps(12)]
    assert heights(stack) == pytest.approx(lower, abs=2.5)
    assert stack.tilt_degrees == pytest.approx(14, abs=0.1)
    assert stack.problems == ("gantry tilt of 14.0 degrees: the slices are shown as acquired, not straightened",)


def test_a_gap_is_said_where_it_is(tmp_path: Path) -> None:
    planes = axial_planes(20)
    stack = slice_stack(shuffled(write_ct(tmp_path, planes[:7] + planes[8:])))
    assert stack.problems == ("gap of 10.0 mm after slice 7 (expected 5.0 mm)",)
    assert not stack.complete
    assert heights(stack) == pytest.approx([h for n, h in enumerate(in_steps(20)) if n != 7], abs=2.0)


def test_of_two_kernels_the_soft_one_is_taken(tmp_path: Path) -> None:
    sharp = write_ct(tmp_path, axial_planes(20), ConvolutionKernel="B70f")
    soft = write_ct(tmp_path, axial_planes(20), series="2", first_number=101, ConvolutionKernel="B30f")
    stack = slice_stack(shuffled([*sharp, *soft]))
    assert {shown.header.convolution_kernel for shown in stack.slices} == {"B30f"}
    assert stack.taken == (
        "2 stacks told apart by kernel (B70f: 20, B30f: 20): B30f taken, "
        "kernel B30f (soft tissue) against kernel B70f (sharp)",
    )
    assert stack.left_out == ("20 images of other kernel left out",)
    # The same moment, reconstructed twice: nothing is lost.
    assert (stack.complete, stack.problems) == (True, ())


def test_thin_slices_between_thick_ones_are_told_apart(tmp_path: Path) -> None:
    thick = write_ct(tmp_path, axial_planes(20), SliceThickness=5)
    thin = write_ct(tmp_path, axial_planes(157, 0.6), series="2", SliceThickness=0.6)
    stack = slice_stack(shuffled([*thick, *thin]))
    assert (len(stack.slices), stack.spacing_mm, stack.complete) == (20, 5.0, True)
    assert "told apart by slice thickness" in stack.taken[0]


def test_of_two_phases_the_portal_venous_one_is_taken_and_it_is_said(tmp_path: Path) -> None:
    files = [
        file
        for number, time in ((1, "100030"), (2, "100110"))
        for file in write_ct(
            tmp_path,
            axial_planes(20),
            series=str(number),
            first_number=100 * number,
            AcquisitionNumber=number,
            AcquisitionTime=time,
            ContrastBolusStartTime="100000",
        )
    ]
    stack = slice_stack(shuffled(files))
    assert {shown.header.acquisition_number for shown in stack.slices} == {2}
    assert stack.problems == (
        "the series holds 2 stacks told apart by acquisition number (1: 20, 2: 20): 2 taken, "
        "portal venous phase against other phase",
    )


def test_a_scanner_that_steps_has_one_stack(tmp_path: Path) -> None:
    planes = axial_planes(20)
    files = [
        file
        for step in range(5)
        for file in write_ct(
            tmp_path, planes[4 * step : 4 * step + 4], first_number=1 + 4 * step, AcquisitionNumber=step + 1
        )
    ]
    stack = slice_stack(shuffled(files))
    assert (len(stack.slices), stack.complete, stack.problems) == (20, True, ())


def test_slices_that_are_filled_in_later_are_one_stack(tmp_path: Path) -> None:
    planes = axial_planes(20)
    even = write_ct(tmp_path, planes[::2], AcquisitionNumber=1)
    odd = write_ct(tmp_path, planes[1::2], series="2", AcquisitionNumber=2)
    stack = slice_stack(shuffled([*even, *odd]))
    assert (len(stack.slices), stack.complete, stack.problems) == (20, True, ())


def test_localizers_pages_and_reformatted_images_are_left_out_by_name(tmp_path: Path) -> None:
    slices = write_ct(tmp_path, axial_planes(20))
    page = write_ct(tmp_path, axial_planes(1), series="2")[0]
    page = replace(page, header=replace(page.header, sop_class_uid=SecondaryCaptureImageStorage))
    others = [
        page,
        *write_ct(tmp_path, axial_planes(1), series="3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        *write_ct(tmp_path, axial_planes(2), series="4", ImageType=["DERIVED", "SECONDARY", "MPR"]),
        *write_ct(tmp_path, axial_planes(2), series="5", ImageType=["DERIVED", "SECONDARY", "PROJECTION IMAGE"]),
        *write_ct(tmp_path, axial_planes(2), series="6", ImageType=["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]),
    ]
    stack = slice_stack(shuffled([*slices, *others]))
    assert (len(stack.slices), stack.complete, stack.problems) == (20, True, ())
    assert stack.left_out == (
        "1 localizer left out",
        "3 dose or screen pages left out",
        "2 reformatted images (MPR) left out",
        "2 projections (MIP or rendering) left out",
    )


def test_reformatted_images_alone_are_a_stack(tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(12), ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    assert (len(slice_stack(files).slices), slice_stack(files).left_out) == (12, ())


@pytest.mark.parametrize("parts", [1, 3])
def test_an_enhanced_ct_is_a_stack_of_its_frames(tmp_path: Path, parts: int) -> None:
    planes = axial_planes(20)
    random.Random(3).shuffle(planes)
    stack = slice_stack(shuffled(write_enhanced_ct(tmp_path, planes, parts=parts)))
    assert heights(stack) == pytest.approx(in_steps(20), abs=2.0)
    assert (stack.complete, stack.problems, stack.orientation) == (True, (), "axial")
    assert len({shown.instance.path for shown in stack.slices}) == parts


def test_a_missing_part_of_a_concatenation_is_a_gap(tmp_path: Path) -> None:
    first, _, last = write_enhanced_ct(tmp_path, axial_planes(20), parts=3)
    assert "gap of 40.0 mm" in slice_stack([last, first]).problems[0]


def test_two_kernels_in_one_enhanced_ct_are_told_apart(tmp_path: Path) -> None:
    planes = [plane for plane in axial_planes(12) for _ in range(2)]
    files = write_enhanced_ct(tmp_path, planes, kernel_of=lambda frame: ("BONE", "STANDARD")[frame % 2])
    stack = slice_stack(files)
    assert [shown.frame for shown in stack.slices] == list(range(1, 24, 2))
    assert "kernel STANDARD (soft tissue) against kernel BONE (sharp)" in stack.taken[0]
    assert stack.complete


def test_an_enhanced_mr_of_several_times_gives_the_first(tmp_path: Path) -> None:
    stack = slice_stack([write_enhanced_mr(tmp_path, axial_planes(10), times=3)])
    assert [shown.frame for shown in stack.slices] == list(range(0, 30, 3))
    assert "told apart by temporal position (1: 10, 2: 10, 3: 10): 1 taken" in stack.problems[0]


@pytest.mark.filterwarnings("ignore")
def test_real_enhanced_images() -> None:
    """One has two frames 10 mm apart, the other no functional groups at all."""
    stacks = []
    for name in ("eCT_Supplemental.dcm", "emri_small.dcm"):
        path = Path(str(get_testdata_file(name)))
        stacks.append(slice_stack([InstanceFile(read_header(path), path)]))
    placed, unplaced = stacks
    assert (placed.spacing_mm, placed.orientation, [shown.frame for shown in placed.slices]) == (10.0, "axial", [0, 1])
    assert [shown.frame for shown in unplaced.slices] == list(range(10))
    assert unplaced.problems == ("no slice carries a position and orientation: ordered by InstanceNumber",)


def test_a_damaged_functional_group_is_said_and_not_raised(tmp_path: Path) -> None:
    (file,) = write_enhanced_ct(tmp_path, axial_planes(4))
    content = file.path.read_bytes()
    file.path.write_bytes(content.replace(b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00FD"))
    stack = slice_stack([file])
    assert not stack.complete
    assert any(file.header.sop_instance_uid in problem or "no slice carries" in problem for problem in stack.problems)
