"""A data element as stored -> its text, whatever bytes it holds.

Input: a data set, read lazily. Output: values decoded by Specific Character Set (PS3.5 6.1). Nothing is converted that
could fail or warn: an unknown character set is read as ISO 8859-1, and odd bytes are replaced.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Any, Final

from pydicom.charset import decode_bytes, python_encoding
from pydicom.dataset import Dataset

#: After each of them the first character set is in force again (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = {ord(character) for character in "\r\n\f\\^="}


class StoredTexts:
    """The texts of one data set, decoded straight from the bytes as stored."""

    def __init__(self, ds: Dataset) -> None:
        self._ds = ds
        stored = self._raw("SpecificCharacterSet")
        terms = stored.decode("latin-1").strip(" \0").split("\\") if isinstance(stored, bytes) else _as_terms(stored)
        self.encodings = encodings_of(terms)

    def _raw(self, keyword: str) -> Any:
        element = self._ds.get_item(keyword)
        return None if element is None else element.value

    def of(self, keyword: str) -> str:
        """Return the value as text, values joined by backslashes; "" where it is absent."""
        value = self._raw(keyword)
        return text_of(value, self.encodings)


def text_of(value: Any, encodings: Sequence[str]) -> str:
    """Return an element value, as stored or as converted by pydicom, as text without padding."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return decoded(value, encodings).strip(" \0")
    values = value if isinstance(value, (MutableSequence, tuple)) else (value,)  # a PersonName iterates over letters
    return "\\".join(str(part) for part in values).strip(" \0")


def _as_terms(value: Any) -> list[str]:
    if value is None or isinstance(value, str):
        return [value or ""]
    return [str(term) for term in value]


def encodings_of(terms: Sequence[str]) -> list[str]:
    """Return Python's names for the terms of Specific Character Set (0008,0005) (PS3.3 C.12.1.1.2)."""
    return [python_encoding.get(term.strip(), "latin-1") for term in terms]


def decoded(value: bytes, encodings: Sequence[str]) -> str:
    """Return the text of stored bytes; what does not fit is replaced."""
    if b"\x1b" in value:
        try:
            return str(decode_bytes(value, list(encodings), _DELIMITERS))
        except (LookupError, ValueError, UserWarning):
            pass
    try:
        return value.decode(encodings[0], "replace")
    except LookupError:
        return value.decode("latin-1")
