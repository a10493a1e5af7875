"""What is wrong with settings, in words: pydantic's errors in, lines that name the setting and the remedy out. Pure."""

from __future__ import annotations

from reprlib import Repr
from typing import Any, Final

from pydantic import BaseModel, ValidationError

#: Settings whose values are never repeated.
SECRETS: Final = frozenset({"api_key", "client_secret", "token", "password", "secret"})
#: Says what was given; not all of it where that is long.
_QUOTED: Final = Repr()
_QUOTED.maxstring = _QUOTED.maxother = _QUOTED.maxlong = 200
_QUOTED.maxlist = _QUOTED.maxdict = 8


def mistakes_in_words(error: ValidationError) -> list[str]:
    """Return one line for each mistake."""
    return [": ".join(filter(None, (_dotted(found), _in_words(found)))) for found in error.errors()]


def _dotted(error: Any) -> str:
    place = error["loc"]
    if place[:1] == ("destinations",):
        place = (*place[:2], *place[3:])  # pydantic puts the kind of the destination between
    return ".".join(str(part) for part in place)


def _in_words(error: Any) -> str:
    place, message = error["loc"], str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return "unknown setting"
    # Nothing is said of several settings together, which the message names, nor of a section, which may hold secrets.
    if not place or isinstance(error["input"], dict | BaseModel) or place[-1] in SECRETS:
        return message
    return f"{message} (got {_QUOTED.repr(error['input'])})"
