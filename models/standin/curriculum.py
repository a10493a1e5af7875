"""Everything the stand-in is taught, by adapter, and the words it needs for that.

Input: nothing but the subjects. Output: `SUBJECTS`, lessons that no training has seen, and the vocabulary's sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from models.adapter import adapters
from models.standin import abdomen_lessons, caption_lessons, general_lessons, surgery_lessons, vessel_lessons
from models.standin.lessons import Lesson, Subject

#: Adapter -> what it is taught.
SUBJECTS: Mapping[str, Subject] = {
    lessons.SUBJECT.adapter: lessons.SUBJECT
    for lessons in (vessel_lessons, abdomen_lessons, surgery_lessons, general_lessons, caption_lessons)
}

#: Seeds below are for training.
FIRST_HELD_OUT_SEED = 1_000_000


def held_out(adapter: str, count: int, first: int = FIRST_HELD_OUT_SEED) -> list[Lesson]:
    """Draw lessons that no training has seen."""
    return [SUBJECTS[adapter].draw(first + number, False) for number in range(count)]


def sentences() -> Iterator[str]:
    """Return everything the stand-in reads or says, for its vocabulary; whole words become single tokens."""
    for subject in SUBJECTS.values():
        yield from subject.sentences()
        for question in subject.questions:
            prompt = adapters()[subject.adapter].asked(question).prompt
            often = max(1, 40 // len(subject.questions))
            yield from [f"{prompt.system or ''}\n{prompt.user}", "user\n", "model\n"] * often
