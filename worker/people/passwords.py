"""Passwords: which are good enough, and how they are kept.

Input: what a person types. Output: an Argon2id hash (RFC 9106), or whether one fits. What is not good enough raises
`PasswordError` in words. Length counts and nothing else is prescribed (NIST SP 800-63B-4, 3.1.1.2): no mixture of
characters, no change without a reason; refused are only passwords that are the first to be guessed.
"""

from __future__ import annotations

import secrets
import threading
import unicodedata
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argon2 import PasswordHasher

#: More than anybody types; what is longer would only keep the processor busy.
LONGEST: Final = 256
#: Fewer different characters than this make no password, however long: aaaa..., 1212...
FEWEST_CHARACTERS: Final = 5
#: Without those that look alike.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_ROWS: Final = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm")
_GUESSED_FIRST: Final = ("password", "passwort", "letmein", "welcome", "dicomworker", "administrator", "radiology")


@dataclass(frozen=True, slots=True)
class Costs:
    """What one hash costs whoever computes it: the second recommendation of RFC 9106, 4."""

    passes: int = 3
    memory_kib: int = 65536
    lanes: int = 4


costs = Costs()
#: Each hash takes 64 MiB; more at once would let log-ins crowd out the models.
_turns = threading.BoundedSemaphore(2)


class PasswordError(Exception):
    """The password cannot be taken; the message says why."""


def check_new(password: str, shortest: int, about: Iterable[str] = ()) -> None:
    """Check a password that somebody chooses.

    Args:
        password: As typed.
        shortest: Fewest characters.
        about: Login, names and the like, which must not make up the whole of it.

    Raises:
        PasswordError: It is too short, too long, or among the first to be guessed.
    """
    text = _normal(password)
    if len(text) < shortest:
        raise PasswordError(f"a password has {shortest} characters or more; several words in a row are easy to keep")
    if len(text) > LONGEST:
        raise PasswordError(f"a password has {LONGEST} characters at most")
    if len(set(text.casefold())) < FEWEST_CHARACTERS:
        raise PasswordError("this password repeats a few characters; it would be guessed first")
    left = _without(text.casefold(), (*_GUESSED_FIRST, *(word.casefold() for word in about if len(word) > 2)))
    if len(left) < shortest // 3:
        raise PasswordError("this password is made of names, common words or rows of keys; it would be guessed first")


def one_time_password() -> str:
    """Return a password that can be read off a screen and typed, of about 79 bits."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(4)) for _ in range(4))


def hashed(password: str) -> str:
    """Return the hash of a password, in PHC format with its salt and costs."""
    with _turns:
        return _hasher().hash(_normal(password))


def fits(password_hash: str, password: str) -> bool:
    """Return whether a password is the one that was hashed; takes as long where there is no hash."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _turns:
        try:
            _hasher().verify(password_hash or _nobodys(), _normal(password)[: 2 * LONGEST])
        except (VerificationError, InvalidHashError):
            return False
    return bool(password_hash)


def is_outdated(password_hash: str) -> bool:
    """Return whether the hash was made with other costs than today's."""
    return _hasher().check_needs_rehash(password_hash)


def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(costs.passes, costs.memory_kib, costs.lanes)


def _nobodys() -> str:
    """A hash to compare with where there is no such user, so that the answer takes as long."""
    hasher = _hasher()
    salt, digest = (b64encode(secrets.token_bytes(n)).decode().rstrip("=") for n in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"


def _normal(password: str) -> str:
    """One form of what keyboards write in several (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def _without(text: str, words: Iterable[str]) -> str:
    """Take names, common words, and runs of four or more along a row of keys out of a text."""
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "")
    for row in (*_ROWS, *(row[::-1] for row in _ROWS)):
        for length in range(len(row), 3, -1):
            for start in range(len(row) - length + 1):
                text = text.replace(row[start : start + length], "")
    return text
