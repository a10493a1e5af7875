"""Settings: a YAML file, overridden by `DICOM_WORKER_...` environment variables; frozen once read.

An unknown key, a wrong value or an unreadable file raises `SettingsError`, which names the setting and the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.audit_settings import AuditSettings
from worker.delivery_settings import DeliverySettings, Destination, DicomDestination, Source, StowDestination
from worker.destination_base import AeTitle, DestinationConditions, Port
from worker.engine_settings import AdapterOptions, EngineSettings, Section
from worker.message_destinations import Hl7Destination
from worker.route_settings import RouteConditions, RouteQuestion, RouteRule
from worker.settings_mistakes import mistakes_in_words
from worker.web_settings import WebSettings

__all__ = [
    "DEFAULT_FILE",
    "ENV_PREFIX",
    "WRONG_CONFIGURATION",
    "DeliverySettings",
    "Destination",
    "DestinationConditions",
    "DicomDestination",
    "DiskSettings",
    "RouteConditions",
    "RouteQuestion",
    "RouteRule",
    "Settings",
    "SettingsError",
    "Source",
    "StowDestination",
    "WebSettings",
    "load_settings",
]

ENV_PREFIX = "DICOM_WORKER_"
DEFAULT_FILE = Path("dicom-worker.yaml")
#: Exit code of a process whose settings only a person can put right.
WRONG_CONFIGURATION = 2


class SettingsError(Exception):
    """The settings are wrong; the message names the setting, the file and the remedy."""


class TlsSettings(Section):
    """Certificates for DICOM over TLS (PS3.15 B)."""

    certificate: Path = Field(description="PEM certificate chain of this node")
    key: Path = Field(description="PEM private key of this node")
    ca: Path = Field(description="PEM certificates of the authorities that peers must be signed by")


class DiskSettings(Section):
    """Room on the disk of data_dir."""

    keep_free_gib: float = Field(
        0.5,
        ge=0,
        description="images are refused while less is free, in GiB: results and the database need room",
    )
    warn_below_gib: float = Field(
        5, ge=0, description="pages and `doctor` remark on it when less than this is free, in GiB"
    )

    @property
    def keep_free_bytes(self) -> int:
        """`keep_free_gib` in bytes."""
        return round(self.keep_free_gib * (1 << 30))

    @property
    def warn_below_bytes(self) -> int:
        """`warn_below_gib` in bytes."""
        return round(self.warn_below_gib * (1 << 30))


class DicomSettings(Section):
    """The DICOM node."""

    ae_title: AeTitle = Field("DICOMWORKER", description="AE title of this node")
    bind: str = Field("127.0.0.1", description="address the node listens on; 0.0.0.0 for all interfaces")
    port: Port = Field(11112, description="TCP port the node listens on")
    stable_after_s: float = Field(10, gt=0, description="seconds without a new image until a series counts as whole")
    missing_after_s: float = Field(
        300, gt=0, description="seconds to wait for slices that the source has (`sources[].count`) and did not send"
    )
    calling_ae_titles: list[AeTitle] = Field([], description="AE titles that may send; empty means any")
    require_called_ae_title: bool = Field(True, description="refuse associations that call another AE title")
    max_associations: int = Field(64, ge=1, description="associations served at once; more are refused for the moment")
    max_pdu_bytes: int = Field(262144, ge=4096, description="largest PDU the node announces to senders")
    idle_timeout_s: float = Field(60, gt=0, description="seconds of silence after which an association is aborted")
    tls: TlsSettings | None = Field(None, description="TLS certificates; null for plain TCP")


class RenderingSettings(Section):
    """Making the model's pictures, in a process that a broken image can end without harm."""

    limit_s: float = Field(120, gt=0, description="seconds after which pictures that are not ready are given up")
    memory_mib: int = Field(4096, ge=512, description="memory that making one unit's pictures may take, in MiB")


class JobSettings(Section):
    """How jobs are worked on."""

    lease_s: float = Field(30, gt=0, description="seconds after which a silent worker's job is given to another")
    time_limit_s: float = Field(900, gt=0, description="seconds one batch of jobs may run before its process is killed")
    max_attempts: int = Field(3, ge=1, description="attempts before a job goes to a person")
    retry_after_s: float = Field(5, ge=0, description="seconds before a failed job is tried again; doubles each time")
    dispatch_every_s: float = Field(1, gt=0, description="seconds between two looks of the dispatcher")
    ring_again_s: float = Field(10, gt=0, description="seconds after which unclaimed work is rung for again")


