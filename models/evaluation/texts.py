"""Free text against a reference: captions, surgical instructions, reports.

Input: truths and answers; an answer that did not parse counts as an empty text. Output: corpus BLEU and chrF by
sacrebleu, ROUGE-L (Lin 2004), for captions and reports the F1 of what is stated (clinical efficacy), for reports GREEN.
Token accuracy, which the cataract card reports, needs the trainer's forced decoding and cannot be had from answers; the
overlaps stand in for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.evaluation.closed import format_adherence
from models.evaluation.figures import Answer, Figure, Indices, Measured, bootstrapped, f1_of, mean_of
from models.evaluation.green import WEIGHTS, entity_counts, green

Words = Annotated[str, Field(min_length=1)]


class CaptionTruth(BaseModel):
    """The reference caption."""

    model_config = ConfigDict(extra="forbid")

    caption: Words


class InstructionTruth(BaseModel):
    """The reference instruction; the reasoning is not compared, and may be given or not."""

    model_config = ConfigDict(extra="forbid")

    final_answer: Words
    thinking_process: str = ""


class ReportTruth(BaseModel):
    """The reference report."""

    model_config = ConfigDict(extra="forbid")

    report: Words


def rouge_l(reference: str, candidate: str) -> float:
    """Return ROUGE-L as F1: the longest common subsequence of words, in [0, 1]."""
    true, said = (re.findall(r"\w+", text.casefold()) for text in (reference, candidate))
    if not true or not said:
        return float(true == said)
    row = [0] * (len(said) + 1)
    for word in true:
        before = row[:]
        for index, other in enumerate(said, 1):
            row[index] = before[index - 1] + 1 if word == other else max(before[index], row[index - 1])
    return 2 * row[-1] / (len(true) + len(said))


def caption_score(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return ROUGE-L of the caption."""
    return rouge_l(truth["caption"], answer["caption"])


def instruction_score(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return ROUGE-L of the instruction."""
    return rouge_l(truth["final_answer"], answer["final_answer"])


def report_score(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> float:
    """Return GREEN of the report; 0 where neither text states anything that can be compared."""
    score = green(truth["report"], answer["report"]).score
    return 0.0 if math.isnan(score) else score


def measure_captions(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of captions."""
    true, said = _texts("caption", truths, answers)
    efficacy = _efficacy("entity F1", true, said)
    return Measured((*_overlaps(true, said), efficacy, format_adherence(answers)), _silent(true, said))


def measure_instructions(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of surgical instructions."""
    return Measured(
        (format_adherence(answers), *_overlaps(*_texts("final_answer", truths, answers))),
        ("the card's token accuracy cannot be computed from answers; the overlaps with the reference stand in for it",),
    )


def measure_reports(truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> Measured:
    """Return the figures of reports: GREEN with its components, BLEU and alike, clinical efficacy."""
    true, said = _texts("report", truths, answers)
    # No answer scores 0 in all that the reference states, by the same rule: compared with an empty text.
    compared = [green(reference, candidate) for reference, candidate in zip(true, said, strict=True)]
    scored = [one.score for one in compared if not math.isnan(one.score)]
    figures = [mean_of("GREEN", scored, "primary; this project's reading of the card, by rules")]
    for name, weight in WEIGHTS.items():
        values = [one.components[name] for one in compared if name in one.components]
        figures.append(mean_of(f"GREEN: {name}", values, f"weight {weight:.0%}" + ("" if values else ", nothing said")))
    efficacy = _efficacy("clinical efficacy (entity F1)", true, said)
    return Measured((*figures, *_overlaps(true, said), efficacy, format_adherence(answers)), _silent(true, said))


def _texts(field: str, truths: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> tuple[list[str], list[str]]:
    return [truth[field] for truth in truths], ["" if answer is None else answer[field] for answer in answers]


def _overlaps(true: Sequence[str], said: Sequence[str]) -> tuple[Figure, ...]:
    pairs = zip(true, said, strict=True)
    rouge = mean_of("ROUGE-L", [rouge_l(reference, candidate) for reference, candidate in pairs])
    return (_corpus_score("BLEU", true, said), _corpus_score("chrF", true, said), rouge)


def _corpus_score(kind: str, true: Sequence[str], said: Sequence[str]) -> Figure:
    """Return sacrebleu's score over all texts, as a share of 1, with its own bootstrap."""
    if not true:
        return Figure(kind, None, remark="no such case")
    from sacrebleu.metrics import BLEU, CHRF

    metric = BLEU() if kind == "BLEU" else CHRF()
    # What sacrebleu counts of each text is drawn again, rather than the texts: a thousand times quicker. Its own
    # bootstrap (2.6) stops with a TypeError on some texts, where its scores are float32 and float.
    counts = np.array(metric._extract_corpus_statistics(list(said), [list(true)]))

    def score(chosen: Indices) -> float:
        return float(metric._compute_score_from_stats(counts[chosen].sum(axis=0).tolist()).score) / 100

    return bootstrapped(kind, score, len(true), "over all texts")


def _efficacy(name: str, true: Sequence[str], said: Sequence[str]) -> Figure:
    counts = np.array([entity_counts(reference, candidate) for reference, candidate in zip(true, said, strict=True)])

    def f1(chosen: Indices) -> float:
        return f1_of(*counts[chosen].sum(axis=0))

    return bootstrapped(name, f1, len(true), "entities with present, denied or doubtful, by the word list")


def _silent(true: Sequence[str], said: Sequence[str]) -> tuple[str, ...]:
    silent = sum(not any(entity_counts(reference, candidate)) for reference, candidate in zip(true, said, strict=True))
    if not silent:
        return ()
    return (
        f"{silent} of {len(true)} pairs of texts state nothing that the English word list knows: entity figures "
        "do not cover them",
    )
