"""DIMSE statuses: their class, their name, and whether sending again can help."""

from __future__ import annotations

import pytest
from pynetdicom.status import code_to_category

from dicom_node import status
from dicom_node.status import Outcome, StatusClass, status_class, status_name, store_outcome


def test_class_agrees_with_pynetdicom() -> None:
    for code in (*range(0x0220), *range(0xA700, 0xA720), 0xA900, 0xB000, 0xB006, 0xC000, 0xFE00):
        theirs = code_to_category(code)
        assert theirs == "Unknown" or status_class(code) == theirs.lower(), f"0x{code:04X}"


def test_every_number_has_a_class_a_name_and_an_outcome() -> None:
    for code in range(0x10000):
        assert isinstance(status_class(code), StatusClass)
        assert status_name(code)
        assert isinstance(store_outcome(code), Outcome)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (0x0000, Outcome.DELIVERED),
        (0xB000, Outcome.WARNING),
        (0xB007, Outcome.WARNING),
        (0x0111, Outcome.WARNING),  # it has the object: its answer to the first try was lost
        (0xA700, Outcome.TRANSIENT),
        (0xA702, Outcome.TRANSIENT),
        (0x0110, Outcome.TRANSIENT),
        (0xA900, Outcome.PERMANENT),
        (0xC123, Outcome.PERMANENT),
        (0x0122, Outcome.PERMANENT),
        (0x0124, Outcome.PERMANENT),
        (0x1234, Outcome.PERMANENT),
    ],
)
def test_outcome_of_a_store(code: int, outcome: Outcome) -> None:
    assert store_outcome(code) is outcome


def test_our_own_codes_are_in_the_storage_service_s_ranges() -> None:
    for code in (status.CANNOT_UNDERSTAND, status.MISSING_IDENTIFIER, status.INVALID_IDENTIFIER):
        assert 0xC000 <= code <= 0xCFFF
        assert status_name(code).startswith("cannot understand")
