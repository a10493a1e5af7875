"""A request in the words of the OpenAI protocol, and a server's answer read back. Pure: nothing here opens a socket.

Input: a `GenerationRequest`; a choice of a chat completion. Output: the JSON body of `POST /chat/completions`; text,
tokens, label scores and why it ended. On failure: `ValueError` where pictures and their places do not match.

What goes into a body is written here and nowhere else: the model's name, the prompt, the pictures, and how to decode.
Pictures are PNG, because the model must see the very pixels whose digest the ledger keeps, and JPEG changes them.

Field names: OpenAI API reference, "Create chat completion"; `skip_special_tokens`, `reasoning_content` and `reasoning`
are vLLM's (docs.vllm.ai, "OpenAI-Compatible Server", "Reasoning Outputs").
"""

from __future__ import annotations

import base64
import codecs
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from PIL import Image

from models.generation import AnswerForm, GenerationRequest, JsonAnswer, LabelAnswer, RgbImage, TokenLogprob
from models.parsing import THINKING_ENDS, THINKING_STARTS

#: Room for a label that comes in a sentence.
LABEL_TOKENS = 32
#: The most that the protocol gives for one place.
TOP_LOGPROBS = 20
#: One sampled answer differs from the next by its seed, and a repeated job draws the same ones.
FIRST_SEED = 1
#: Tokens that could begin several labels may hold this share of the labels' mass before the scores are given up.
_NEGLIGIBLE = 1e-3
_STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn"})


class Offer(StrEnum):
    """Parts of a request that not every server knows. Each can be left out; the answer is then read all the same."""

    #: Constrained JSON. Without it the answer is free text, and is parsed leniently.
    RESPONSE_FORMAT = "response_format"
    #: The other candidates for a token. Without them no label is scored.
    TOP_LOGPROBS = "top_logprobs"
    #: Without them the confidence says that the engine reported no likelihood.
    LOGPROBS = "logprobs"
    #: Keeps the marks around a model's thinking in the text.
    SKIP_SPECIAL_TOKENS = "skip_special_tokens"
    SEED = "seed"
    #: Several answers at once.
    N = "n"


#: What a server's refusal says about each, in the order in which they are given up.
_REFUSALS: Mapping[Offer, tuple[str, ...]] = {
    Offer.RESPONSE_FORMAT: ("response_format", "json_schema", "json schema", "guided", "structured output", "grammar"),
    Offer.TOP_LOGPROBS: ("logprob",),
    Offer.LOGPROBS: ("logprob",),
    Offer.SKIP_SPECIAL_TOKENS: ("skip_special_tokens",),
    Offer.SEED: ("seed",),
    Offer.N: ("",),
}


@dataclass(frozen=True, slots=True)
class ChoiceRead:
    """One choice of a chat completion; the fields are those of `Generation`."""

    text: str
    tokens: tuple[TokenLogprob, ...]
    label_scores: Mapping[str, float] | None
    finish_reason: str


def completion_body(
    request: GenerationRequest, model: str, images: Sequence[str], left_out: Collection[Offer] = ()
) -> dict[str, Any]:
    """Return the body that asks for the greedy answer; `images` are data URIs in the request's order."""
    form = request.answer_form
    body: dict[str, Any] = {
        "model": model,
        "messages": chat_messages(request.messages, images),
        "temperature": 0,
        "max_tokens": LABEL_TOKENS if isinstance(form, LabelAnswer) else form.max_new_tokens,
        Offer.LOGPROBS.value: True,
        Offer.SEED.value: 0,
        Offer.SKIP_SPECIAL_TOKENS.value: False,
    }
    if isinstance(form, LabelAnswer):
        body[Offer.TOP_LOGPROBS.value] = TOP_LOGPROBS
    elif isinstance(form, JsonAnswer):
        body[Offer.RESPONSE_FORMAT.value] = {
            "type": "json_schema",
            "json_schema": {"name": request.adapter, "schema": dict(form.json_schema), "strict": True},
        }
    return {name: value for name, value in body.items() if name not in left_out}


def sampling_body(greedy: Mapping[str, Any], count: int, already: int, left_out: Collection[Offer]) -> dict[str, Any]:
    """Return the body that asks for `count` further answers, drawn from the model's own distribution."""
    unwanted = {Offer.LOGPROBS.value, Offer.TOP_LOGPROBS.value}
    body = {name: value for name, value in greedy.items() if name not in unwanted}
    body |= {"temperature": 1, "top_p": 1}
    if Offer.SEED.value in body:
        body[Offer.SEED.value] = FIRST_SEED + already
    if count > 1 and Offer.N not in left_out:
        body[Offer.N.value] = count
    return body


def refused_offer(words: str, body: Mapping[str, Any]) -> Offer | None:
    """Return which part of the body a server's refusal is about; None where it is about something that must be."""
    said = words.lower()
    for offer, signs in _REFUSALS.items():
        if offer.value in body and any(sign in said for sign in signs):
            return offer
    return None


