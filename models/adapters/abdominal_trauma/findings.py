"""What the trauma adapter finds: its pydantic model and JSON schema, the parser of its answers, how sure an answer is.

Input: a `Generation`. Output: `TraumaFindings` and a `Confidence`. The parser forgives the wrapping (fences, chatter,
capitals, "left kidney"), never the content: an organ or a severity that it does not know makes a `ParseFailure`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.confidence import INCONSISTENT, Confidence, likelihood_of_spans
from models.generation import Generation
from models.parsing import ParseFailure, answered_object, field_spans, reason_of

Organ = Literal["liver", "spleen", "kidney", "bowel"]
Severity = Literal["none", "mild", "moderate", "severe"]

#: What a constrained answer may hold at most: with it the longest ASCII answer is under 700 characters, and so under
#: the author's 800 tokens. An unconstrained engine may say more, up to what the model below takes.
_SENTENCE_SCHEMA: Final[dict[str, Any]] = {"minLength": 1, "maxLength": 160}
Sentence = Annotated[str, Field(min_length=1, max_length=1000, json_schema_extra=_SENTENCE_SCHEMA)]
Diagnosis = Annotated[str, Field(min_length=1, max_length=400, json_schema_extra={"minLength": 1, "maxLength": 60})]


class TraumaFindings(BaseModel):
    """The five fields of the author's prompt, in its order; the ledger's `findings`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    injury_pattern: Sentence
    organs_involved: Annotated[list[Organ], Field(max_length=4)]
    bleeding_description: Sentence
    severity_estimate: Severity
    differential_diagnosis: Annotated[list[Diagnosis], Field(max_length=20, json_schema_extra={"maxItems": 3})]


FIELDS: Final = tuple(TraumaFindings.model_fields)

_ORGAN_WORDS: Final[dict[str, Organ]] = {
    **{organ: organ for organ in get_args(Organ)},
    "kidneys": "kidney",
    "bowels": "bowel",
}
#: Words that narrow an organ down without changing which it is.
_QUALIFIERS: Final = frozenset({"left", "right", "both", "bilateral", "small", "large", "the"})
_NOTHING: Final = frozenset({"", "none", "no", "n/a", "nil", "-"})


def json_schema() -> dict[str, Any]:
    """Return the JSON schema that constrains the answer: the findings model, with strings and lists bounded."""
    return TraumaFindings.model_json_schema()


def parse(generation: Generation) -> TraumaFindings | ParseFailure:
    """Return the findings of a generation."""
    found = answered_object(generation, FIELDS)
    if isinstance(found, ParseFailure):
        return found
    organs = _organs(found["organs_involved"])
    if isinstance(organs, str):
        return ParseFailure(organs, generation.text)
    severity, diagnoses = found["severity_estimate"], found["differential_diagnosis"]
    answer = {
        **{name: found[name] for name in FIELDS},
        "organs_involved": organs,
        "severity_estimate": severity.strip().lower() if isinstance(severity, str) else severity,
        "differential_diagnosis": [diagnoses] if isinstance(diagnoses, str) and diagnoses.strip() else diagnoses,
    }
    try:
        return TraumaFindings.model_validate(answer, strict=True)
    except ValidationError as error:
        return ParseFailure(reason_of(error), generation.text)


def _organs(value: Any) -> list[Organ] | str:
    """Return the organs named, each once, or in words what cannot be read; an unknown organ is never guessed at."""
    words = re.split(r",|;|\band\b", value) if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return "the organs involved are not a list of words"
    organs: list[Organ] = []
    for word in words:
        if word.strip().lower() in _NOTHING:
            continue
        named = [part for part in word.lower().split() if part not in _QUALIFIERS]
        organ = _ORGAN_WORDS.get(named[0]) if len(named) == 1 else None
        if organ is None:
            return f"the answer names the organ {word.strip()[:60]!r}, which is none of {', '.join(get_args(Organ))}"
        if organ not in organs:
            organs.append(organ)
    return organs


def answer_class(findings: BaseModel) -> str:
    """Return the key into the review policy: "injury", "no injury", or "inconsistent" where the fields disagree."""
    answer = TraumaFindings.model_validate(findings)
    if (answer.severity_estimate == "none") != (not answer.organs_involved):
        return INCONSISTENT
    return "injury" if answer.organs_involved else "no injury"


def confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return the joint likelihood of the tokens that decide: the organs, the severity, the pattern's first word.

    The wording of the free text is left out: there are many ways to say one thing, and each is unlikely.
    """
    text = "".join(token.token for token in generation.tokens)
    spans = field_spans(text)
    if not {"organs_involved", "severity_estimate", "injury_pattern"} <= set(spans):
        return Confidence(0.0, calibrated=False, method="no likelihood reported by the engine")
    start, end = spans["injury_pattern"]
    first_word = re.match(r"\W*\w+", text[start:end])
    decisive = [spans["organs_involved"], spans["severity_estimate"]]
    if first_word:
        decisive.append((start, start + first_word.end()))
    likelihood = likelihood_of_spans(generation.tokens, decisive) or 0.0
    return Confidence(likelihood, calibrated=False, method="token likelihood of the decisive fields")
