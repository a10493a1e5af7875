"""Unique identifiers (PS3.5 9): checking those that come in, deriving those that go out.

Input: text from the network, or the facts that identify a result. Output: a verdict, or a UID that is the same for the
same facts on every machine. Nothing here fails on odd text: it is only called invalid.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import UUID

#: PS3.5 9.1: components of digits without leading zeros, separated by dots.
_STRICT: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", re.ASCII)
#: The same, except that components may begin with zeros, as some devices write them.
_LENIENT: Final = re.compile(r"[0-9]+(\.[0-9]+)+", re.ASCII)
_MAX_LENGTH: Final = 64

#: Identifies this implementation in negotiation and in File Meta Information (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID: Final = "2.25.78074664324623722631509581014259156551"
#: At most 16 characters. It carries no release number: it goes into every stored file, and the same instance must have
#: the same digest before and after an upgrade.
IMPLEMENTATION_VERSION_NAME: Final = "DICOM_WORKER_1"


def is_valid_uid(text: str) -> bool:
    """Whether `text` is a UID as PS3.5 9.1 demands it: what we write must pass this."""
    return len(text) <= _MAX_LENGTH and _STRICT.fullmatch(text) is not None


def is_acceptable_uid(text: str) -> bool:
    """Whether `text` can be taken as a UID from others: as `is_valid_uid`, but components may have leading zeros.

    Devices in the field write such UIDs, and they are the only name their images have: refusing them would help no one.
    """
    return len(text) <= _MAX_LENGTH and _LENIENT.fullmatch(text) is not None


def derive_uid(*parts: str) -> str:
    """Derive ``2.25.<number>`` (PS3.5 B.2) from `parts`: the same parts always give the same UID.

    The number is a version 8 UUID (RFC 9562 5.8) made of the SHA-256 of the parts. Each part goes in with its length
    before it, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    number = bytearray(digest.digest()[:16])
    number[6] = (number[6] & 0x0F) | 0x80
    number[8] = (number[8] & 0x3F) | 0x80
    return f"2.25.{UUID(bytes=bytes(number)).int}"
