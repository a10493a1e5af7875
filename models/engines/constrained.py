"""Constrained decoding: only tokens that keep the answer a beginning of valid JSON for the schema may be chosen.

Input: a JSON schema, and the scores of each step of one answer. Output: the scores, with every other token at minus
infinity. On failure (a schema the grammar cannot express): `EngineError` before anything is generated.

The answer has one whitespace style, none, unless the schema says otherwise under "x-guidance".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import llguidance
import llguidance.hf
import llguidance.numpy
import numpy as np
import torch

from models.engines.configuration import EngineError

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class SchemaCompiler:
    """The vocabulary of one tokenizer, prepared once (about a second on 262 thousand tokens)."""

    def __init__(self, tokenizer: Any, vocabulary_size: int, eos_token_ids: Sequence[int]) -> None:
        # The model may have more rows than the tokenizer has tokens; none of these can be allowed.
        self._vocabulary_size = vocabulary_size
        self._tokenizer = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=vocabulary_size, eos_token=list(eos_token_ids), slices=None
        )

    def compile(self, schema: Mapping[str, Any]) -> SchemaMask:
        """Return the mask for one answer."""
        written = {"x-guidance": _COMPACT, **schema}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(written))
        problem = llguidance.LLMatcher.validate_grammar(grammar, self._tokenizer)
        if problem and not problem.startswith("WARNING"):
            raise EngineError(f"this JSON schema cannot constrain an answer: {problem}; simplify the adapter's schema")
        return SchemaMask(llguidance.LLMatcher(self._tokenizer, grammar), self._vocabulary_size)


class SchemaMask:
    """Follows one answer token by token."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._bitmask = np.zeros((1, (vocabulary_size + 31) // 32), dtype=np.int32)

    def restrict(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the next token's scores, shape (vocabulary,), with forbidden tokens at minus infinity."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bitmask, 0)
        allowed = np.unpackbits(self._bitmask.view(np.uint8), bitorder="little")[: scores.shape[-1]].astype(bool)
        if not allowed.any():
            raise EngineError(f"no token can continue the JSON answer: {self._matcher.get_error() or 'dead end'}")
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))

    def consume(self, token: int) -> None:
        """Take note of the token that was chosen."""
        self._matcher.consume_token(token)

    def is_complete(self) -> bool:
        """Return whether the answer so far is a whole document."""
        return bool(self._matcher.is_accepting() or self._matcher.is_stopped())
