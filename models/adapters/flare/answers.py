"""Generation -> the findings of the kind that was asked for, and how sure an answer is.

Input: a `Generation`, and the question's labels. Output: findings and a `Confidence`. The wrapping is forgiven (fences,
chatter, capitals, a bare list of boxes), the content is not: an unknown label, a box that is out of range or inverted,
a number in words make a `ParseFailure`; nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from models.adapters.flare.findings import ClassFindings, TextFindings, is_probability
from models.confidence import Confidence, likelihood_of_spans
from models.generation import Generation
from models.parsing import (
    LIST_OPENS,
    ParseFailure,
    TangledError,
    answer_text,
    answered_label,
    answered_object,
    field_spans,
    json_values,
    reason_of,
)

Parser = Callable[[Generation], BaseModel | ParseFailure]
ConfidenceOf = Callable[[Generation, BaseModel], Confidence]

_NO_LIKELIHOOD: Final = Confidence(0.0, calibrated=False, method="no likelihood reported by the engine")
_DECISIVE: Final = "token likelihood of the decisive fields"


def class_parser(labels: tuple[str, ...], findings: type[ClassFindings]) -> Parser:
    """Return the parser of a closed question: by the label scores, else by the one label that the text names."""

    def parse(generation: Generation) -> BaseModel | ParseFailure:
        label = _named_label(generation, labels)
        if isinstance(label, ParseFailure):
            return label
        scores = generation.label_scores or {}
        if not all(is_probability(score) for score in scores.values()):
            return ParseFailure("the label scores are no probabilities", generation.text)
        rounded = {name: round(score, 6) for name, score in scores.items()}
        return findings.model_validate({"label": label, "probabilities": rounded})

    return parse


def json_parser(findings: type[BaseModel], labels: tuple[str, ...] = ()) -> Parser:
    """Return the parser of an answer in JSON; labels are told by their letters, not by their capitals."""
    (key,) = findings.model_fields

    def parse(generation: Generation) -> BaseModel | ParseFailure:
        found = answered_object(generation, (key,))
        if isinstance(found, ParseFailure):
            listed = _bare_list(generation) if key == "objects" else None
            if listed is None:
                return found
            found = {key: listed}
        try:
            return findings.model_validate({key: _as_asked(found[key], labels)}, strict=True)
        except ValidationError as error:
            return ParseFailure(reason_of(error), generation.text)

    return parse


def parse_text(generation: Generation) -> BaseModel | ParseFailure:
    """Return free text as it stands, without thinking and special tokens."""
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    try:
        return TextFindings(report=text)
    except ValidationError as error:
        return ParseFailure(reason_of(error), generation.text)


def class_confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return the likelihood of the label, or, from an engine that scores none, of the tokens that spell it."""
    label = ClassFindings.model_validate(findings.model_dump()).label
    if generation.label_scores is not None:
        return Confidence(generation.label_scores[label], calibrated=False, method="label likelihood")
    spelled = "".join(token.token for token in generation.tokens)
    start = spelled.casefold().rfind(label.casefold())
    likelihood = likelihood_of_spans(generation.tokens, [(start, start + len(label))]) if start >= 0 else None
    if likelihood is None:
        return _NO_LIKELIHOOD
    return Confidence(likelihood, calibrated=False, method="token likelihood of the label")


def json_confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return the joint likelihood of the tokens of the answer's one field; of many boxes it is small, rightly."""
    (key,) = type(findings).model_fields
    text = "".join(token.token for token in generation.tokens)
    spans = field_spans(text)
    span = spans.get(key) or _list_span(text)
    likelihood = None if span is None else likelihood_of_spans(generation.tokens, [span])
    return _NO_LIKELIHOOD if likelihood is None else Confidence(likelihood, calibrated=False, method=_DECISIVE)


def _named_label(generation: Generation, labels: tuple[str, ...]) -> str | ParseFailure:
    """Return the one label that is scored highest, or named: `answered_label` for labels of several words.

    Each label in the text is replaced by one word of its own, the longest labels first, so that "pleural effusion" does
    not count for "effusion" too.
    """
    if generation.label_scores is not None:
        return answered_label(generation, labels)
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return text
    words = {label: "label" + "".join(chr(ord("a") + int(d)) for d in str(n)) for n, label in enumerate(labels)}
    for label in sorted(labels, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", f" {words[label]} ", text, flags=re.IGNORECASE)
    found = answered_label(replace(generation, text=text), tuple(words.values()))
    if isinstance(found, ParseFailure):
        reason = found.reason
        for label, word in sorted(words.items(), key=lambda pair: len(pair[1]), reverse=True):
            reason = reason.replace(word, label)
        return ParseFailure(reason, generation.text)
    return next(label for label, word in words.items() if word == found)


def _as_asked(value: Any, labels: tuple[str, ...]) -> Any:
    """Write labels as the question did, in a list of them or of objects; all else stays for the findings to judge."""
    if not labels or not isinstance(value, list):
        return value
    spelling = {label.casefold(): label for label in labels}

    def asked(entry: Any) -> Any:
        if isinstance(entry, str):
            return spelling.get(entry.strip().casefold(), entry)
        if isinstance(entry, dict) and isinstance(entry.get("label"), str):
            return {**entry, "label": asked(entry["label"])}
        return entry

    return [asked(entry) for entry in value]


def _bare_list(generation: Generation) -> list[Any] | None:
    """Return the list of boxes that is the whole answer: MedGemma's own localisation form has no object around it."""
    text = answer_text(generation)
    if isinstance(text, ParseFailure):
        return None
    span = _list_span(text)
    if span is None or re.search(r"[\[{]", text[: span[0]] + text[span[1] :]):
        return None
    listed: list[Any] = json.loads(text[span[0] : span[1]])
    return listed


def _list_span(text: str) -> tuple[int, int] | None:
    """Return where the first JSON list of objects in `text` stands, or an empty one; end exclusive."""
    try:
        for start, end, value in json_values(text, LIST_OPENS, nested=True):
            if all(isinstance(entry, dict) for entry in value):
                return start, end
    except TangledError:
        return None
    return None
