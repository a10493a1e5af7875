"""What destinations of every kind have in common, and the types that their settings are made of.

Input: the values of a settings file. Output: frozen sections; each kind of destination is a subclass
(`worker.delivery_settings`). A wrong value raises pydantic's `ValidationError`, which `worker.settings.load_settings`
puts in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from worker.engine_settings import Section


def _ae_title(text: str) -> str:
    """Validate an AE title (PS3.5 6.2, VR AE): 1 to 16 printable ASCII characters without backslash."""
    if not 1 <= len(text.strip()) <= 16 or "\\" in text or not (text.isascii() and text.isprintable()):
        raise ValueError(f"{text!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash")
    return text.strip()


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class DestinationConditions(Section):
    """Which results a destination gets; all that are given must match, and of each list one."""

    adapters: list[str] = Field([], description="adapters whose results it gets; empty means all")
    decisions: list[Literal["release", "accept", "edit", "reject"]] = Field(
        [],
        description="release: sent without a person; accept, edit, reject: what a person decided; empty means all",
    )
    calling_ae_titles: list[AeTitle] = Field([], description="AE titles that sent the images; empty means all")


class DestinationBase(Section):
    """A system that results are sent to. Each kind adds its address, and says in `results` what it can be sent."""

    #: Each kind narrows these two, with a default of its own.
    kind: str
    results: Sequence[str]
    name: str = Field(min_length=1, max_length=64, description="name in the ledger")
    associations: int = Field(
        1, ge=1, le=16, description="associations or connections at once, at most; one keeps all in order"
    )
    when: DestinationConditions = DestinationConditions()

    @property
    def address(self) -> str:
        """Where it is, for people; without credentials."""
        raise NotImplementedError

    @property
    def is_asked(self) -> bool:
        """Whether it is asked to confirm what was sent; a kind that cannot be asked leaves this as it is."""
        return False
