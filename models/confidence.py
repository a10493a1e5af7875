"""Raw score -> probability -> release or review, with the reason in words.

Input: an adapter's policy, the parsed answer (or why it did not parse), the stored generation, and the doubts that
earlier steps wrote down. Output: a `Decision` that gives every reason that applies. It reads nothing but values that
rows keep, and it fails on nothing: what cannot be judged goes to review.

No answer looks surer than it is: a probability that was never compared with reviewed cases says "uncalibrated".
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from dicom_node.report import probability_text
from models.generation import Generation, TokenLogprob
from models.parsing import THINKING_ENDS, ParseFailure, answer_text, plain

if TYPE_CHECKING:
    from models.acceptance import Acceptance
    from models.adapter import AdapterDefinition
    from models.calibration import Calibration


class Outcome(StrEnum):
    """What happens to an answer next."""

    #: Sent to the destinations, unverified.
    RELEASE = "release"
    #: Waits in the review queue for a person.
    REVIEW = "review"


#: In the name of every method of `text_confidence` that found a likelihood.
OF_WORDS: Final = "length-normalised likelihood of the text"


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far an answer can be trusted, in [0, 1], and how that figure came about."""

    probability: float
    calibrated: bool
    #: "label likelihood", "token likelihood of the decisive fields", ...; a calibrated one names its version.
    method: str
    #: The probability before it was calibrated; None where it was not.
    raw: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary; without `raw` where there is none, so that older rows stay as they were."""
        stored = asdict(self)
        if self.raw is None:
            del stored["raw"]
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Confidence:
        """Rebuild a confidence from `to_json`."""
        return cls(**stored)

    def __str__(self) -> str:
        """Say it in words: "0.93 (uncalibrated label likelihood)"."""
        calibrated = "calibrated" if self.calibrated else "uncalibrated"
        return f"{probability_text(self.probability)} ({calibrated} {self.method})"


#: Answer class of findings whose fields contradict each other: never released, and said to who signs them.
INCONSISTENT: Final = "inconsistent"


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """When an answer may leave without a person having looked: probability of the answer itself, by answer class."""

    #: Answer class (e.g. "patent") -> lowest probability of that answer that is released.
    release_at: Mapping[str, float] = field(default_factory=dict)
    #: For answer classes not named above.
    default_release_at: float = 1.01
    #: Why the thresholds are what they are; shown with every held case.
    rationale: str = ""

    def threshold(self, answer_class: str) -> float:
        """Return the lowest probability at which answers of this class are released."""
        return self.release_at.get(answer_class, self.default_release_at)


@dataclass(frozen=True, slots=True)
class Decision:
    """Release or review, and why."""

    outcome: Outcome
    #: Every reason that applies, joined by "; ".
    reason: str
    confidence: Confidence | None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return {**asdict(self), "confidence": self.confidence and self.confidence.to_json()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Decision:
        """Rebuild a decision from `to_json`."""
        confidence = stored["confidence"]
        return cls(Outcome(stored["outcome"]), stored["reason"], confidence and Confidence.from_json(confidence))


def decide(
    adapter: AdapterDefinition,
    findings: BaseModel | ParseFailure,
    generation: Generation,
    *,
    incomplete: Sequence[str] = (),
    doubts: Sequence[str] = (),
    audit_fraction: float = 0.0,
    audit_key: str = "",
    calibration: Calibration | None = None,
) -> Decision:
    """Decide whether an answer is released or held.

    Args:
        adapter: Whose answer it is; its policy sets the thresholds.
        findings: The parsed answer, or why it did not parse.
        generation: The raw answer.
        incomplete: `ModelInput.incomplete`, as stored.
        doubts: What speaks against the case itself, one whole sentence each ("outside intended use: ...").
        audit_fraction: Share of the answers that are held whatever their probability, 0 to 1.
        audit_key: What the audit draw hangs on (the job's identity): the same key is always drawn alike.
        calibration: What reviewed cases of these weights have taught; without one the probability stays uncalibrated.

    Returns:
        The decision, with all reasons that apply joined by "; ".
    """
    confidence: Confidence | None = None
    reasons: list[str] = []
    why_released = ""
    if isinstance(findings, ParseFailure):
        reasons.append(f"answer did not parse: {findings.reason}")
    else:
        confidence = adapter.confidence(generation, findings)
        if calibration is not None:
            confidence = calibration.apply(confidence)
        held, why_released = _judge(adapter.policy, adapter.answer_class(findings), confidence)
        reasons += held
    if generation.finish_reason == "length":
        reasons.append("answer cut off: it reached the length limit")
    reasons += doubts
    reasons += [f"input incomplete: {sentence}" for sentence in incomplete]
    if in_audit_sample(audit_key, audit_fraction):
        reasons.append(f"audit sample: {audit_fraction:.0%} of all answers are reviewed whatever their probability")
    if reasons:
        return Decision(Outcome.REVIEW, "; ".join(reasons), confidence)
    return Decision(Outcome.RELEASE, why_released, confidence)


def _judge(policy: ReviewPolicy, answer_class: str, confidence: Confidence) -> tuple[list[str], str]:
    """Return the reasons against release, and the words for it where there are none."""
    threshold, kind = policy.threshold(answer_class), plain(answer_class)
    if threshold > 1:
        return [f'answers of the kind "{kind}" are always reviewed'], ""
    shown = probability_text(confidence.probability)
    # "not >=" rather than "<": a probability that is not a number must be held.
    if not confidence.probability >= threshold:
        return [f'low confidence: probability {shown} of "{kind}" is below {threshold:.2f}'], ""
    return [], f'probability {shown} of "{kind}" is at or above {threshold:.2f}'


def intended_use_doubts(acceptance: Acceptance, patient_age_years: float | None) -> tuple[str, ...]:
    """Return what speaks against an adapter's intended use, one sentence each; empty where nothing does.

    An unknown age is not taken for an adult's.
    """
    if acceptance.min_age_years is None:
        return ()
    least = f"{acceptance.min_age_years:g} years"
    if patient_age_years is None:
        return (f"the patient's age is unknown, and the adapter is for patients of {least} and older",)
    if patient_age_years < acceptance.min_age_years:
        return (f"the patient is {patient_age_years:.0f} years old, and the adapter is for {least} and older",)
    return ()


def in_audit_sample(audit_key: str, audit_fraction: float) -> bool:
    """Tell whether this answer is drawn for audit: deterministic, so that a re-run draws the same."""
    if audit_fraction <= 0:
        return False
    draw = int.from_bytes(hashlib.sha256(f"audit:{audit_key}".encode()).digest()[:8], "big") / 2**64
    return draw < audit_fraction


def likelihood_of_spans(tokens: Sequence[TokenLogprob], spans: Iterable[tuple[int, int]]) -> float | None:
    """Return the joint probability of the tokens that overlap any of the spans of the joined token text.

    Spans are (start, end) in characters, end exclusive. ``None`` where no token overlaps one.
    """
    wanted = list(spans)
    total, touched, start = 0.0, False, 0
    for token in tokens:
        end = start + len(token.token)
        if any(start < stop and begin < end for begin, stop in wanted):
            total += token.logprob
            touched = True
        start = end
    # A server's figure may be no number: that is no likelihood, and must not pass for certainty.
    return math.exp(min(0.0, total)) if touched and not math.isnan(total) else None


def is_of_words(confidence: Confidence) -> bool:
    """Tell whether the figure says only how likely the words of an answer are, and nothing of whether they are true."""
    return not confidence.calibrated and OF_WORDS in confidence.method


def text_confidence(generation: Generation, span: tuple[int, int] | None = None) -> Confidence:
    """Return how sure the model is of its free text: uncalibrated, and never of whether the text is true.

    Without repeated answers this is the length-normalised likelihood: the geometric mean of the probabilities of the
    answer's tokens (Malinin and Gales, Uncertainty estimation in autoregressive structured prediction, ICLR 2021).
    With them (`Generation.samples`) it is the lower of that and the mean agreement of the answer with each: an answer
    that the model does not repeat is not trusted, however likely its words (self-consistency: Wang et al., ICLR 2023),
    and one that it repeats is trusted no more than its words. Agreement is the Jaccard similarity of the sets of words
    (Lin et al., Generating with confidence, TMLR 2024); a single "no" more or less hardly changes it.

    Args:
        generation: The raw answer; the model's thinking is left out of account.
        span: Which characters of the joined token text count for the likelihood, (start, end), end exclusive.

    Returns:
        Probability 0 where the engine reports no usable likelihood.
    """
    joined = "".join(token.token for token in generation.tokens)
    start, end = span or (0, len(joined))
    thought = joined.rfind(THINKING_ENDS)
    if thought >= 0:
        start = max(start, thought + len(THINKING_ENDS))
    likelihood = _mean_likelihood(generation.tokens, start, end)
    if likelihood is None:
        return Confidence(0.0, calibrated=False, method="no likelihood reported by the engine")
    method = OF_WORDS
    if not generation.samples:
        return Confidence(likelihood, calibrated=False, method=method)
    method = f"lower of {method} and agreement with {len(generation.samples)} repeated answers"
    return Confidence(min(likelihood, _agreement(generation)), calibrated=False, method=method)


def _mean_likelihood(tokens: Sequence[TokenLogprob], start: int, end: int) -> float | None:
    """Return the geometric mean of the tokens' probabilities between two characters; None where there is none."""
    logprobs, at = [], 0
    for token in tokens:
        begin, at = at, at + len(token.token)
        if begin < end and start < at:
            logprobs.append(token.logprob)
    if not logprobs or not all(math.isfinite(logprob) for logprob in logprobs):
        return None
    return math.exp(min(0.0, sum(logprobs) / len(logprobs)))


def _agreement(generation: Generation) -> float:
    """Return the mean Jaccard similarity of the answer's words with each repeated answer's, in [0, 1]."""
    own = _words(generation)
    others = [_words(replace(generation, text=sample)) for sample in generation.samples]
    return sum(len(own & other) / max(1, len(own | other)) for other in others) / len(others)


def _words(generation: Generation) -> frozenset[str]:
    """Return the set of words of an answer without its thinking; empty where there is no answer."""
    text = answer_text(generation)
    return frozenset() if isinstance(text, ParseFailure) else frozenset(re.findall(r"\w+", text.lower()))
