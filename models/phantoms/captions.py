"""Drawn chest X-rays, head CTs and brain MRs with one known finding or none, and what a caption says of them.

Input: a seeded `numpy.random.Generator`, the kind of picture and the finding. Output: grey values, and the finding as a
caption in English or German. An unknown kind, finding or language, or a picture too small, raises `ValueError`.

All geometry is in fractions of the picture; the patient's right is on the left of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: DICOM modality -> the findings that are drawn there; the first means that there is nothing.
FINDINGS: Mapping[str, tuple[str, ...]] = {
    "DX": (
        "none",
        "right pleural effusion",
        "left pleural effusion",
        "right pneumothorax",
        "left pneumothorax",
        "enlarged heart",
    ),
    "CT": ("none", "right intracranial haemorrhage", "left intracranial haemorrhage"),
    "MR": ("none", "right brain tumour", "left brain tumour"),
}
LANGUAGES = ("en", "de")

_OPENING = {
    "en": {"DX": "The chest X-ray shows", "CT": "The head CT shows", "MR": "The brain MRI shows"},
    "de": {
        "DX": "Das Röntgenbild des Thorax zeigt",
        "CT": "Die CT des Kopfes zeigt",
        "MR": "Die MRT des Gehirns zeigt",
    },
}
_NOTHING = {
    "en": {
        "DX": "no focal consolidation, pleural effusion, or pneumothorax",
        "CT": "no intracranial haemorrhage",
        "MR": "no brain tumour",
    },
    "de": {
        "DX": "keine Verschattung, keinen Pleuraerguss und keinen Pneumothorax",
        "CT": "keine intrakranielle Blutung",
        "MR": "keinen Hirntumor",
    },
}
_GERMAN = {
    "right pleural effusion": "einen Pleuraerguss rechts",
    "left pleural effusion": "einen Pleuraerguss links",
    "right pneumothorax": "einen Pneumothorax rechts",
    "left pneumothorax": "einen Pneumothorax links",
    "enlarged heart": "ein vergrößertes Herz",
    "right intracranial haemorrhage": "eine intrakranielle Blutung rechts",
    "left intracranial haemorrhage": "eine intrakranielle Blutung links",
    "right brain tumour": "einen Hirntumor rechts",
    "left brain tumour": "einen Hirntumor links",
}


@dataclass(frozen=True, slots=True)
class CaptionedPicture:
    """One grey-scale picture with one finding or none."""

    #: uint8, shape (rows, columns); bright is dense (MONOCHROME2).
    pixels: NDArray[np.uint8]
    #: DICOM modality: "DX", "CT" or "MR".
    modality: str
    #: One of `FINDINGS[modality]`.
    finding: str

    def caption(self, language: str = "en") -> str:
        """Return the right caption (language as in BCP 47)."""
        if language not in LANGUAGES:
            raise ValueError(f"no captions in {language!r}: languages are {', '.join(LANGUAGES)}")
        opening = _OPENING[language][self.modality]
        if self.finding == "none":
            return f"{opening} {_NOTHING[language][self.modality]}."
        if language == "de":
            return f"{opening} {_GERMAN[self.finding]}."
        article = "an" if self.finding[0] in "aeiou" else "a"
        return f"{opening} {article} {self.finding}."


def draw_captioned_picture(
    rng: np.random.Generator, *, modality: str, finding: str = "none", size: int = 256
) -> CaptionedPicture:
    """Draw a chest X-ray ("DX"), a head CT ("CT") or a brain MR ("MR") with this finding."""
    if modality not in FINDINGS or finding not in FINDINGS[modality]:
        known = "; ".join(f"{name}: {', '.join(findings)}" for name, findings in FINDINGS.items())
        raise ValueError(f"cannot draw {finding!r} on {modality!r}: {known}")
    if size < 64:
        raise ValueError(f"a picture needs at least 64 pixels a side, not {size}")
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    x = x - 0.5 + rng.uniform(-0.03, 0.03)
    y = y - 0.5 + rng.uniform(-0.03, 0.03)
    picture = _chest(rng, x, y, finding) if modality == "DX" else _head(rng, x, y, modality, finding)
    picture = picture * rng.uniform(0.9, 1.1) + rng.normal(0.0, rng.uniform(2.0, 7.0), picture.shape)
    return CaptionedPicture(np.clip(picture, 0, 255).astype(np.uint8), modality, finding)


def _side(finding: str) -> float:
    """Return which side of the picture a finding is on: the patient's right is on the left."""
    return -1.0 if finding.startswith("right") else 1.0


def _chest(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64], finding: str
) -> NDArray[np.float64]:
    """Draw a frontal chest: dark lungs with ribs in a bright thorax, the heart a little left of the middle."""
    picture = np.full(x.shape, 15.0)
    picture[(x / 0.46) ** 2 + (y / 0.62) ** 2 < 1] = 150
    side = _side(finding)
    ribs = 16 * np.clip(np.sin(y * 60 + np.abs(x) * 8), 0.3, 1.0)
    for lung in (-1.0, 1.0):
        across, down = (x - lung * 0.21) / rng.uniform(0.145, 0.16), (y + 0.02) / rng.uniform(0.34, 0.37)
        inside = across**2 + down**2 < 1
        picture[inside] = 55 + ribs[inside]
        if lung != side:
            continue
        if finding.endswith("pleural effusion"):
            # Fluid fills the base, highest at the chest wall.
            level = rng.uniform(0.08, 0.16) - 0.35 * np.clip(np.abs(x) - 0.21, -0.1, 0.1)
            picture[inside & (y > level)] = 185
        elif finding.endswith("pneumothorax"):
            # Air without lung markings, the collapsed lung bright beside the heart.
            picture[inside] = 12
            picture[inside & (np.abs(x) < rng.uniform(0.16, 0.19))] = 125
    wide = rng.uniform(0.24, 0.27) if finding == "enlarged heart" else rng.uniform(0.11, 0.135)
    picture[((x - 0.03) / wide) ** 2 + ((y - 0.16) / 0.2) ** 2 < 1] = 200
    picture[(np.abs(x) < 0.035) & (np.abs(y) < 0.5)] = 215
    return picture


def _head(
    rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64], modality: str, finding: str
) -> NDArray[np.float64]:
    """Draw an axial head: on CT a bright skull and a bright bleed, on MR a grey brain and a bright ringed tumour."""
    ct = modality == "CT"
    broad, long = rng.uniform(0.34, 0.38), rng.uniform(0.42, 0.46)
    depth = (x / broad) ** 2 + (y / long) ** 2
    picture = np.full(x.shape, 5.0)
    picture[depth < 1] = 250 if ct else 190
    picture[depth < 0.82] = 95 if ct else 120
    if not ct:
        picture[(depth >= 0.82) & (depth < 0.92)] = 20
        # The folds of the cortex.
        folds = 24 * np.sin(28 * np.arctan2(y, x)) * (depth > 0.5) * (depth < 0.8)
        picture += folds
    for side in (-1.0, 1.0):
        picture[((x - side * 0.05) / 0.028) ** 2 + (y / 0.12) ** 2 < 1] = 45 if ct else 30
    if finding == "none":
        return picture
    middle_x, middle_y = _side(finding) * rng.uniform(0.16, 0.19), rng.uniform(-0.14, 0.14)
    radius = rng.uniform(0.075, 0.1)
    distance = np.hypot(x - middle_x, (y - middle_y) / (1.0 if not ct else rng.uniform(1.0, 1.5)))
    picture[distance < radius] = 225
    if not ct:
        picture[distance < 0.5 * radius] = 40
    return picture
