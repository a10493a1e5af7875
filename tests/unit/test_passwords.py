"""Which passwords are good enough, and how they are kept."""

from __future__ import annotations

import pytest

from worker.people.passwords import PasswordError, check_new, fits, hashed, one_time_password

ABOUT = ("curie", "Curie^Marie", "General Hospital")


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("fourteen chars", "15 characters or more"),
        ("abababababababababab", "repeats"),
        ("passwordpassword", "guessed first"),
        ("Curie^Marie2026", "guessed first"),
        ("qwertyuiopasdfghjkl", "guessed first"),
        ("x" * 300 + "abcdefg", "256 characters at most"),
    ],
)
def test_what_would_be_guessed_first_is_refused(password: str, reason: str) -> None:
    with pytest.raises(PasswordError, match=reason):
        check_new(password, 15, ABOUT)


@pytest.mark.parametrize(
    "password",
    ["correct horse battery staple", "ein langer Satz ohne Zahl", "пароль из пяти слов", one_time_password()],
)
def test_length_is_enough(password: str) -> None:
    check_new(password, 15, ABOUT)


def test_a_hash_fits_its_password_however_the_keyboard_writes_it() -> None:
    kept = hashed("Stra\u00dfenb\u00e4hn am Morgen")
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert fits(kept, "Stra\u00dfenba\u0308hn am Morgen")
    assert not fits(kept, "Strassenbahn am Morgen")
    assert not fits("", "")
    assert not fits("no hash at all", "x")
