"""Neutral value types for a report: what an adapter found, before it becomes an SR document or a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dicom_node.codes import Code

#: VR LO, and each component group of VR PN (PS3.5 6.2), in characters.
LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class SourceFrames:
    """Frames of a source instance that a statement rests on; no frame numbers means the whole instance (1-based)."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    frame_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A qualitative evaluation: a coded question and its coded answer (TID 1501, rows of CODE items)."""

    name: Code
    value: Code


@dataclass(frozen=True, slots=True)
class Measurement:
    """A numeric measurement with its UCUM unit (TID 300)."""

    name: Code
    value: float
    unit: Code


@dataclass(frozen=True, slots=True)
class Region:
    """A closed outline on one source image (TID 1410, Image Region)."""

    #: One image, or one frame of it.
    source: SourceFrames
    #: (column, row) of the corners in pixels, without repeating the first; (0, 0) is the outer corner of the first
    #: pixel, (columns, rows) that of the last (PS3.3 C.18.6.1.1).
    outline: tuple[tuple[float, float], ...]
    #: Size of the source image, so that the outline can be drawn on a picture of it of any size.
    rows: int
    columns: int
    #: What it encloses, for people.
    label: str


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """One finding: becomes one group with its own tracking identifier (TID 1410 with a region, else TID 1501)."""

    #: Stable within the report, e.g. "vessel-occlusion"; the tracking UID is derived from it.
    tracking_id: str
    finding_type: Code
    sites: tuple[Code, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    sources: tuple[SourceFrames, ...] = ()
    #: Where it lies, if that is known.
    region: Region | None = None
    #: Of one video among the sources: the moments that it rests on, in seconds after the start of the video.
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Narrative:
    """Free text under a coded heading, e.g. impression (121073, DCM)."""

    heading: Code
    text: str
    #: Language of the text (BCP 47); all else in a report is English.
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The algorithm that spoke: goes to AlgorithmIdentification (TID 4019) and ContributingEquipmentSequence."""

    name: str
    version: str
    manufacturer: str
    #: Changes with the weights: derived from base and adapter digests.
    device_uid: str
    #: "key=value" lines: base model, revision, adapter digest, engine, preprocessing record digest.
    parameters: tuple[str, ...] = ()
    #: True where the built-in stand-in answered: every object must then say that it means nothing.
    is_standin: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """A person who reviewed: name as a DICOM PN ("Family^Given"), and organisation (both mandatory to verify)."""

    name: str
    organization: str

    @property
    def unwritable(self) -> str:
        """Say which of the two DICOM cannot hold, and what it can (VR PN and LO, PS3.5 6.2); empty where it can."""
        for what, text in (("name", self.name), ("organisation", self.organization)):
            is_wrong = len(text) > LONGEST_NAME or "\\" in text or not text.isprintable()
            if is_wrong or (what == "name" and "=" in text):
                return (
                    f"{what} {text!r} cannot be written into a DICOM object: at most {LONGEST_NAME} printable "
                    "characters without backslash, and no = in a name"
                )
        return ""


@dataclass(frozen=True, slots=True)
class Report:
    """One adapter's complete answer on one study, ready to be written as SR and captures."""

    title: str
    findings: tuple[ReportedFinding, ...]
    narratives: tuple[Narrative, ...]
    algorithm: Algorithm
    #: Sentences that go with the answer wherever it is shown: research use, limitations, what was incomplete.
    statements: tuple[str, ...]
    #: Every image the answer rests on.
    sources: tuple[SourceFrames, ...]
    #: One line a person reads first, e.g. "Vessel blocked, probability 0.93 (uncalibrated)".
    headline: str
    #: When the model answered (aware, UTC); content date and time of what is written.
    answered_at: datetime
    #: True where the probabilities were compared with reviewed cases; otherwise every object says "uncalibrated".
    calibrated: bool = False
    #: SOP Instance UID of the structured report that this answer stands in the place of; empty where there is none.
    replaces: str = ""


def probability_text(probability: float) -> str:
    """Return a probability with two decimals, cut and not rounded: 0.997 is shown as 0.99, never as certainty."""
    return f"{math.floor(probability * 100 + 1e-9) / 100:.2f}" if math.isfinite(probability) else "nan"
