"""Settings of sending and of the systems around: destinations, which results each gets, and where images come from.

Input: the values of a settings file. Output: frozen sections of `worker.settings.Settings`. An unknown key or a wrong
value raises pydantic's `ValidationError`, which `worker.settings.load_settings` puts in words.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from worker.engine_settings import Section
from worker.result_kinds import DEFAULT_KINDS, ResultKind


def _ae_title(text: str) -> str:
    """Validate an AE title (PS3.5 6.2, VR AE): 1 to 16 printable ASCII characters without backslash."""
    if not 1 <= len(text.strip()) <= 16 or "\\" in text or not (text.isascii() and text.isprintable()):
        raise ValueError(f"{text!r} is not an AE title: 1 to 16 printable ASCII characters, no backslash")
    return text.strip()


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]


class DeliverySettings(Section):
    """Sending results."""

    timeout_s: float = Field(30, gt=0, description="seconds to wait for a destination to answer")
    retry_after_s: float = Field(5, gt=0, description="seconds before a failed delivery is tried again; doubles")
    retry_at_most_s: float = Field(600, gt=0, description="longest pause between two tries, in seconds")
    max_attempts: int = Field(10, ge=1, description="refusals by a destination before a delivery is a dead letter")
    batch: int = Field(50, ge=1, description="objects sent over one association")
    confirm_wait_s: float = Field(5, ge=0, description="seconds an association is kept open for a commitment report")
    confirm_after_s: float = Field(
        300, gt=0, description="seconds before a destination that did not answer is asked again; doubles"
    )
    confirm_asks: int = Field(5, ge=1, description="times a destination is asked before a delivery is `unconfirmed`")
    confirm_resends: int = Field(
        2, ge=0, description="times an object is sent again that the destination says it has not got"
    )


class DestinationConditions(Section):
    """Which results a destination gets; all that are given must match, and of each list one."""

    adapters: list[str] = Field([], description="adapters whose results it gets; empty means all")
    decisions: list[Literal["release", "accept", "edit", "reject"]] = Field(
        [],
        description="release: sent without a person; accept, edit, reject: what a person decided; empty means all",
    )
    calling_ae_titles: list[AeTitle] = Field([], description="AE titles that sent the images; empty means all")


class Destination(Section):
    """A PACS or another system that results are sent to."""

    name: str = Field(min_length=1, description="name in the ledger")
    ae_title: AeTitle = Field(description="AE title that is called")
    host: str = Field(min_length=1, description="host name or address")
    port: Port = Field(description="TCP port")
    tls: bool = Field(False, description="use the node's TLS certificates for this destination")
    commitment: bool = Field(False, description="ask it for storage commitment of what was sent")
    confirm: Literal["", "find"] = Field(
        "", description="find: ask by C-FIND whether it has what was sent; with commitment, where that is not offered"
    )
    associations: int = Field(1, ge=1, le=16, description="associations at once, at most; one keeps all in order")
    results: list[ResultKind] = Field(
        list(DEFAULT_KINDS),
        min_length=1,
        description="kinds of result it gets: sr, sc (a picture of each key image), sc-multi (all in one), ko, pr, pdf",
    )
    when: DestinationConditions = DestinationConditions()

    @property
    def is_asked(self) -> bool:
        """Whether it is asked to confirm what was sent."""
        return self.commitment or self.confirm == "find"


class Source(Section):
    """A system that images come from: it is told about its storage commitments, and it is asked for images."""

    name: str = Field(min_length=1, description="name on the command line")
    ae_title: AeTitle = Field(description="its AE title, as caller and when called")
    host: str = Field(min_length=1, description="host name or address")
    port: Port = Field(description="TCP port")
    tls: bool = Field(False, description="use the node's TLS certificates for this system")
    count: bool = Field(False, description="ask it by C-FIND how many slices a series has before it counts as whole")
