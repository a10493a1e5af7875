"""One batch of questions to one base model: read, then scored or decoded.

Input: encoded requests. Output: a `FoundAnswer` for each, in order. On failure: whatever went wrong; the engine finds
out which request is at fault. What several questions share is read once: the system text and the images up to the end
of the last one (the prefix), which a question alone in its batch leaves behind for the next on the same images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from models.engines.constrained import SchemaCompiler
from models.engines.decoding import AnswerRow, DecodedAnswer, decode, split_text
from models.engines.embeddings import ImageCache
from models.engines.encoding import EncodedQuestion
from models.engines.reading import Opening, PrefixCache, Reading, read, read_on
from models.engines.resident import Resident
from models.engines.scoring import label_probabilities, score_labels
from models.generation import (
    AnswerForm,
    Generation,
    GenerationRequest,
    JsonAnswer,
    LabelAnswer,
    TextAnswer,
    TokenLogprob,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be put to the model."""

    request: GenerationRequest
    question: EncodedQuestion
    #: Digest of the adapter's weights; the base's where none is asked.
    digest: str

    @property
    def adapter(self) -> str:
        """Return the adapter's name."""
        return self.request.adapter

    @property
    def prefix(self) -> tuple[str, str]:
        """Return what the prefix is remembered under."""
        return self.digest, self.question.prefix_digest()


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """What the model answered to one question."""

    decoded: DecodedAnswer
    label_scores: Mapping[str, float] | None
    samples: tuple[str, ...]
    prompt_tokens: int

    def generation(self, elapsed_s: float) -> Generation:
        """Return the answer with the time that was spent on it (its share of the batch's)."""
        return Generation(
            text=self.decoded.text,
            tokens=self.decoded.tokens,
            label_scores=self.label_scores,
            finish_reason=self.decoded.finish_reason,
            prompt_tokens=self.prompt_tokens,
            elapsed_s=elapsed_s,
            samples=self.samples,
        )


