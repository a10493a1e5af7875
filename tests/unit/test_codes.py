"""Every coded concept the project writes is in a published dictionary with that meaning, or is declared private."""

from __future__ import annotations

import re

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes as published

from dicom_node import codes
from dicom_node.codes import PRIVATE_SCHEME, Code

CONSTANTS = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}
#: In PS3.16 (TID 1500 row 12), though not in pydicom's dictionary.
ONLY_IN_PART_16 = {"QUALITATIVE_EVALUATIONS"}
PUBLISHED = {name: code for name, code in CONSTANTS.items() if code.scheme != PRIVATE_SCHEME}


def _published_meanings(code: Code) -> set[str]:
    return {found[code.value][0] for found in concepts[code.scheme].values() if code.value in found}


def _plain(meaning: str) -> str:
    return re.sub(r" \([a-z ]+\)$", "", meaning).casefold()


@pytest.mark.parametrize("name", sorted(PUBLISHED.keys() - ONLY_IN_PART_16))
def test_published_code_has_the_published_meaning(name: str) -> None:
    code = PUBLISHED[name]
    assert code.scheme in published.schemes()
    assert _plain(code.meaning) in {_plain(meaning) for meaning in _published_meanings(code)}


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_code_fits_its_value_representations(name: str) -> None:
    code = CONSTANTS[name]
    assert 0 < len(code.value) <= 16  # SH
    assert 0 < len(code.scheme) <= 16  # SH
    assert 0 < len(code.meaning) <= 64  # LO


def test_no_two_constants_share_a_code() -> None:
    keys = [(code.scheme, code.value) for code in CONSTANTS.values()]
    assert len(keys) == len(set(keys))


def test_private_scheme_is_marked_private() -> None:
    assert PRIVATE_SCHEME.startswith("99")


def test_codes_that_mean_something_else_are_not_used() -> None:
    """111428 (breast) and 113568 (adverse event) are no extravasation in trauma; 1386000 is a haemorrhage."""
    assert not {"111428", "113568", "1386000"} & {code.value for code in CONSTANTS.values()}