class ReviewSettings(Section):
    """The review queue."""

    audit_fraction: float = Field(0.02, ge=0, le=1, description="share of sure answers that are held for a person too")
    organization: str = Field("", description="organisation of the reviewers, written into verified reports")
    rejection_title: Literal["quality", "patient_safety"] = Field(
        "quality", description="why a rejection note says that results are rejected (DICOM 113001 or 113037)"
    )
    undo_s: float = Field(
        30, ge=0, description="seconds in which a decision on the pages can be taken back; nothing leaves before"
    )
    claim_s: float = Field(
        90, ge=10, description="seconds after which a case that a closed or lost page had open is free for others"
    )


class LogSettings(Section):
    """Logging."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")
    format: Literal["console", "json"] = Field("console", description="console for people, json for machines")


class Settings(BaseSettings):
    """All settings of the daemon."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())] = Field(
        Path("data"), validate_default=True, description="folder for everything the daemon keeps"
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite in data_dir")
    broker_url: str = Field("embedded", description="embedded (files in data_dir) or redis://host:port/db")
    disk: DiskSettings = DiskSettings()
    dicom: DicomSettings = DicomSettings()
    web: WebSettings = WebSettings()
    engine: EngineSettings = EngineSettings()
    adapters: dict[str, AdapterOptions] = Field({}, description="adapter name -> what this site changes about it")
    rendering: RenderingSettings = RenderingSettings()
    jobs: JobSettings = JobSettings()
    review: ReviewSettings = ReviewSettings()
    delivery: DeliverySettings = DeliverySettings()
    destinations: list[Destination] = Field([], description="where results are sent")
    sources: list[Source] = Field([], description="where images come from, as far as it must be called back")
    routes: list[RouteRule] = Field([], description="site rules, looked at in order before the adapters' own")
    audit: AuditSettings = AuditSettings()
    log: LogSettings = LogSettings()
    grace_s: float = Field(20, gt=0, description="seconds to finish or hand back what is running on SIGTERM")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file, which comes in as keyword arguments."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _openai_names_its_server(self) -> Self:
        if self.engine.kind == "openai" and self.engine.openai is None:
            raise ValueError("engine: kind is openai, and engine.openai.base_url names no server")
        return self

    @model_validator(mode="after")
    def _destinations_can_be_served(self) -> Self:
        for setting, peers in (("destinations", self.destinations), ("sources", self.sources)):
            names = [peer.name for peer in peers]
            if doubled := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{setting}: the name {', '.join(doubled)} is given twice")
            nodes = [peer for peer in peers if isinstance(peer, DicomDestination | Hl7Destination | Source)]
            if self.dicom.tls is None and (with_tls := [node.name for node in nodes if node.tls]):
                raise ValueError(f"{setting}: {', '.join(with_tls)} asks for TLS, and dicom.tls names no certificates")
        allowed = set(self.dicom.calling_ae_titles)
        for destination in self.destinations:
            if allowed and (unknown := sorted(set(destination.when.calling_ae_titles) - allowed)):
                raise ValueError(
                    f"destinations: {destination.name} waits for images from {', '.join(unknown)}, which "
                    "dicom.calling_ae_titles does not let in"
                )
        return self

    @property
    def resolved_database_url(self) -> str:
        """The database URL, with the default filled in from data_dir."""
        return self.database_url or f"sqlite:///{self.data_dir / 'dicom-worker.db'}"


def load_settings(file: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read the settings.

    Args:
        file: YAML file; without one, `dicom-worker.yaml` in the working directory if it is there.
        overrides: values that stand in for the file's (the demo profile), deep-merged over it.

    Raises:
        SettingsError: a file cannot be read, a key is unknown or a value is wrong.
    """
    if file is not None and not file.is_file():
        raise SettingsError(f"settings file {file}: there is no such file; check --config")
    path = file if file is not None else (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    values = _merge(_read_yaml(path) if path else {}, overrides or {})
    _refuse_unknown_environment()
    try:
        return Settings(**values)
    except ValidationError as error:
        origin = f"{path} or the environment" if path else "the environment"
        lines = [f"  {line}" for line in mistakes_in_words(error)]
        raise SettingsError(
            f"wrong settings in {origin}:\n" + "\n".join(lines) + "\n`dicom-worker settings --help-all` lists them all"
        ) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"settings file {path}: it must hold `name: value` lines, see `dicom-worker settings`")
    return values


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both_mappings else value
    return merged


def _refuse_unknown_environment() -> None:
    """pydantic-settings ignores a misspelt top-level variable; a hospital's typo must not be silent."""
    known = set(Settings.model_fields)
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            top = variable[len(ENV_PREFIX) :].lower().split("__")[0]
            if top not in known:
                raise SettingsError(f"environment variable {variable}: unknown setting {top!r}")
