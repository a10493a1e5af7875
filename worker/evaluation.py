"""Cases with known truth -> an adapter's answers -> its author's figures.

Input: an engine, an adapter as asked, checked cases. Output: an `Evaluation` with every answer. A case that cannot be
rendered or answered is counted as failed, an answer that does not parse as unparsed; both count as wrong. The whole
never fails for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from models.adapter import AdapterDefinition
from models.calibration import Calibration
from models.evaluation.families import Family
from models.evaluation.figures import Figure
from models.evaluation.manifest import Case
from models.evaluation.reliability import Reliability, reliability
from models.generation import Engine, Generation, GenerationFailure, GenerationRequest, ModelProvenance
from models.parsing import ParseFailure
from models.prompting import build_request
from models.rendering import RenderError
from worker.schemas import STANDIN_NOTICE


@dataclass(frozen=True, slots=True)
class AnsweredCase:
    """One case with what came of it."""

    case: str
    truth: Mapping[str, Any]
    #: The raw answer; None where there is none.
    text: str | None = None
    #: In the form of the adapter's findings; None where the answer did not parse.
    findings: Mapping[str, Any] | None = None
    #: Why there is no answer, or why it did not parse; empty where it did.
    failure: str = ""
    #: How good it is, in [0, 1]; right and wrong are 1 and 0.
    quality: float = 0.0
    probability: float | None = None
    calibrated_probability: float | None = None
    elapsed_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one adapter and task on one manifest."""

    title: str
    adapter: str
    version: str
    task: str
    prompt: str
    #: When an answer counts as right; empty for text.
    right_means: str
    provenance: ModelProvenance
    figures: tuple[Figure, ...]
    #: Of the raw probabilities, then of the calibrated ones where there is a calibration.
    reliability: tuple[Reliability, ...]
    warnings: tuple[str, ...]
    answers: tuple[AnsweredCase, ...]

    def to_json(self, manifest: str) -> dict[str, Any]:
        """Return a JSON-ready dictionary without the single answers."""
        failed = sum(answer.text is None for answer in self.answers)
        unparsed = sum(answer.text is not None and answer.findings is None for answer in self.answers)
        return {
            "title": self.title,
            "adapter": self.adapter,
            "version": self.version,
            "task": self.task,
            "prompt": self.prompt,
            "manifest": manifest,
            "entries": len(self.answers),
            "answered": len(self.answers) - failed,
            "unparsed": unparsed,
            "failed": failed,
            "notice": STANDIN_NOTICE if self.provenance.is_standin else None,
            "provenance": self.provenance.to_json(),
            "right_means": self.right_means,
            "figures": [figure.to_json() for figure in self.figures],
            "reliability": [curve.to_json() for curve in self.reliability],
            "warnings": list(self.warnings),
        }


def evaluate(
    engine: Engine,
    adapter: AdapterDefinition,
    family: Family,
    task: str,
    cases: Sequence[Case],
    *,
    batch: int = 1,
    calibration_of: Callable[[ModelProvenance], Calibration | None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Ask an adapter about all cases and compute its figures.

    Args:
        engine: Answers for the adapter.
        adapter: As asked.
        family: Its figures.
        task: The task's name; empty where the adapter has but one question.
        cases: At least one.
        batch: Requests in one call to the engine.
        calibration_of: The calibration in use for these weights, if any.
        progress: Called with the number of cases that are done, after each batch.
    """
    calibration: Calibration | None = None
    answers: list[AnsweredCase] = []
    for some in _batches(cases, batch):
        replies = _replies(engine, adapter, some)
        if not answers:
            calibration = calibration_of(engine.provenance(adapter.name))
        answers += [
            _answered(adapter, family, case, reply, calibration) for case, reply in zip(some, replies, strict=True)
        ]
        progress(len(some))
    measured = family.measure([answer.truth for answer in answers], [answer.findings for answer in answers])
    quality, binary = [answer.quality for answer in answers], bool(family.right_means)
    curves = [reliability("raw", [answer.probability for answer in answers], quality, binary=binary)]
    if calibration is not None:
        sure = [answer.calibrated_probability for answer in answers]
        curves.append(reliability(f"calibration {calibration.version}", sure, quality, binary=binary))
    return Evaluation(
        title=family.title,
        adapter=adapter.name,
        version=adapter.version,
        task=task,
        prompt=adapter.prompt.user,
        right_means=family.right_means,
        provenance=engine.provenance(adapter.name),
        figures=measured.figures,
        reliability=tuple(curves),
        warnings=(*measured.warnings, *_own_warnings(answers)),
        answers=tuple(answers),
    )


def _batches(cases: Sequence[Case], size: int) -> Iterator[list[Case]]:
    left = iter(cases)
    while some := list(islice(left, max(1, size))):
        yield some


def _replies(engine: Engine, adapter: AdapterDefinition, cases: Sequence[Case]) -> list[Generation | GenerationFailure]:
    """Return the answer to each case, or why there is none; cases that cannot be rendered are not asked about."""
    requests: list[GenerationRequest | GenerationFailure] = []
    for case in cases:
        try:
            requests.append(build_request(adapter, case.model_input(adapter)))
        except RenderError as error:
            failure = GenerationFailure(f"the images cannot be shown to the model: {error}", transient=False)
            requests.append(failure)
    generated = iter(engine.generate([one for one in requests if isinstance(one, GenerationRequest)]))
    return [one if isinstance(one, GenerationFailure) else next(generated) for one in requests]


def _answered(
    adapter: AdapterDefinition,
    family: Family,
    case: Case,
    reply: Generation | GenerationFailure,
    calibration: Calibration | None,
) -> AnsweredCase:
    if isinstance(reply, GenerationFailure):
        return AnsweredCase(case.name, case.truth, failure=reply.reason)
    found = adapter.parse(reply)
    if isinstance(found, ParseFailure):
        why = f"did not parse: {found.reason}"
        return AnsweredCase(case.name, case.truth, reply.text, failure=why, elapsed_s=reply.elapsed_s)
    findings = found.model_dump(mode="json")
    confidence = adapter.confidence(reply, found)
    sobered = None if calibration is None else calibration.apply(confidence)
    return AnsweredCase(
        case=case.name,
        truth=case.truth,
        text=reply.text,
        findings=findings,
        quality=family.quality(case.truth, findings),
        probability=confidence.probability,
        calibrated_probability=None if sobered is None else sobered.probability,
        elapsed_s=reply.elapsed_s,
    )


def _own_warnings(answers: Sequence[AnsweredCase]) -> list[str]:
    failed = [answer for answer in answers if answer.text is None]
    said = []
    if failed:
        said.append(f"{len(failed)} cases failed and count as wrong; the first: {failed[0].case}: {failed[0].failure}")
    if len(answers) < 30:
        said.append(f"{len(answers)} cases are few: mind the intervals")
    return said
