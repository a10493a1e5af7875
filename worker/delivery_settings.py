"""Settings of sending and of the systems around: destinations, which results each gets, and where images come from.

Input: the values of a settings file. Output: frozen sections of `worker.settings.Settings`. An unknown key or a wrong
value raises pydantic's `ValidationError`, which `worker.settings.load_settings` puts in words.

A kind of destination is a subclass of `DestinationBase` in the union `Destination`, and a `Channel` in
`worker.channels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from worker.destination_base import AeTitle, DestinationBase, Port
from worker.engine_settings import Secret, Section
from worker.message_destinations import FhirDestination, Hl7Destination, WebhookDestination
from worker.result_kinds import DEFAULT_KINDS, ResultKind

_RESULTS: Final = "kinds of result it gets: sr, sc (a picture of each key image), sc-multi (all in one), ko, pr, pdf"
_DICOM: Final = "dicom"
#: How images are fetched: C-MOVE, C-GET, or C-GET where C-MOVE is not offered to us.
Way = Literal["auto", "move", "get"]


class DeliverySettings(Section):
    """Sending results."""

    timeout_s: float = Field(30, gt=0, description="seconds to wait for a destination to answer")
    retry_after_s: float = Field(5, gt=0, description="seconds before a failed delivery is tried again; doubles")
    retry_at_most_s: float = Field(600, gt=0, description="longest pause between two tries, in seconds")
    max_attempts: int = Field(10, ge=1, description="refusals by a destination before a delivery is a dead letter")
    refusals_kept_s: float = Field(
        86400, ge=0, description="seconds for which a SOP class that a destination refused is not tried there again"
    )
    batch: int = Field(50, ge=1, description="objects sent over one association")
    confirm_wait_s: float = Field(5, ge=0, description="seconds an association is kept open for a commitment report")
    confirm_after_s: float = Field(
        300, gt=0, description="seconds before a destination that did not answer is asked again; doubles"
    )
    confirm_asks: int = Field(5, ge=1, description="times a destination is asked before a delivery is `unconfirmed`")
    confirm_resends: int = Field(
        2, ge=0, description="times an object is sent again that the destination says it has not got"
    )


class DicomDestination(DestinationBase):
    """A PACS or another DICOM node, by C-STORE."""

    kind: Literal["dicom"] = Field(
        _DICOM, description="dicom: a DICOM node, by C-STORE; stow: a DICOMweb server, by STOW-RS"
    )
    ae_title: AeTitle = Field(description="AE title that is called")
    host: str = Field(min_length=1, description="host name or address")
    port: Port = Field(description="TCP port")
    tls: bool = Field(False, description="use the node's TLS certificates for this destination")
    commitment: bool = Field(False, description="ask it for storage commitment of what was sent")
    confirm: Literal["", "find"] = Field(
        "", description="find: ask by C-FIND whether it has what was sent; with commitment, where that is not offered"
    )
    results: list[ResultKind] = Field(list(DEFAULT_KINDS), min_length=1, description=_RESULTS)

    @property
    def address(self) -> str:
        """AET@HOST:PORT."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def is_asked(self) -> bool:
        """Whether it is asked to confirm what was sent."""
        return self.commitment or self.confirm == "find"


class StowDestination(DestinationBase):
    """A DICOMweb server, by STOW-RS (PS3.18 10.5)."""

    kind: Literal["stow"] = Field(description="stow: a DICOMweb server, by STOW-RS")
    url: str = Field(description="address up to the resource `studies`, such as https://pacs.example/dicom-web")
    token: Secret = Field(SecretStr(""), description="sent as Bearer token; empty for none")
    username: str = Field("", description="user name for basic authentication; empty for none")
    password: Secret = Field(SecretStr(""), description="password that goes with the user name")
    ca: Path | None = Field(
        None, description="PEM file of the authorities that its https certificate is signed by; null for the system's"
    )
    confirm: Literal["", "find"] = Field("", description="find: ask by QIDO-RS whether it has what was sent")
    results: list[ResultKind] = Field(list(DEFAULT_KINDS), min_length=1, description=_RESULTS)

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    @property
    def is_asked(self) -> bool:
        """Whether it is asked to confirm what was sent."""
        return self.confirm == "find"

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        from dicom_node.dicomweb.origin import DicomWebServer  # only sites with such a destination pay for it

        token, password = self.token.get_secret_value(), self.password.get_secret_value()
        DicomWebServer(self.url, token, self.username, password)
        return self


def _kind_of(value: Any) -> Any:
    """Return the kind that a destination is to be read as; what names none is a DICOM node, as it always was."""
    return value.get("kind", _DICOM) if isinstance(value, dict) else getattr(value, "kind", None)


#: Any destination, by its `kind`.
Destination = Annotated[
    Annotated[DicomDestination, Tag(_DICOM)]
    | Annotated[StowDestination, Tag("stow")]
    | Annotated[FhirDestination, Tag("fhir")]
    | Annotated[Hl7Destination, Tag("hl7")]
    | Annotated[WebhookDestination, Tag("webhook")],
    Discriminator(
        _kind_of,
        custom_error_type="destination_kind",
        custom_error_message="`kind` is none of the kinds of destination: dicom, stow, fhir, hl7, webhook",
    ),
]


class Source(Section):
    """A system that images come from: it is told about its storage commitments, and it is asked for images."""

    name: str = Field(min_length=1, description="name on the command line")
    ae_title: AeTitle = Field(description="its AE title, as caller and when called")
    host: str = Field(min_length=1, description="host name or address")
    port: Port = Field(description="TCP port")
    tls: bool = Field(False, description="use the node's TLS certificates for this system")
    count: bool = Field(False, description="ask it by C-FIND how many slices a series has before it counts as whole")
    fetch_missing: bool = Field(
        False, description="have it send the slices that the count shows as missing, at most 3 times; needs `count`"
    )
    retrieve: Way = Field(
        "auto", description="how images are fetched from it: move, get, or auto: C-GET where it has no C-MOVE to us"
    )

    @model_validator(mode="after")
    def _counts_before_it_fetches(self) -> Self:
        if self.fetch_missing and not self.count:
            raise ValueError(f"source {self.name}: fetch_missing needs count: true, which tells what is missing")
        return self
