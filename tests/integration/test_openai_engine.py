"""The engine over the OpenAI protocol, against a real HTTP server with the stand-in behind it, and all its faults."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi import Response
from PIL import Image

from models.adapters.abdominal_trauma.adapter import ADAPTER as TRAUMA
from models.adapters.dsa_patency.adapter import ADAPTER as DSA
from models.engines import BASE_ONLY, AdapterWeights, EngineConfig, EngineError, EngineKind, WeightsReference
from models.engines import OpenAIServer as ServerSettings
from models.engines.openai import OpenAIEngine, check_server
from models.engines.standin import StandinEngine, load_standin
from models.generation import Generation, GenerationFailure, GenerationRequest, LabelAnswer, TextAnswer
from models.parsing import ParseFailure, answer_text
from models.phantoms import draw_vessel_run
from models.standin.evaluation import held_out, request_for
from tests.integration.hospital import at_once
from tests.services import free_port
from tests.services.openai_server import OpenAIServer, png_of, refusal
from tests.tls_files import TlsFiles, make_tls_files
from worker.demo.phantom_studies import write_xa_run
from worker.engine_setup import engine_config
from worker.settings import Settings

#: Names on the server; the trauma adapter goes by its own.
NAMES = {"vessels": "dsa_patency", "abdominal_trauma": "abdominal_trauma"}
KEY = "sk-very-secret"


@pytest.fixture(scope="module")
def standin() -> Iterator[StandinEngine]:
    engine = load_standin()
    yield engine
    engine.close()


@pytest.fixture
def server(standin: StandinEngine) -> Iterator[OpenAIServer]:
    serving = OpenAIServer(standin, NAMES)
    serving.start()
    yield serving
    serving.stop()


def config_for(base_url: str, **changes: Any) -> EngineConfig:
    """Return what `engine_config` makes of settings for this server and both adapters."""
    chosen: dict[str, Any] = {"models": {"dsa_patency": "vessels"}, "timeout_s": 20.0, "attempts": 2, **changes}
    return EngineConfig(
        kind=EngineKind.OPENAI,
        bases={DSA.base.hub_id: WeightsReference(DSA.base.hub_id)},
        adapters={
            adapter.name: AdapterWeights(WeightsReference(adapter.lora.hub_id), adapter.base.hub_id)
            for adapter in (DSA, TRAUMA)
        },
        server=ServerSettings(base_url, **chosen),
    )


@pytest.fixture
def opened(server: OpenAIServer) -> Iterator[Callable[..., OpenAIEngine]]:
    """A function that opens an engine on the server; all are closed in the end."""
    engines: list[OpenAIEngine] = []

    def open_engine(**changes: Any) -> OpenAIEngine:
        engines.append(OpenAIEngine(config_for(server.base_url, **changes)))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def dsa_requests() -> list[GenerationRequest]:
    lessons = held_out("dsa_patency", 20)
    opened = [lesson for lesson in lessons if lesson.truth["patency"] == "patent"]
    blocked = [lesson for lesson in lessons if lesson.truth["patency"] == "blocked"]
    return [request_for(lesson) for pair in zip(opened[:2], blocked[:2], strict=True) for lesson in pair]


@pytest.fixture(scope="module")
def trauma_request() -> GenerationRequest:
    return request_for(held_out("abdominal_trauma", 1)[0])


def answered(outcome: Generation | GenerationFailure) -> Generation:
    assert isinstance(outcome, Generation), outcome
    return outcome


def failed(outcome: Generation | GenerationFailure) -> GenerationFailure:
    assert isinstance(outcome, GenerationFailure), outcome
    return outcome


# Answers


def test_vessels_are_answered_as_by_the_stand_in_itself(
    opened: Callable[..., OpenAIEngine], standin: StandinEngine, dsa_requests: list[GenerationRequest]
) -> None:
    ours = [answered(one) for one in opened().generate(dsa_requests)]
    own = [answered(one) for one in standin.generate(dsa_requests)]
    assert [one.text for one in ours] == [one.text for one in own]
    assert {one.text for one in ours} == {"patent", "blocked"}, "otherwise the order would not show"
    for our, its in zip(ours, own, strict=True):
        assert our.finish_reason == "labels"
        assert our.prompt_tokens == 17
        assert our.label_scores is not None and its.label_scores is not None
        assert sum(our.label_scores.values()) == pytest.approx(1)
        # The stand-in scores the label with the end of the turn, the server's candidates are the label alone.
        assert our.label_scores == pytest.approx(its.label_scores, abs=0.02)
        findings = DSA.parse(our)
        assert not isinstance(findings, ParseFailure)
        assert DSA.confidence(our, findings).method == "label likelihood"


def test_an_abdomen_is_answered_as_by_the_stand_in_itself(
    opened: Callable[..., OpenAIEngine],
    server: OpenAIServer,
    standin: StandinEngine,
    trauma_request: GenerationRequest,
) -> None:
    (ours,), (own,) = opened().generate([trauma_request]), standin.generate([trauma_request])
    our, its = answered(ours), answered(own)
    assert our.text == its.text
    assert "".join(token.token for token in our.tokens) == our.text, "the end of the turn is no part of the answer"
    assert our.finish_reason == "stop"
    findings = TRAUMA.parse(our)
    assert not isinstance(findings, ParseFailure)
    assert TRAUMA.confidence(our, findings).probability == pytest.approx(
        TRAUMA.confidence(its, findings).probability, abs=1e-4
    )
    (body,) = server.bodies
    assert body["response_format"]["json_schema"]["schema"] == TRAUMA.answer_form.json_schema  # type: ignore[union-attr]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("abdominal_trauma", 0, 800)


def test_pictures_arrive_as_they_were_rendered_and_in_order(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    opened().generate(dsa_requests[:1])
    (message,) = server.bodies[0]["messages"]
    *pictures, question = message["content"]
    for part, image in zip(pictures, dsa_requests[0].images, strict=True):
        arrived = Image.open(io.BytesIO(png_of(part["image_url"]["url"])))
        assert np.array_equal(np.asarray(arrived), image)
        assert arrived.info == {}, "a text chunk could carry anything"
    assert question["text"] == DSA.prompt.user


def test_a_system_prompt_goes_along_as_plain_text(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    system = {"role": "system", "content": [{"type": "text", "text": "You are a radiologist."}]}
    opened().generate([replace(dsa_requests[0], messages=(system, *dsa_requests[0].messages))])
    assert server.bodies[0]["messages"][0] == {"role": "system", "content": "You are a radiologist."}


def test_further_answers_are_drawn_at_random(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    request = replace(dsa_requests[0], answer_form=TextAnswer(8), samples=3)
    assert len(answered(opened().generate([request])[0]).samples) == 3
    greedy, drawn = server.bodies
    assert (greedy["temperature"], drawn["temperature"], drawn["n"]) == (0, 1, 3)


@pytest.mark.parametrize("how", ["ignored_parts", "unknown_parts"])
def test_further_answers_come_one_by_one_from_a_server_that_gives_one_at_a_time(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest], how: str
) -> None:
    setattr(server.faults, how, {"n"})
    request = replace(dsa_requests[0], answer_form=TextAnswer(8), samples=3)
    assert len(answered(opened().generate([request])[0]).samples) == 3
    seeds = [body["seed"] for body in server.bodies if body["temperature"] == 1 and (how[0] == "i" or "n" not in body)]
    assert len(set(seeds)) == 3, "the same seed would draw the same answer three times"


def test_thinking_is_kept_apart_from_the_answer(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    server.faults.reasoning = "It might be blocked, or patent."
    generation = answered(opened().generate(dsa_requests[:1])[0])
    assert "It might be blocked" in generation.text
    assert answer_text(generation) == "".join(token.token for token in generation.tokens)
    assert not isinstance(DSA.parse(generation), ParseFailure)


def test_what_the_server_does_not_offer_is_done_without_and_remembered(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, trauma_request: GenerationRequest
) -> None:
    server.faults.unknown_parts = {"response_format", "skip_special_tokens", "seed"}
    engine = opened()
    for _ in range(2):
        assert not isinstance(TRAUMA.parse(answered(engine.generate([trauma_request])[0])), ParseFailure)
    assert len(server.bodies) == 3 + 1 + 1, "three refusals once, and two answers"


@pytest.mark.parametrize("how", ["ignored_parts", "unknown_parts"])
def test_without_likelihoods_the_confidence_says_so(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest], how: str
) -> None:
    setattr(server.faults, how, {"logprobs", "top_logprobs"})
    generation = answered(opened().generate(dsa_requests[:1])[0])
    assert (generation.tokens, generation.label_scores) == ((), None)
    findings = DSA.parse(generation)
    assert not isinstance(findings, ParseFailure)
    confidence = DSA.confidence(generation, findings)
    assert (confidence.probability, confidence.method) == (0.0, "no likelihood reported by the engine")


def test_without_other_candidates_no_label_is_scored(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    server.faults.ignored_parts = {"top_logprobs"}
    generation = answered(opened().generate(dsa_requests[:1])[0])
    assert generation.label_scores is None
    findings = DSA.parse(generation)
    assert not isinstance(findings, ParseFailure)
    assert DSA.confidence(generation, findings).method == "token likelihood of the label"


def test_labels_that_are_not_all_among_the_candidates_are_not_scored(
    opened: Callable[..., OpenAIEngine], dsa_requests: list[GenerationRequest]
) -> None:
    request = replace(dsa_requests[0], answer_form=LabelAnswer(("patent", "blocked", "bewitched")))
    assert answered(opened().generate([request])[0]).label_scores is None


# Failures


def raw(status: int, text: str) -> Callable[[], Response]:
    return lambda: Response(text, status, media_type="application/json")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda: refusal(500, "CUDA error"), id="500"),
        pytest.param(lambda: refusal(503, "starting"), id="503"),
        pytest.param(raw(200, '{"choices": [{"message": {"cont'), id="cut off"),
        pytest.param(raw(200, '{"choices": []}'), id="no choices"),
    ],
)
def test_a_passing_fault_is_tried_again(
    opened: Callable[..., OpenAIEngine],
    server: OpenAIServer,
    dsa_requests: list[GenerationRequest],
    fault: Callable[[], Response],
) -> None:
    engine = opened()
    server.faults.next_answers = [fault]
    outcomes = engine.generate(dsa_requests[:1])
    assert len(outcomes) == 1 and answered(outcomes[0]).text in ("patent", "blocked")
    assert len(server.bodies) == 2
    server.faults.next_answers = [fault, fault]
    assert failed(engine.generate(dsa_requests[:1])[0]).transient


def test_retry_after_is_heeded(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    engine = opened()
    server.faults.next_answers = [lambda: refusal(429, "too many requests", {"Retry-After": "2"})]
    started = time.monotonic()
    answered(engine.generate(dsa_requests[:1])[0])
    assert time.monotonic() - started >= 2
    # Longer than an answer may take: the job comes back later instead of holding a place.
    server.faults.next_answers = [lambda: refusal(429, "too many requests", {"Retry-After": "3600"})]
    outcome = failed(engine.generate(dsa_requests[:1])[0])
    assert outcome.transient and "429: too many requests" in outcome.reason


def test_a_server_that_hangs_is_left_in_time(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    engine = opened(timeout_s=0.3)
    server.faults.delay_s = 1.5
    outcome = failed(engine.generate(dsa_requests[:1])[0])
    assert outcome.transient and "engine.openai.timeout_s" in outcome.reason


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_a_refusal_keeps_the_words_of_the_server_and_is_not_repeated(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest], status: int
) -> None:
    server.faults.next_answers = [lambda: refusal(status, "The decoder prompt is too long. " + "x" * 100_000)]
    first, second = opened(concurrency=1).generate(dsa_requests[:2])
    outcome = failed(first)
    assert not outcome.transient
    assert f"answered {status}: The decoder prompt is too long." in outcome.reason
    assert len(outcome.reason) < 800
    answered(second)
    assert len(server.bodies) == 2


def test_a_redirect_is_not_followed(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    server.faults.next_answers = [lambda: Response(status_code=307, headers={"Location": "http://192.0.2.1/v1"})]
    outcome = failed(opened().generate(dsa_requests[:1])[0])
    assert not outcome.transient and "no other address than engine.openai.base_url" in outcome.reason


def test_requests_that_do_not_fit_fail_alone(
    opened: Callable[..., OpenAIEngine], dsa_requests: list[GenerationRequest]
) -> None:
    short = replace(dsa_requests[0], images=dsa_requests[0].images[:1])
    unknown = replace(dsa_requests[0], adapter="dermatology")
    base = replace(dsa_requests[0], adapter=BASE_ONLY)
    outcomes = opened().generate([short, unknown, dsa_requests[0], base])
    assert "3 image places, but 1 images" in failed(outcomes[0]).reason
    assert "'dermatology' is not one of this engine's (abdominal_trauma, dsa_patency)" in failed(outcomes[1]).reason
    answered(outcomes[2])
    assert "serves no model 'base'" in failed(outcomes[3]).reason


def test_a_server_that_goes_away_and_comes_back(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    engine = opened()
    server.stop()
    outcomes = [failed(one) for one in engine.generate(dsa_requests[:2])]
    assert all(one.transient and "cannot be reached" in one.reason for one in outcomes)
    server.start()
    answered(engine.generate(dsa_requests[:1])[0])


def test_requests_go_side_by_side_up_to_the_limit(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer, dsa_requests: list[GenerationRequest]
) -> None:
    engine = opened(concurrency=2)
    server.faults.delay_s = 0.05
    at_once(engine.generate, [dsa_requests, dsa_requests])
    assert len(server.bodies) == 8
    assert server.most_at_once == 2


def test_a_closed_engine_says_so(opened: Callable[..., OpenAIEngine], dsa_requests: list[GenerationRequest]) -> None:
    engine = opened()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.generate(dsa_requests)


# Start, key, TLS, provenance


def test_missing_models_stop_the_start_and_say_how_to_serve_them(server: OpenAIServer) -> None:
    config = config_for(server.base_url, models={})
    with pytest.raises(EngineError, match="serves no model 'dsa_patency'") as caught:
        OpenAIEngine(config)
    assert f"--lora-modules dsa_patency={DSA.lora.hub_id}" in str(caught.value)
    assert "adapters merge dsa_patency" in str(caught.value)
    assert "trauma" not in str(caught.value).partition("(it serves")[0], "that one is served"
    assert check_server(config) == [str(caught.value)]
    assert check_server(config_for(server.base_url)) == []


def test_an_address_without_the_protocol_stops_the_start(server: OpenAIServer) -> None:
    with pytest.raises(EngineError, match=r"404: Not Found; check engine\.openai\.base_url"):
        OpenAIEngine(config_for(server.base_url.removesuffix("/v1")))


def test_a_server_that_is_not_there_yet_is_waited_for(
    standin: StandinEngine, dsa_requests: list[GenerationRequest]
) -> None:
    late = OpenAIServer(standin, NAMES)
    config = config_for(late.base_url, attempts=1)
    (problem,) = check_server(config)
    assert "cannot be reached" in problem
    assert check_server(config, must_answer=False) == []
    engine = OpenAIEngine(config)
    assert failed(engine.generate(dsa_requests[:1])[0]).transient
    late.start()
    try:
        answered(engine.generate(dsa_requests[:1])[0])
        assert engine.provenance("dsa_patency").engine == "openai"
    finally:
        engine.close()
        late.stop()


def test_digests_that_a_server_cannot_prove_are_refused() -> None:
    config = replace(config_for(f"http://127.0.0.1:{free_port()}/v1"), digests={DSA.lora.hub_id: "0" * 64})
    with pytest.raises(EngineError, match="a server cannot prove which files"):
        OpenAIEngine(config)


def test_the_key_lets_in_and_shows_nowhere(
    standin: StandinEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    guarded = OpenAIServer(standin, NAMES, key=KEY)
    guarded.start()
    try:
        config = config_for(guarded.base_url, api_key=KEY)
        OpenAIEngine(config).close()
        assert KEY not in repr(config)
        with pytest.raises(EngineError, match=r"401: Unauthorized: Bearer \S+; set engine\.openai\.api_key"):
            OpenAIEngine(config_for(guarded.base_url, api_key="wrong-key"))
        with pytest.raises(EngineError, match="401: Unauthorized: None"):
            OpenAIEngine(config_for(guarded.base_url))
        guarded.key = "another"
        with pytest.raises(EngineError) as caught:
            OpenAIEngine(config)
    finally:
        guarded.stop()
    assert b"somebody-else" not in guarded.received
    assert KEY not in str(caught.value) and KEY not in "".join(capfd.readouterr())


def test_tls_takes_the_authority_of_the_settings_and_no_other(
    standin: StandinEngine, dsa_requests: list[GenerationRequest], tmp_path: Path
) -> None:
    def files(name: str) -> TlsFiles:
        (tmp_path / name).mkdir()
        return make_tls_files(tmp_path / name)

    ours, others = files("ours"), files("others")
    secure = OpenAIServer(standin, NAMES, tls=ours)
    secure.start()
    try:
        engine = OpenAIEngine(config_for(secure.base_url, ca=ours.ca))
        answered(engine.generate(dsa_requests[:1])[0])
        engine.close()
        for wrong in (others.ca, None):
            with pytest.raises(EngineError, match=r"certificate is not accepted .*engine\.openai\.ca"):
                OpenAIEngine(config_for(secure.base_url, ca=wrong))
    finally:
        secure.stop()
    with pytest.raises(EngineError, match=r"engine\.openai\.ca: .*nothing\.pem cannot be read"):
        OpenAIEngine(config_for(secure.base_url, ca=tmp_path / "nothing.pem"))


def test_provenance_says_that_weights_are_unverified_and_that_it_is_a_stand_in(
    opened: Callable[..., OpenAIEngine], server: OpenAIServer
) -> None:
    engine = opened()
    provenance = engine.provenance("dsa_patency")
    assert provenance.is_standin
    assert (provenance.base, provenance.adapter) == ("dicom-worker/standin-base", "vessels"), "not Google's"
    assert provenance.base_digest.startswith("unverified:")
    assert provenance.adapter_digest.startswith("unverified:")
    trauma = engine.provenance("abdominal_trauma")
    assert trauma.base_digest == provenance.base_digest
    assert trauma.adapter_digest != provenance.adapter_digest
    again = opened().provenance("dsa_patency")
    assert again == provenance, "result UIDs hang on it"
    with pytest.raises(EngineError, match="dermatology"):
        engine.provenance("dermatology")


# The whole way


def test_a_study_is_answered_from_settings_alone_and_nothing_of_the_patient_leaves(
    server: OpenAIServer, tmp_path: Path
) -> None:
    run = draw_vessel_run(np.random.default_rng(12), blocked=True, difficulty=0.1)
    path = write_xa_run(
        tmp_path / "xa",
        run.pixels,
        age="067Y",
        patient_name="Lovelace^Augusta",
        patient_id="PID-4711",
        birth_date="18151210",
        accession_number="ACC-0815",
        study_uid="1.2.826.0.1.3680043.8.498.777",
        station_name="CATHLAB7",
    )
    settings = {
        "data_dir": str(tmp_path / "data"),
        "destinations": [{"name": "ris", "ae_title": "RIS", "host": "127.0.0.1", "port": 104, "results": ["pdf"]}],
        "engine": {
            "kind": "openai",
            "enabled": ["dsa_patency"],
            "openai": {"base_url": server.base_url, "models": {"dsa_patency": "vessels"}},
        },
    }
    engine = OpenAIEngine(engine_config(Settings(**settings)))  # type: ignore[arg-type]
    engine.close()
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = ["infer", "dsa_patency", str(path), "--config", "site.yaml", "--json", "--out", "results"]
    done = subprocess.run(
        [sys.executable, "-m", "worker", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (unit,) = json.loads(done.stdout)["units"]
    assert unit["findings"]["patency"] == "blocked"
    assert unit["provenance"]["engine"] == "openai"
    assert unit["notice"], "a stand-in behind a server is still a stand-in"
    kinds = [Path(file).name.split("-")[0] for file in unit["files"]]
    assert kinds == ["sr", "sc", "pdf"], "the usual kinds, and what a destination asks for"
    received = bytes(server.received)
    assert b"/v1/chat/completions" in received
    secrets = [b"Lovelace", b"Augusta", b"PID-4711", b"18151210", b"ACC-0815", b"1.2.826.", b"CATHLAB7"]
    secrets += [str(tmp_path).encode(), b"x-stainless"]
    pictures = [
        png_of(part["image_url"]["url"])
        for part in server.bodies[-1]["messages"][-1]["content"]
        if part["type"] == "image_url"
    ]
    assert pictures
    for secret in secrets:
        assert secret.lower() not in received.lower(), secret
        assert all(secret not in picture for picture in pictures), secret
    assert set(server.bodies[-1]) == {
        *("model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs", "seed", "skip_special_tokens")
    }
