"""Settings of the audit trail: where it is kept, and the log server that gets a copy.

Input: the values of a settings file. Output: frozen sections of `worker.settings.Settings`. An unknown key or a wrong
value raises pydantic's `ValidationError`, which `worker.settings.load_settings` puts in words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from worker.engine_settings import Section


class SyslogSettings(Section):
    """A log server that is sent every audit message: syslog over TLS (RFC 5424, RFC 5425)."""

    host: str = Field(min_length=1, description="host name, as its certificate has it")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(6514, description="TCP port")
    ca: Path | None = Field(
        None, description="PEM file of the authorities that its certificate is signed by; null for the system's"
    )
    certificate: Path | None = Field(None, description="PEM certificate with which we show who we are; null for none")
    key: Path | None = Field(None, description="PEM private key that goes with the certificate")

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("audit.syslog: certificate and key belong together, name both or none")
        return self


class AuditSettings(Section):
    """The audit trail: who saw and decided what (DICOM PS3.15 A.5)."""

    folder: Path | None = Field(None, description="folder of the audit files; null for `audit` in data_dir")
    site: str = Field("", max_length=64, description="name of this site in audit messages (AuditEnterpriseSiteID)")
    source: str = Field("", max_length=64, description="name of this system in them; empty for the host's name")
    largest_mib: float = Field(
        64, gt=0, description="size at which a new audit file is begun, in MiB; each day begins one"
    )
    repeat_after_s: float = Field(
        300, ge=0, description="seconds in which one person's looks at the same study are one audit message"
    )
    syslog: SyslogSettings | None = Field(None, description="log server that gets every message; null for none")
