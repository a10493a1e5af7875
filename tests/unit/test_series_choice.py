"""Which series of a study shows soft tissue best, and why, in words that a radiographer would use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.headers import InstanceHeader
from dicom_node.preference import phase_of_texts, phase_of_times
from dicom_node.series_choice import covers, rank_series, set_aside
from dicom_node.volumes import slice_stack
from models.adapter import adapters
from tests.phantoms.ct import write_ct
from tests.phantoms.enhanced import write_enhanced_ct
from tests.phantoms.volume import axial_planes
from worker.routing import SeriesSummary, route
from worker.series_preference import best_series_only
from worker.settings import RouteRule

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def series(number: int, *, count: int = 40, spacing: float = 5.0, **attributes: object) -> list[InstanceHeader]:
    usual: dict[str, object] = {
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "rows": 512,
        "columns": 512,
        "series_number": number,
        "convolution_kernel": "B30f",
        "slice_thickness": spacing,
        "image_orientation_patient": AXIAL,
        **attributes,
    }
    one = InstanceHeader("1.2.840.10008.5.1.4.1.1.2", "1", "1.4", f"1.5.{number}", "1.2.840.10008.1.2.1", **usual)  # type: ignore[arg-type]
    across = 1 if usual["image_orientation_patient"] == CORONAL else 2
    headers = []
    for index in range(count):
        position = [0.0, 0.0, 0.0]
        position[across] = index * spacing
        headers.append(
            replace(
                one,
                sop_instance_uid=f"1.3.{number}.{index}",
                instance_number=index + 1,
                image_position_patient=(position[0], position[1], position[2]),
            )
        )
    return headers


def ranked(*all_series: list[InstanceHeader]) -> list[tuple[int, str]]:
    found = rank_series({headers[0].series_instance_uid: headers for headers in all_series})
    return [(int(one.series_instance_uid.rpartition(".")[2]), one.beaten_by) for one in found]


GOOD = series(4)


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (series(2, convolution_kernel="B70f"), "kernel B30f (soft tissue) against kernel B70f (sharp)"),
        (series(2, convolution_kernel="ODD"), "kernel B30f (soft tissue) against kernel ODD"),
        (series(2, count=400, spacing=0.5), "5.0 mm against 0.5 mm"),
        (series(2, count=20, spacing=10.0), "5.0 mm against 10.0 mm"),
        (series(2, count=20), "195 mm covered against 95 mm covered"),
        (series(2, image_orientation_patient=CORONAL), "axial slices against coronal slices"),
        (series(2, image_type=("DERIVED", "SECONDARY", "MPR")), "original images against derived images"),
        (series(2)[:15] + series(2)[18:], "no gaps against gaps"),
        (series(2, series_description="Abdomen nativ 5.0 B30f"), "unknown phase against native phase"),
        (series(2, monoenergetic_kev=40.0), "usual energy against 40 keV"),
        (series(5), "number 4 against number 5"),
    ],
)
def test_the_better_series_comes_first_and_it_is_said_why(worse: list[InstanceHeader], reason: str) -> None:
    (first, nothing), (second, why) = ranked(worse, GOOD)
    assert (first, nothing) == (4, "")
    assert second == worse[0].series_number
    assert why == f"series 4 (5.0 mm, B30f) is preferred because of {reason}"


def test_the_portal_venous_phase_is_preferred() -> None:
    arterial = series(2, series_description="Abdomen art 5.0 B30f")
    portal = series(3, series_description="Abdomen PV 5.0 B30f")
    assert [number for number, _ in ranked(arterial, portal, GOOD)] == [3, 2, 4]


def test_more_slices_of_the_same_kind_are_preferred() -> None:
    assert ranked(series(2, count=100, spacing=2.0), GOOD)[0][0] == 2


@given(
    st.permutations([GOOD, series(2, convolution_kernel="LUNG"), series(3, count=20), series(6), series(7, count=2)])
)
def test_the_order_of_arrival_does_not_matter(arrived: list[list[InstanceHeader]]) -> None:
    assert [number for number, _ in ranked(*arrived)] == [4, 6, 2, 3, 7]


def test_an_enhanced_series_is_ranked_by_its_frames(tmp_path: Path) -> None:
    (file,) = write_enhanced_ct(tmp_path, axial_planes(60, 4.0))
    both = {file.header.series_instance_uid: [file.header], "1.5.4": GOOD}
    by_headers = rank_series(both)
    read = rank_series(both, {file.header.series_instance_uid: slice_stack([file])})
    assert [one.candidate.slices for one in by_headers] == [one.candidate.slices for one in read] == [60, 40]
    assert read[0].candidate.extent_mm == 236.0
    assert json.loads(json.dumps([one.to_json() for one in read]))[1]["beaten_by"] == read[1].beaten_by != ""


def test_an_enhanced_series_is_set_aside_where_a_better_one_shows_the_same(tmp_path: Path) -> None:
    soft = [file.header for file in write_ct(tmp_path, axial_planes(40), series="4")]
    sharp = [part.header for part in write_enhanced_ct(tmp_path, axial_planes(40), parts=2, kernel_of=lambda _: "B70f")]
    lower = [
        replace(header, series_instance_uid="1.9", image_position_patient=(x, y, z - 150.0))
        for header in soft
        if header.image_position_patient
        for x, y, z in [header.image_position_patient]
    ]
    reasons = set_aside({"1.4": soft, "1.7": sharp})
    assert list(reasons) == ["1.7"] and "kernel B70f (sharp)" in reasons["1.7"]
    assert set_aside({"1.7": sharp, "1.9": lower}) == {}
    # Where its header does not tell where it lies, it is asked too.
    nowhere = [replace(header, last_frame_position=None) for header in sharp]
    assert set_aside({"1.4": soft, "1.7": nowhere}) == {}


@pytest.mark.parametrize(
    ("worse", "shown"),
    [
        (series(2, frame_of_reference_uid="1.9"), True),
        (series(2, frame_of_reference_uid="1.9", count=60), False),
        (series(2, frame_of_reference_uid="1.9", image_orientation_patient=CORONAL), True),
        (series(2, frame_of_reference_uid="1.8"), False),
        (series(2), False),
        ([replace(GOOD[0], frame_of_reference_uid="1.9", number_of_frames=40, image_position_patient=None)], False),
    ],
)
def test_whether_one_series_shows_what_another_does(worse: list[InstanceHeader], shown: bool) -> None:
    assert covers(series(4, frame_of_reference_uid="1.9"), worse) is shown


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("Abdomen PV 5.0 B30f", "portal venous"),
        ("AbdPortVen 3mm", "portal venous"),
        ("venous phase", "portal venous"),
        ("CT ABD W/O CONTRAST", "native"),
        ("non-contrast", "native"),
        ("Thorax-Abdomen art.", "other"),
        ("delayed 5 min", "other"),
        ("Abdomen 5.0", ""),
        ("Ventricle", ""),
    ],
)
def test_the_phase_that_a_description_names(text: str, phase: str) -> None:
    assert phase_of_texts(text) == phase


@pytest.mark.parametrize(
    ("start", "acquired", "phase"),
    [
        ("100000", "100110.5", "portal venous"),
        ("100000", "100030", "other"),
        ("100000", "100500", "other"),
        ("100000", "090000", ""),
        ("", "100000", ""),
        ("10:00:00", "10:01:00", "portal venous"),
    ],
)
def test_the_phase_by_time(start: str, acquired: str, phase: str) -> None:
    assert phase_of_times(start, acquired) == phase


def test_routing_asks_about_the_best_series_and_what_a_site_rule_names() -> None:
    common: dict[str, Any] = {
        "frame_of_reference_uid": "1.9",
        "body_part_examined": "ABDOMEN",
        "patient_age_years": 40.0,
    }
    lung = series(2, convolution_kernel="B70f", series_description="lung", **common)
    summaries = [
        SeriesSummary(tuple(one)) for one in (lung, series(4, **common), series(6, slice_thickness=9, **common))
    ]
    trauma = {"abdominal_trauma": adapters()["abdominal_trauma"]}

    def rules(*site: RouteRule) -> list[tuple[str, int]]:
        found = best_series_only([(one, route(one, site, trauma)) for one in summaries], trauma)
        return [(decision.rule, len(decision.assignments)) for decision in found]

    taken, other = ("adapter: abdominal_trauma", 1), ("preferred series", 0)
    assert rules() == [other, taken, other]
    by_site = RouteRule(name="lungs too", when={"series_description": "lung"}, adapter="abdominal_trauma")
    assert rules(by_site) == [("site rule: lungs too", 1), taken, other]
