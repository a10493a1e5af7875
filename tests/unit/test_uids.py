"""UIDs: what is one, what is taken from others, and what is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_node.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derive_uid,
    is_acceptable_uid,
    is_valid_uid,
)


@pytest.mark.parametrize("text", ["1.2.840.10008.1.1", "0.0", "2.25." + "9" * 38, "1.2." + "3" * 60])
def test_valid(text: str) -> None:
    assert is_valid_uid(text)
    assert is_acceptable_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ".",
        "1.",
        ".1",
        "1..2",
        "1.2.a",
        "1.2 ",
        "1.2\n",
        "../1.2",
        "1.2/3",
        "1.2\0",
        "\u0661.\u0662",
        "1.2." + "3" * 61,
    ],
)
def test_invalid(text: str) -> None:
    assert not is_valid_uid(text)
    assert not is_acceptable_uid(text)


def test_leading_zeros_are_taken_from_others_but_never_written() -> None:
    assert is_acceptable_uid("1.2.03.4")
    assert not is_valid_uid("1.2.03.4")


@given(st.text())
def test_verdict_agrees_with_pydicom(text: str) -> None:
    assert not is_valid_uid(text) or UID(text).is_valid


@given(st.lists(st.text(), max_size=5), st.lists(st.text(), max_size=5))
def test_derived_uids_are_valid_and_differ_where_the_parts_do(one: list[str], other: list[str]) -> None:
    assert is_valid_uid(derive_uid(*one))
    assert (derive_uid(*one) == derive_uid(*other)) == (one == other)


def test_derived_uid_stays_the_same_from_release_to_release() -> None:
    assert derive_uid("instance", "1.2.3") == "2.25.55617606913815607709663856298323019994"


def test_our_own_names_are_valid() -> None:
    assert is_valid_uid(IMPLEMENTATION_CLASS_UID)
    assert 1 <= len(IMPLEMENTATION_VERSION_NAME) <= 16
