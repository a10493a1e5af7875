"""Settings of systems that are told of results in messages: FHIR servers, HL7 v2 receivers, webhooks.

Input: the values of a settings file. Output: frozen sections of the union `worker.delivery_settings.Destination`. An
address or a secret that cannot be used raises pydantic's `ValidationError`; no message repeats a secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from worker.destination_base import DestinationBase, Port
from worker.engine_settings import Secret
from worker.result_kinds import Happening, MessageKind

_CA = "PEM file of the authorities that its https certificate is signed by; null for the system's"
_ONE_AT_A_TIME = "messages at once: one, which keeps them in order"


def named(url: str) -> str:
    """Return a URL without what may be secret: a query can hold a key."""
    return url.partition("?")[0]


class FhirDestination(DestinationBase):
    """A FHIR R4 server, by REST: a DiagnosticReport with its Observations for each answer."""

    kind: Literal["fhir"] = Field(description="fhir: a FHIR R4 server, by REST")
    url: str = Field(description="base address of the server, such as https://fhir.example/r4")
    token: Secret = Field(SecretStr(""), description="sent as Bearer token; empty for none")
    username: str = Field("", description="user name for basic authentication; empty for none")
    password: Secret = Field(SecretStr(""), description="password that goes with the user name")
    ca: Path | None = Field(None, description=_CA)
    patient_system: str = Field(
        "",
        description="identifier system of the images' patient IDs on that server, which then links each report to its "
        "patient and refuses one it does not have; empty: reports name the patient ID only",
    )
    associations: Literal[1] = Field(1, description=_ONE_AT_A_TIME)
    results: list[Literal[MessageKind.FHIR]] = Field([MessageKind.FHIR], min_length=1, description="always fhir")

    @property
    def address(self) -> str:
        """The URL."""
        return named(self.url)

    @model_validator(mode="after")
    def _is_an_address(self) -> Self:
        from dicom_node.http_server import HttpServer  # only sites with such a destination pay for it

        HttpServer(self.url, self.token.get_secret_value(), self.username, self.password.get_secret_value())
        return self


class Hl7Destination(DestinationBase):
    """A RIS or another HL7 v2 receiver, by MLLP: an ORU^R01 for each answer."""

    kind: Literal["hl7"] = Field(description="hl7: an HL7 v2.5.1 receiver, by MLLP")
    host: str = Field(min_length=1, description="host name or address")
    port: Port = Field(description="TCP port")
    tls: bool = Field(False, description="use the node's TLS certificates for this destination")
    sending_application: str = Field("", description="our name in MSH-3; empty means dicom.ae_title")
    sending_facility: str = Field("", description="our facility in MSH-4")
    receiving_application: str = Field("", description="its name in MSH-5")
    receiving_facility: str = Field("", description="its facility in MSH-6")
    filler_number: Literal["accession", "result"] = Field(
        "accession", description="what stands in OBR-3: the accession number, or a number of each answer's own"
    )
    associations: Literal[1] = Field(1, description=_ONE_AT_A_TIME)
    results: list[Literal[MessageKind.HL7]] = Field([MessageKind.HL7], min_length=1, description="always hl7")

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


class WebhookDestination(DestinationBase):
    """Any other system, by webhook: a signed CloudEvents event for what becomes of each answer."""

    kind: Literal["webhook"] = Field(description="webhook: signed CloudEvents by HTTP POST")
    url: str = Field(description="address that events are posted to")
    secret: Secret = Field(description="whsec_ and the base64 of 24 to 64 random bytes, by which events are signed")
    former_secret: Secret = Field(
        SecretStr(""), description="while the receiver changes its secret: the old one, by which events are signed too"
    )
    ca: Path | None = Field(None, description=_CA)
    events: list[Happening] = Field(list(Happening), min_length=1, description="what it is told of")
    answers: Literal["released", "always", "never"] = Field(
        "released",
        description="which events carry findings and probability: those of answers that were released or signed, all "
        "(held ones too), or none",
    )
    patient: bool = Field(False, description="whether events carry patient ID and name")
    associations: Literal[1] = Field(1, description=_ONE_AT_A_TIME)
    results: list[Literal[MessageKind.EVENT]] = Field([MessageKind.EVENT], min_length=1, description="always event")

    @property
    def address(self) -> str:
        """The URL, without a query, which may hold a key."""
        return named(self.url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What events are signed by: the receiver knows one of them."""
        return tuple(filter(None, (self.secret.get_secret_value(), self.former_secret.get_secret_value())))

    @property
    def told(self) -> tuple[Happening, ...]:
        """The happenings whose events carry the answer."""
        if self.answers == "released":
            return (Happening.RELEASED, Happening.VERIFIED, Happening.AMENDED)
        return tuple(Happening) if self.answers == "always" else ()

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        from dicom_node.http_server import HttpServer  # only sites with such a destination pay for it
        from worker.webhook_signature import key_of

        HttpServer(self.url)
        for secret in self.secrets:
            key_of(secret)
        return self
