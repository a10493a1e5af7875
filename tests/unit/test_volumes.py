"""Slices into a stack: the right order, and everything that is wrong with it in words."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.volumes import geometry, slice_stack

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def ct_slice(number: int, z: float, **attributes: object) -> InstanceHeader:
    values: dict[str, object] = {
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "rows": 512,
        "columns": 512,
        "frame_of_reference_uid": "1.9",
        "instance_number": number,
        "image_position_patient": (-200.0, -200.0, z),
        "image_orientation_patient": AXIAL,
        **attributes,
    }
    return InstanceHeader("1.2.840.10008.5.1.4.1.1.2", f"1.3.{number}", "1.4", "1.5", "1.2.840.10008.1.2.1", **values)  # type: ignore[arg-type]


def series(count: int = 20, spacing: float = 5.0) -> list[InstanceHeader]:
    """Head first, as most scanners number them."""
    return [ct_slice(number, 300.0 - spacing * number) for number in range(1, count + 1)]


def files(headers: list[InstanceHeader]) -> list[InstanceFile]:
    return [InstanceFile(header, Path(header.sop_instance_uid)) for header in headers]


@given(st.permutations(series(12)))
def test_any_order_of_arrival_gives_one_order_towards_the_head(arrived: list[InstanceHeader]) -> None:
    stack = slice_stack(files(arrived))
    assert [entry.header.instance_number for entry in stack.slices] == list(range(12, 0, -1))
    assert (stack.complete, stack.problems, stack.left_out) == (True, (), ())
    assert (stack.spacing_mm, stack.orientation) == (5.0, "axial")
    assert {shown.frame for shown in stack.slices} == {0}
    assert list(stack.positions_mm) == sorted(stack.positions_mm)


@given(st.integers(3, 60), st.floats(0.5, 10), st.floats(-30, 30), st.floats(-30, 30), st.data())
def test_any_regular_stack_is_complete_however_it_lies(
    count: int, spacing: float, turn_x: float, turn_y: float, data: st.DataObject
) -> None:
    a, b = math.radians(turn_x), math.radians(turn_y)
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    turned = about_y @ about_x
    orientation = tuple(np.round(np.concatenate([turned[:, 0], turned[:, 1]]), 6))
    headers = [
        ct_slice(
            number,
            0,
            image_position_patient=tuple(np.round(turned[:, 2] * spacing * number, 3)),
            image_orientation_patient=orientation,
        )
        for number in range(count)
    ]
    assert geometry(headers).complete
    if count > 4:  # of four slices without one, no one can tell which distance is the usual one
        missing = data.draw(st.integers(1, count - 2))
        without = geometry([header for header in headers if header.instance_number != missing])
        assert not without.complete
        assert without.slices == count - 1
        assert any("gap of" in problem for problem in without.problems)


def test_a_missing_slice_is_a_gap_and_is_said_where() -> None:
    headers = series()
    found = geometry(headers[:7] + headers[8:])
    assert not found.complete
    # Slice 1 is the lowest: the missing eighth from the top lies above the twelfth from below.
    assert found.problems == ("gap of 10.0 mm after slice 12 (expected 5.0 mm)",)


@given(st.data(), st.floats(0, 30), st.booleans())
def test_any_order_of_a_mixed_series_gives_one_stack(data: st.DataObject, tilt_degrees: float, doubled: bool) -> None:
    tilt = math.radians(tilt_degrees)
    tilted = (1.0, 0.0, 0.0, 0.0, round(math.cos(tilt), 6), round(math.sin(tilt), 6))
    soft = [replace(header, image_orientation_patient=tilted, convolution_kernel="STANDARD") for header in series(10)]
    sharp = [
        replace(header, sop_instance_uid=f"{header.sop_instance_uid}.9", convolution_kernel="LUNG") for header in soft
    ]
    topogram = ct_slice(99, 0.0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), image_orientation_patient=CORONAL)
    arrived = data.draw(st.permutations([*soft, *sharp, topogram, *(soft[:3] if doubled else ())]))
    stack = slice_stack(files(arrived))
    assert [shown.header for shown in stack.slices] == soft[::-1]
    assert stack.complete
    assert stack.tilt_degrees == pytest.approx(tilt_degrees, abs=0.02)
    assert bool(stack.problems) == (stack.tilt_degrees > 0.5)
    assert len(stack.left_out) == 2 + doubled


def test_many_gaps_are_counted_and_not_listed_without_end() -> None:
    headers = [header for index, header in enumerate(series(60)) if index % 5 != 2]
    found = geometry(headers)
    assert sum("gap of" in problem for problem in found.problems) == 5
    assert any("more gaps" in problem for problem in found.problems)


@pytest.mark.parametrize(("count", "complete"), [(0, False), (1, False), (2, False), (3, True)])
def test_three_slices_are_the_least(count: int, complete: bool) -> None:
    assert geometry(series(count)).complete is complete


def test_localizers_are_left_out_and_no_problem() -> None:
    topogram = ct_slice(
        99, 0.0, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"), image_orientation_patient=CORONAL, instance_number=0
    )
    stack = slice_stack(files([topogram, *series()]))
    assert (len(stack.slices), stack.complete, stack.problems) == (20, True, ())
    assert stack.left_out == ("1 localizer left out",)


def test_the_same_image_twice_is_no_problem() -> None:
    stack = slice_stack(files([*series(), series()[3]]))
    assert (len(stack.slices), stack.complete, stack.problems) == (20, True, ())
    assert stack.left_out == ("1 duplicate left out",)


def test_two_phases_in_one_series_are_said_and_the_first_is_used() -> None:
    second = [
        replace(header, sop_instance_uid=f"1.77.{index}", instance_number=100 + index)
        for index, header in enumerate(series())
    ]
    stack = slice_stack(files([*second, *series()]))
    assert len(stack.slices) == 20
    assert max(entry.header.instance_number or 0 for entry in stack.slices) == 20
    assert "20 further images at positions already taken" in stack.problems[0]


def test_mixed_orientations_keep_the_largest_group() -> None:
    reformatted = [
        ct_slice(200 + number, 0, image_orientation_patient=CORONAL, image_position_patient=(0, 5.0 * number, 0))
        for number in range(6)
    ]
    stack = slice_stack(files([*reformatted, *series()]))
    assert (len(stack.slices), stack.orientation) == (20, "axial")
    assert "mixed orientation: 6 slices in 1 other plane" in stack.problems


def test_slices_of_another_matrix_are_left_out() -> None:
    odd = replace(series()[19], rows=256, columns=256)
    stack = slice_stack(files([*series()[:19], odd]))
    assert len(stack.slices) == 19
    assert stack.problems == ("mixed matrix size or frame of reference in the series",)
    assert stack.left_out == ("1 slice of other matrix size or frame of reference left out",)


def test_gantry_tilt_is_measured() -> None:
    tilt = math.radians(15)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(tilt), math.sin(tilt))
    headers = [replace(header, image_orientation_patient=orientation) for header in series()]
    stack = slice_stack(files(headers))
    assert stack.tilt_degrees == pytest.approx(15, abs=0.1)
    assert "gantry tilt of 15.0 degrees" in stack.problems[0]


def test_mixed_spacing_is_said() -> None:
    positions = [0, 5, 10, 15, 18, 21, 24, 29]
    found = geometry([ct_slice(number, z) for number, z in enumerate(positions)])
    assert not found.complete
    assert found.problems == ("mixed spacing: 3.0 to 5.0 mm between slices",)


def test_rounded_positions_are_still_regular() -> None:
    found = geometry([ct_slice(number, round(number * 0.625, 1)) for number in range(200)])
    assert found.complete
    assert found.problems == ()


def test_without_geometry_the_instance_number_orders_and_it_is_said() -> None:
    headers = [
        replace(header, image_position_patient=None, image_orientation_patient=None) for header in reversed(series())
    ]
    stack = slice_stack(files(headers))
    assert [entry.header.instance_number for entry in stack.slices] == list(range(1, 21))
    assert not stack.complete
    assert "ordered by InstanceNumber" in stack.problems[0]
    assert not geometry(headers).complete


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 0), (math.nan, 0, 0, 0, 1, 0), (2, 0, 0, 0, 1, 0)]
)
def test_a_slice_of_impossible_orientation_is_left_out_and_said(orientation: tuple[float, ...]) -> None:
    headers = series()
    headers[19] = replace(headers[19], image_orientation_patient=orientation)  # type: ignore[arg-type]
    found = geometry(headers)
    assert (found.slices, found.complete) == (19, False)
    assert found.problems == ("1 slice without position or orientation left out",)


def test_a_thousand_slices_are_quick() -> None:
    assert geometry(series(1500, 0.6)).complete
