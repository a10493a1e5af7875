"""Headers of enhanced multi-frame images: what routing needs is in the functional groups; the phantoms are valid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.completeness import is_complete_by_itself
from dicom_node.headers import InstanceFile, InstanceHeader, read_header
from dicom_node.regions import body_region
from dicom_node.volumes import slice_stack
from models.adapter import adapters
from tests.dicom_validators import dciodvfy
from tests.phantoms.ct import COSINES, ct_slice, write_ct
from tests.phantoms.enhanced import write_enhanced_ct, write_enhanced_mr, write_legacy_converted
from tests.phantoms.volume import axial_planes
from worker.routing import SeriesSummary, route


def test_the_phantoms_are_valid(tmp_path: Path) -> None:
    planes = axial_planes(6)
    files = [
        *write_enhanced_ct(tmp_path, planes),
        write_enhanced_mr(tmp_path, planes, times=2),
        *write_ct(tmp_path, axial_planes(2, tilt_degrees=12)),
        *write_ct(tmp_path, axial_planes(2, orientation=COSINES["FFP"]), series="2", PatientPosition="FFP"),
    ]
    verdicts = {file.path.name: dciodvfy(file.path) for file in files}
    assert {name: verdict.errors for name, verdict in verdicts.items() if verdict.errors} == {}


@pytest.mark.parametrize("region_in_frames", [False, True])
def test_what_routing_needs_is_found_in_the_functional_groups(tmp_path: Path, region_in_frames: bool) -> None:
    (file,) = write_enhanced_ct(tmp_path, axial_planes(6), region_in_frames=region_in_frames)
    region = body_region(file.header)
    assert (set(region.names), region.source) == ({"abdomen"}, "AnatomicRegionSequence")
    assert (file.header.convolution_kernel, file.header.slice_thickness) == ("B30f", 5.0)
    # Where one frame lies is not where the image lies.
    assert file.header.image_position_patient is None
    assert is_complete_by_itself(file.header)


def test_a_part_of_a_concatenation_is_not_complete_by_itself(tmp_path: Path) -> None:
    first, second = write_enhanced_ct(tmp_path, axial_planes(6), parts=2)
    assert dciodvfy(second.path).errors == ()
    assert first.header.concatenation_uid == second.header.concatenation_uid != ""
    assert not any(is_complete_by_itself(part.header) for part in (first, second))


def test_what_tells_acquisitions_apart_is_read(tmp_path: Path) -> None:
    file: InstanceFile = write_ct(
        tmp_path,
        axial_planes(1),
        AcquisitionNumber=3,
        AcquisitionDateTime="20260101101500.5+0100",
        ContrastBolusStartTime="101400",
        TemporalPositionIdentifier=2,
        EchoTime=90,
        DiffusionBValue=1000.0,
        MonoenergeticEnergyEquivalent=40.0,
    )[0]
    header = file.header
    assert (header.acquisition_number, header.temporal_position, header.echo_time) == (3, 2, 90.0)
    assert (header.acquisition_time, header.contrast_start_time) == ("101500.5", "101400")
    assert (header.diffusion_b_value, header.monoenergetic_kev) == (1000.0, 40.0)
    assert (header.reconstruction_diameter, header.convolution_kernel) == (256.0, "B30f")


def test_an_enhanced_ct_is_routed_by_its_frames(tmp_path: Path) -> None:
    whole, short = (write_enhanced_ct(tmp_path, axial_planes(count))[0].header for count in (12, 6))
    trauma = {"abdominal_trauma": adapters()["abdominal_trauma"]}
    assert route(SeriesSummary((whole,)), [], trauma).adapters == ("abdominal_trauma",)
    refused = route(SeriesSummary((short,)), [], trauma)
    assert refused.adapters == ()
    assert "6 frames in 1 instance, the adapter needs 10" in refused.reason


def test_an_item_is_found_wherever_it_begins(tmp_path: Path) -> None:
    """Headers are read 32 KiB at a time; an item may begin in the next part."""
    ds = ct_slice(axial_planes(1)[0], "1", 1)
    request = Dataset()
    request.RequestedProcedurePriority = "STAT"
    ds.RequestAttributesSequence = [request]
    ds.private_block(0x0031, "PHANTOM", create=True).add_new(1, "OB", b"")
    path = tmp_path / "one.dcm"

    def written(filler: int) -> bytes:
        ds[0x00311001].value = bytes(filler)
        ds.save_as(path, enforce_file_format=True)
        return path.read_bytes()

    plain = written(0)
    begin = plain.index(b"\x08\x00\x08\x00CS")  # ImageType, the first element of the data set
    item = plain.index(b"\xfe\xff\x00\xe0", plain.index(b"\x40\x00\x75\x02SQ")) - begin
    for bytes_before_the_end in range(0, 14, 2):
        written((1 << 15) - item - bytes_before_the_end)
        assert read_header(path).requested_procedure_priority == "STAT"


def test_an_image_of_a_thousand_frames_is_read(tmp_path: Path) -> None:
    (file,) = write_enhanced_ct(tmp_path, axial_planes(1000, 1.0))
    assert (file.header.number_of_frames, set(body_region(file.header).names)) == (1000, {"abdomen"})


@pytest.mark.parametrize(("modality", "adapter"), [("CT", "abdominal_trauma"), ("MR", "flare"), ("PT", "flare")])
def test_a_legacy_converted_series_is_taken_and_shown_like_the_slices_it_was_made_of(
    tmp_path: Path, modality: str, adapter: str
) -> None:
    file = write_legacy_converted(tmp_path, axial_planes(12), modality)
    assert dciodvfy(file.path).errors == ()
    assert is_complete_by_itself(file.header)
    assert set(body_region(file.header).names) == {"abdomen"}
    decision = route(SeriesSummary((file.header,)), [], adapters())
    assert decision.adapters == (adapter,)
    stack = slice_stack([file])
    assert (len(stack.slices), stack.complete, stack.problems) == (12, True, ())
    seen = adapters()[adapter].render([file])
    # Of a stack the middle is shown: with the rod where it is at that height.
    middle = {source.frame_numbers for source in seen.image_sources}
    assert (7,) in middle
    assert len({image.tobytes() for image in seen.images}) == len(seen.images)


def test_reformatted_and_projected_enhanced_images_are_told_by_their_frames(tmp_path: Path) -> None:
    for technique in ("MPR", "MAX_IP"):
        file = write_legacy_converted(tmp_path, axial_planes(12), "CT", technique=technique)
        decision = route(SeriesSummary((file.header,)), [], adapters())
        assert decision.adapters == ()
        assert f"image type {technique} is not accepted" in decision.reason


def test_the_last_frame_is_found_however_its_sequence_is_written(tmp_path: Path) -> None:
    (file,) = write_enhanced_ct(tmp_path, axial_planes(40))
    assert file.header.first_frame_position == axial_planes(40)[0].position
    assert file.header.last_frame_position == axial_planes(40)[-1].position
    ds = dcmread(file.path)
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    for frame in ds.PerFrameFunctionalGroupsSequence:
        frame.is_undefined_length_sequence_item = True
    ds.save_as(tmp_path / "undefined.dcm")
    assert read_header(tmp_path / "undefined.dcm") == file.header
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path / "deflated.dcm")
    again = read_header(tmp_path / "deflated.dcm")
    assert replace(again, transfer_syntax_uid=file.header.transfer_syntax_uid) == file.header
    assert InstanceHeader.from_json(json.loads(json.dumps(file.header.to_json()))) == file.header
