"""Settings of the pages and the HTTP API: where they are served, who gets in, and for how long.

Input: the values of a settings file. Output: frozen sections of `worker.settings.Settings`. An unknown key or a wrong
value raises pydantic's `ValidationError`, which `worker.settings.load_settings` puts in words.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from worker.engine_settings import Secret, Section
from worker.roles import Role


class OidcSettings(Section):
    """An OpenID provider (Keycloak, Microsoft Entra and alike) that vouches for users."""

    name: str = Field("single sign-on", min_length=1, description="what the log-in page calls it")
    issuer: str = Field(pattern="^https?://", description="its address, exactly as it names itself")
    client_id: str = Field(min_length=1, description="name under which it knows this software")
    client_secret: Secret = Field(SecretStr(""), description="secret that goes with it; better from the environment")
    scopes: list[str] = Field(["profile"], description="what is asked for beyond `openid`")
    login_claim: str = Field("preferred_username", description="claim that becomes the login here")
    role_claim: str = Field("roles", description="claim that names roles; dots lead inwards, as in realm_access.roles")
    roles: dict[str, Role] = Field(
        min_length=1, description="value of that claim -> viewer, reviewer or administrator; who has none stays out"
    )
    organization: str = Field(
        "", max_length=64, description="organisation of its users; empty stands for review.organization"
    )
    end_session: bool = Field(
        True,
        description="log-out ends the session there, too, where it offers that; register the log-in page there as the "
        "address to come back to",
    )
    ca: Path | None = Field(
        None, description="PEM file of the authorities that its https certificate is signed by; null for the system's"
    )

    @model_validator(mode="after")
    def _nobody_listens_on_the_way(self) -> Self:
        address = urlsplit(self.issuer)
        if address.scheme != "https" and not is_local(address.hostname or ""):
            raise ValueError(f"web.oidc.issuer {self.issuer}: passwords and tokens pass there, it must be https")
        return self


class WebSettings(Section):
    """The web pages and the HTTP API."""

    bind: str = Field("127.0.0.1", description="address the pages are served on; 0.0.0.0 for all interfaces")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8080, description="TCP port the pages are served on")
    public_url: str = Field(
        "", pattern="^(https?://.+)?$", description="address that others use, behind a proxy; empty: as they ask"
    )
    proxies: list[str] = Field(
        ["127.0.0.1"], description="addresses of proxies that are believed who asks, and whether by https"
    )
    cors_origins: list[str] = Field(
        [], description="origins (https://host:port) whose pages may use /dicom-web, such as a viewer's; empty: none"
    )
    largest_instance_mib: int = Field(4096, ge=1, description="largest instance taken by STOW-RS, in MiB")
    login: Literal["required", "off"] = Field(
        "required",
        description="required: nobody sees a patient's data without a log-in; off: only where web.bind is local",
    )
    session_idle_s: float = Field(900, gt=0, description="seconds without a click after which a log-in ends")
    session_longest_s: float = Field(36000, gt=0, description="seconds after which a log-in ends in any case")
    password_length: int = Field(15, ge=8, le=128, description="fewest characters of a password")

    oidc: OidcSettings | None = Field(None, description="OpenID provider that vouches for users; null for none")

    @model_validator(mode="after")
    def _log_in_is_off_for_this_machine_only(self) -> Self:
        if self.login == "off" and not is_local(self.bind):
            raise ValueError(
                f"web.login is off and web.bind {self.bind} is reached from other machines: everybody there would read "
                "patient data; set web.login to required, or web.bind to 127.0.0.1"
            )
        return self

    @property
    def address(self) -> str:
        """URL under which a person on this machine reaches the pages."""
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "::") else self.bind  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"


def is_local(bind: str) -> bool:
    """Whether an address is reached from this machine only."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False
