"""Body regions from headers as they are met in the field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.codes import Code
from dicom_node.headers import InstanceHeader
from dicom_node.regions import REGIONS, body_region, regions_in_text, regions_of_codes


def header(**attributes: object) -> InstanceHeader:
    return InstanceHeader("1.2", "1.3", "1.4", "1.5", "1.2.840.10008.1.2.1", **attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("ABDOMEN", "abdomen"),
        ("Abdomen^AbdRoutine", "abdomen"),
        ("AbdPel w contrast", "abdomen pelvis"),
        ("ABD/PEL", "abdomen pelvis"),
        ("ABDOMENPELVIS", "abdomen pelvis"),
        ("CHABPEL", "chest abdomen pelvis"),
        ("CHESTABDPELVIS", "chest abdomen pelvis"),
        ("NECKCHESTABDPELV", "neck chest abdomen pelvis"),
        ("TAP", "chest abdomen pelvis"),
        ("Trauma CAP", "chest abdomen pelvis"),
        ("thoraxabdomen", "chest abdomen"),
        ("CT Oberbauch nativ", "abdomen"),
        ("CT Schädel", "head"),
        ("Head^Routine", "head"),
        ("HEADNECK", "head neck"),
        ("CSPINE", "spine"),
        ("Thoracic spine", "spine"),
        ("LSSPINE", "spine"),
        ("Coronary LCA", "heart"),
        ("LOWER_EXTREMITY", "extremity"),
        ("LEG", "extremity"),
        ("Fundus OD", "eye"),
        ("Cataract right", "eye"),
        ("PHACO + IOL", "eye"),
        ("Katarakt-OP links", "eye"),
        ("WHOLEBODY", "whole_body"),
        ("whole body PET", "whole_body"),
        ("Polytrauma", "whole_body"),
        # These name no region, however much they look like it.
        ("BODY", ""),
        ("Body 1.0 soft", ""),
        ("AP portable", ""),
        ("CABG follow-up", ""),
        ("capture", ""),
        ("tape measure", ""),
        ("Head First Supine", ""),
        ("", ""),
    ],
)
def test_regions_in_text(text: str, regions: str) -> None:
    assert regions_in_text(text) == set(regions.split())


@pytest.mark.parametrize(
    ("code", "regions"),
    [
        (Code("818981001", "SCT", "Abdomen"), {"abdomen"}),
        (Code("T-D4000", "SRT", "Abdomen"), {"abdomen"}),
        (Code("T-D4000", "SNM3", "Abdomen"), {"abdomen"}),
        (Code("416319003", "SCT", "Neck, Chest, Abdomen and Pelvis"), {"neck", "chest", "abdomen", "pelvis"}),
        (Code("416152001", "SCT", "Neck, Chest and Abdomen"), {"neck", "chest", "abdomen"}),
        (Code("R-FAB57", "SRT", "Abdomen and Pelvis"), {"abdomen", "pelvis"}),
        (Code("T-AA610", "SRT", "Retina"), {"eye"}),
        (Code("31636006", "SCT", "Anterior chamber of eye"), {"eye"}),
        (Code("CTABDPE", "99HOSP", "CT Abdomen+Pelvis mit KM"), {"abdomen", "pelvis"}),
        # A local code that happens to have a SNOMED number is not that concept.
        (Code("10200004", "99HOSP", "Kopf"), {"head"}),
    ],
)
def test_regions_of_codes(code: Code, regions: set[str]) -> None:
    assert regions_of_codes([code]) == regions


def test_the_most_trusted_attribute_decides_and_is_named() -> None:
    found = body_region(
        header(anatomic_regions=(Code("T-D3000", "SRT", "Chest"),), body_part_examined="ABDOMEN", protocol_name="Head")
    )
    assert found.names == {"chest"}
    assert found.source == "AnatomicRegionSequence"
    assert "T-D3000" in found.value


@pytest.mark.parametrize(
    ("attributes", "source"),
    [
        ({"body_part_examined": "", "protocol_name": "AbdRoutine"}, "ProtocolName"),
        ({"body_part_examined": "UNKNOWN", "series_description": "Abdomen 5.0 B30f"}, "SeriesDescription"),
        ({"series_description": "5.0 B30f", "study_description": "CT Abdomen"}, "StudyDescription"),
        ({"procedure_codes": (Code("X", "L", "CT ABDOMEN"),)}, "ProcedureCodeSequence"),
    ],
)
def test_an_attribute_that_says_nothing_leaves_it_to_the_next(attributes: dict[str, object], source: str) -> None:
    found = body_region(header(**attributes))
    assert (found.names, found.source) == ({"abdomen"}, source)


def test_unknown_is_said_and_not_guessed() -> None:
    found = body_region(header(series_description="5.0 B30f", study_description="CT"))
    assert found.names == frozenset()
    assert "unknown" in str(found)


@given(st.text())
def test_any_text_gives_known_names_only(text: str) -> None:
    assert regions_in_text(text) <= REGIONS


@given(st.lists(st.sampled_from(["CHEST", "ABD", "PELVIS", "NECK", "HEAD"]), min_size=1, max_size=4), st.data())
def test_run_together_and_apart_mean_the_same(parts: list[str], data: st.DataObject) -> None:
    separator = data.draw(st.sampled_from(["/", " ", "_", "-", "+", ", "]))
    assert regions_in_text("".join(parts)) == regions_in_text(separator.join(parts))
