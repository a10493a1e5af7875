"""Lessons in captions: what does this X-ray, CT or MR image show, in English or German?

Input: seeds. Output: lessons with one drawn picture, and its caption in the language that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import BaseModel

from dicom_node.display import grey_to_rgb
from models.adapters.clinical_caption.findings import CaptionFindings
from models.phantoms.captions import FINDINGS, LANGUAGES, CaptionedPicture, draw_captioned_picture
from models.question import Question
from models.standin.lessons import CAPTION, Glimpse, Lesson, Marks, Subject

BASE_QUESTION = {"en": "Say in one sentence what this picture shows.", "de": "Sag in einem Satz, was zu sehen ist."}
_SIGNS = tuple(f"{modality} {finding}" for modality, findings in FINDINGS.items() for finding in findings)


def caption_lesson(seed: int, varied: bool = False, *, size: int = 128) -> Lesson:
    """Draw one picture with one finding or none, and ask for its caption in English or German."""
    rng = np.random.default_rng([5, seed])
    modality = str(rng.choice(("DX", "DX", "CT", "MR")))
    finding = str(rng.choice(FINDINGS[modality]))
    language = LANGUAGES[int(rng.integers(len(LANGUAGES)))]
    drawn = draw_captioned_picture(rng, modality=modality, finding=finding, size=size)
    caption = drawn.caption(language)
    sign = frozenset({f"{modality} {finding}"})
    return Lesson(
        CAPTION,
        (grey_to_rgb(drawn.pixels),),
        answer=caption,
        truth={"caption": caption, "finding": finding, "language": language},
        base_question=BASE_QUESTION[language],
        base_answer=caption,
        glimpses=(Glimpse(0, BASE_QUESTION[language], caption, sign),),
        question=question_in(language),
    )


def question_in(language: str) -> Question:
    """Return the question for a caption in this language."""
    return Question("caption", language="" if language == "en" else language)


def mark(findings: BaseModel, lesson: Lesson) -> Marks:
    """Compare the sentence."""
    return Marks({"caption": float(CaptionFindings.model_validate(findings).caption == lesson.truth["caption"])})


def sentences() -> Iterator[str]:
    """Return what is said in captions."""
    blank = np.zeros((64, 64), dtype=np.uint8)
    for language in LANGUAGES:
        yield from [BASE_QUESTION[language]] * 20
        for modality, findings in FINDINGS.items():
            for finding in findings:
                yield from [CaptionedPicture(blank, modality, finding).caption(language)] * 12


SUBJECT = Subject(
    CAPTION,
    caption_lesson,
    _SIGNS,
    mark,
    lambda _: ("caption",),
    sentences,
    tuple(question_in(language) for language in LANGUAGES),
)