def chat_messages(messages: Sequence[Mapping[str, Any]], images: Sequence[str]) -> list[dict[str, Any]]:
    """Return messages in the OpenAI form, each image place taken by the next data URI.

    Raises:
        ValueError: There are more or fewer images than places.
    """
    left = list(images)
    written: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            written.append({"role": message["role"], "content": content})
            continue
        parts: list[dict[str, Any]] = []
        for part in content:
            if part.get("type") == "image":
                # More places than images: counted below.
                parts.append({"type": "image_url", "image_url": {"url": left.pop(0) if left else ""}})
            else:
                parts.append({"type": "text", "text": part["text"]})
        # Some servers take a system prompt as plain text only.
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        written.append({"role": message["role"], "content": parts[0]["text"] if plain else parts})
    places = sum(
        part.get("type") == "image" for m in messages if not isinstance(m["content"], str) for part in m["content"]
    )
    if places != len(images):
        raise ValueError(f"the messages hold {places} image places, but {len(images)} images came along")
    return written


def png_data_uri(image: RgbImage) -> str:
    """Return an image as a PNG data URI, without any text chunk."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def read_choice(choice: Mapping[str, Any], form: AnswerForm) -> ChoiceRead:
    """Return what a choice says.

    Thinking that the server has split off is put before the answer, between the marks that the model itself uses:
    parsers take what follows the second mark, and a reviewer can read the rest.
    """
    message = choice["message"]
    content = _text(message, "content") or _text(message, "refusal")
    thinking = _text(message, "reasoning_content") or _text(message, "reasoning")
    finish = "stop" if choice.get("finish_reason") in _STOPPED else "length"
    places = _places(choice)
    tokens = _tokens_of(places, content)
    text = content
    if thinking:
        # Cut off while it was thinking, there is no second mark: that is how a parser knows.
        text = f"{THINKING_STARTS}{thinking}{THINKING_ENDS if content else ''}{content}"
    scores = None
    if isinstance(form, LabelAnswer) and tokens:
        scores = _label_scores(places, content, form.labels)
    return ChoiceRead(text, tokens, scores, "labels" if scores else finish)


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in the answer: its token, and the candidates the server names for it."""

    token: TokenLogprob
    candidates: tuple[TokenLogprob, ...]


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    return value if isinstance(value, str) else ""


def _places(choice: Mapping[str, Any]) -> list[_Place]:
    """Return the tokens with their likelihoods; empty where the server gives none, or none that can be read."""
    try:
        entries = (choice.get("logprobs") or {}).get("content") or []
        pieces = _pieces(entries)
        return [
            _Place(_token(piece, entry), tuple(_token(top["token"], top) for top in entry.get("top_logprobs") or ()))
            for piece, entry in zip(pieces, entries, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _token(text: str, entry: Mapping[str, Any]) -> TokenLogprob:
    logprob = float(entry["logprob"])
    if math.isnan(logprob):
        raise ValueError("a likelihood that is no number")
    return TokenLogprob(text, min(0.0, logprob))


def _pieces(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each token's share of the text; a character spread over several is counted to the last of them."""
    if not all(isinstance(entry.get("bytes"), list) for entry in entries):
        return [str(entry["token"]) for entry in entries]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(bytes(entry["bytes"])) for entry in entries]


def _tokens_of(places: Sequence[_Place], content: str) -> tuple[TokenLogprob, ...]:
    """Return the tokens that spell the answer, so that joined they are it: without thinking and the end of the turn.

    Empty where they spell something else: their likelihoods would be those of other words.
    """
    start = "".join(place.token.token for place in places).rfind(content) if content else -1
    if start < 0:
        return ()
    end, at, kept = start + len(content), 0, []
    for place in places:
        piece, after = place.token.token, at + len(place.token.token)
        inside = piece[max(0, start - at) : max(0, end - at)]
        if inside:
            kept.append(TokenLogprob(inside, place.token.logprob))
        at = after
    return tuple(kept)


def _label_scores(places: Sequence[_Place], content: str, labels: Sequence[str]) -> dict[str, float] | None:
    """Return label -> probability by the candidates for the first word of the answer, renormalised over the labels.

    None where that would not be honest: a label is not among the candidates, a candidate may begin several labels, or
    the answer does not go on to be the label that its first token speaks for.
    """
    joined = "".join(place.token.token for place in places)
    answer = content.rpartition(THINKING_ENDS)[2]
    begins = joined.rfind(content) + len(content) - len(answer) + len(answer) - len(answer.lstrip())
    at = 0
    for place in places:
        at += len(place.token.token)
        if at > begins:
            return _scored(place.candidates, answer.strip(), labels)
    return None


def _scored(candidates: Sequence[TokenLogprob], answer: str, labels: Sequence[str]) -> dict[str, float] | None:
    mass = dict.fromkeys(labels, 0.0)
    unclear = 0.0
    for candidate in candidates:
        word = candidate.token.strip().lower()
        begun = [label for label in labels if word and label.lower().startswith(word)]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(candidate.logprob)
        elif begun:
            unclear += math.exp(candidate.logprob)
    total = sum(mass.values())
    if min(mass.values()) <= 0 or unclear > _NEGLIGIBLE * total:
        return None
    best = max(mass, key=lambda label: mass[label])
    if not re.match(rf"{re.escape(best)}\b", answer, re.IGNORECASE):
        return None
    return {label: share / total for label, share in mass.items()}