class Answerer:
    """Answers batches on one resident base."""

    def __init__(self, resident: Resident, prefixes: PrefixCache, images: ImageCache, batch: int) -> None:
        """Take the model and what is remembered; `batch` is how many answers are decoded at once."""
        self.resident, self.prefixes, self._images, self._batch = resident, prefixes, images, batch
        self._schemas: SchemaCompiler | None = None

    def check(self, form: AnswerForm) -> None:
        """Make sure that an answer of this form can be given. Raises `EngineError` for a schema that cannot hold."""
        if isinstance(form, JsonAnswer):
            self._compiler().compile(form.json_schema)

    def answer(self, batch: Sequence[Asked]) -> list[FoundAnswer]:
        """Answer every question of a batch."""
        openings = self._read(batch)
        decoded = self._decode_all(batch, openings)
        answers = []
        for number, (asked, opening) in enumerate(zip(batch, openings, strict=True)):
            form, length = asked.request.answer_form, len(asked.question.ids)
            if isinstance(form, LabelAnswer):
                scored, chances = self._score(opening, form)
                answers.append(FoundAnswer(scored, chances, (), length))
            else:
                first, *drawn = decoded[number]
                answers.append(FoundAnswer(first, None, tuple(sample.text for sample in drawn), length))
        return answers

    def _read(self, batch: Sequence[Asked]) -> list[Opening]:
        """Read all questions; each prefix that is known, shared or worth keeping is read apart, once."""
        shared = Counter(asked.prefix for asked in batch)
        prefixes: dict[tuple[str, str], Opening] = {}
        openings: dict[int, Opening] = {}
        apart: list[int] = []
        for number, asked in enumerate(batch):
            if asked.question.prefix == 0 or self.prefixes.room == 0:
                continue
            known = self.prefixes.get(asked.prefix)
            if known is not None and asked.prefix not in prefixes:
                prefixes[asked.prefix] = known
                self.prefixes.reused += 1
            if known is not None or shared[asked.prefix] > 1 or len(batch) == 1:
                apart.append(number)
        unread = {batch[number].prefix: batch[number] for number in apart if batch[number].prefix not in prefixes}
        whole = [number for number in range(len(batch)) if number not in apart]
        to_read = [(asked, asked.question.prefix) for asked in unread.values()]
        to_read += [(batch[number], len(batch[number].question.ids)) for number in whole]
        found = self._read_from_start(to_read)
        for key, opening in zip(unread, found, strict=False):
            prefixes[key] = opening
            self.prefixes.keep(key, opening)
        openings = dict(zip(whole, found[len(unread) :], strict=True))
        if apart:
            more = [batch[number].question.ids[batch[number].question.prefix :] for number in apart]
            begun = [prefixes[batch[number].prefix] for number in apart]
            openings |= dict(zip(apart, read_on(self.resident, begun, more), strict=True))
        return [openings[number] for number in range(len(batch))]

    def _read_from_start(self, to_read: Sequence[tuple[Asked, int]]) -> list[Opening]:
        """Read the first so many tokens of each question, with all its images."""
        if not to_read:
            return []
        embeddings: dict[str, dict[str, torch.Tensor]] = {}
        for adapter in dict.fromkeys(asked.adapter for asked, _ in to_read):
            own = [asked for asked, _ in to_read if asked.adapter == adapter]
            pictures = {
                digest: image
                for asked in own
                for digest, image in zip(asked.question.images, asked.request.images, strict=True)
            }
            embeddings[adapter] = self._images.embeddings(self.resident, adapter, own[0].digest, pictures)
        return read(
            self.resident,
            [
                Reading(
                    asked.adapter,
                    asked.question.ids[:length],
                    [embeddings[asked.adapter][digest] for digest in asked.question.images],
                )
                for asked, length in to_read
            ],
        )

    def _decode_all(self, batch: Sequence[Asked], openings: Sequence[Opening]) -> dict[int, list[DecodedAnswer]]:
        """Return for each question that wants words: the greedy answer, then the drawn ones."""
        rows: list[tuple[int, AnswerRow]] = []
        for number, asked in enumerate(batch):
            form = asked.request.answer_form
            if isinstance(form, LabelAnswer):
                continue
            mask = self._compiler().compile(form.json_schema) if isinstance(form, JsonAnswer) else None
            rows.append((number, AnswerRow(openings[number], form.max_new_tokens, mask)))
            for draw in range(asked.request.samples if isinstance(form, TextAnswer) else 0):
                seed = asked.question.seed(draw)
                rows.append((number, AnswerRow(openings[number], form.max_new_tokens, seed=seed)))
        decoded: dict[int, list[DecodedAnswer]] = {number: [] for number, _ in rows}
        for start in range(0, len(rows), self._batch):
            chunk = rows[start : start + self._batch]
            for (number, _), answer in zip(chunk, decode(self.resident, [row for _, row in chunk]), strict=True):
                decoded[number].append(answer)
        return decoded

    def _score(self, opening: Opening, form: LabelAnswer) -> tuple[DecodedAnswer, dict[str, float]]:
        tokenizer = self.resident.processor.tokenizer
        labels = [tokenizer(f"{label}<end_of_turn>", add_special_tokens=False).input_ids for label in form.labels]
        scores = score_labels(self.resident, opening, labels)
        chances = label_probabilities(scores)
        best = chances.index(max(chances))
        # Without the end of the turn, so that here too the tokens joined are the text.
        spelled = split_text(tokenizer, labels[best][:-1])
        tokens = tuple(TokenLogprob(token, score) for token, score in zip(spelled, scores[best], strict=False))
        return DecodedAnswer(form.labels[best], tokens, "labels"), dict(zip(form.labels, chances, strict=True))

    def _compiler(self) -> SchemaCompiler:
        if self._schemas is None:
            resident = self.resident
            rows = resident.model.get_input_embeddings().num_embeddings
            self._schemas = SchemaCompiler(resident.processor.tokenizer, rows, resident.eos_token_ids)
        return self._schemas
