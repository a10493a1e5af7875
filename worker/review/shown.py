"""What a person had before them when they decided, as far as it is known.

Input: what the caller says: the digest of the answer that was shown, and on how many of the case's images the person
looked. Both are the claim of a browser or of a program, and bind nobody; what nobody says is unknown, never none. The
digest was compared with the answer before (`open_case`), and the count is never more than there are images. Output:
what is kept with the decision, and the same in words. Nothing fails here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from worker.db.records import Job
from worker.db.review_records import standing_signature
from worker.db.units import count_images
from worker.schemas import ShownView

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the caller says was shown."""

    #: `seen_digest` of the answer; empty where nobody says.
    answer: str = ""
    #: Images (frames) of the case that were on the screen, each counted once; None where nobody says.
    frames: int | None = None


#: Nobody says.
NOT_SAID = Shown()


def kept(session: Session, job: Job, shown: Shown) -> dict[str, Any] | None:
    """Return what is kept with a decision (`worker.schemas.ShownView`); None where nothing is known."""
    if shown == NOT_SAID:
        return None
    found: dict[str, Any] = dict.fromkeys(ShownView.model_fields)
    if shown.frames is not None:
        found["frames"] = count_images(session, job)
        found["frames_shown"] = min(max(shown.frames, 0), found["frames"])
    if shown.answer:
        signed = standing_signature(job)
        found |= {
            "revision": job.revision,
            "answered_at": None if job.answered_at is None else job.answered_at.isoformat(),
            "adapter_digest": (job.provenance or {}).get("adapter_digest"),
            "findings": job.findings,
            "signed_findings": None if signed is None else signed.findings,
        }
    return found


def in_words(stored: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what was shown, for an audit message."""
    known = stored or {}
    frames, revision = known.get("frames_shown"), known.get("revision")
    return {
        "images on screen": UNKNOWN if frames is None else f"{frames} of {known['frames']}",
        "answer on screen": UNKNOWN if revision is None else f"revision {revision}",
    }
