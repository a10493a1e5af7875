"""What the cataract adapter finds: its pydantic model, the parser of its answers, how sure an answer is.

Input: a `Generation`. Output: `CataractFindings` and a `Confidence`. The parser forgives how the two headings are
written, never that one is missing, that nothing stands under it, or that the answer was cut off: those are a
`ParseFailure`.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.confidence import Confidence, text_confidence
from models.generation import Generation
from models.parsing import ParseFailure, answered_sections, reason_of, section_spans

#: The headings of the author's prompt, in its order.
THINKING, FINAL = "Thinking Process", "Final Answer"
HEADINGS: Final = (THINKING, FINAL)
#: What the prompt puts under the headings; a model that repeats it has not answered.
_PLACEHOLDERS: Final = frozenset({"<your reasoning>", "<your instruction>"})

#: 512 tokens are about 2,500 characters of English.
Text = Annotated[str, Field(min_length=1, max_length=8000)]


class CataractFindings(BaseModel):
    """Reasoning and instruction, apart; the ledger's `findings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thinking_process: Text
    final_answer: Text


def parse(generation: Generation) -> CataractFindings | ParseFailure:
    """Return the findings of a generation."""
    sections = answered_sections(generation, HEADINGS)
    if isinstance(sections, ParseFailure):
        return sections
    for heading, text in sections.items():
        if text.lower() in _PLACEHOLDERS:
            return ParseFailure(f'under "{heading}" the answer only repeats the prompt', generation.text)
    try:
        return CataractFindings(thinking_process=sections[THINKING], final_answer=sections[FINAL])
    except ValidationError as error:
        return ParseFailure(reason_of(error), generation.text)


def answer_class(findings: BaseModel) -> str:
    """Return the key into the review policy: there is but one class."""
    CataractFindings.model_validate(findings)
    return "instruction"


def confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return the length-normalised likelihood of the instruction.

    The reasoning is left out: it is not what is acted upon, and it is several times as long.
    """
    CataractFindings.model_validate(findings)
    text = "".join(token.token for token in generation.tokens)
    spans = [(start, end) for heading, start, end in section_spans(text, HEADINGS) if heading == FINAL]
    if not spans:
        return Confidence(0.0, calibrated=False, method="no likelihood reported by the engine")
    start, end = spans[-1]
    start += len(text[start:end]) - len(text[start:end].lstrip())  # the line break belongs to the heading's token
    return text_confidence(generation, (start, end))
