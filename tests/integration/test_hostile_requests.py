"""What somebody may send to stop the pages for others: bombs, half requests, too many of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.people import PASSWORD, quick_hashes
from tests.services.process import LOCALHOST
from tests.web_server import WebServer, web_server, web_settings
from worker.operations.rules import RulesError, read_rules
from worker.people import accounts, tokens
from worker.roles import Role
from worker.web import connections

#: Seconds, bytes and connections in these tests.
HEAD_S, BODY_S, STUCK_S, MOST = 0.6, 0.6, 0.6, 30
HALF_A_HEAD = b"GET /login HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 1000\r\n\r\nlogin="
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The pages on a port, with little patience, and a reviewer."""
    with pytest.MonkeyPatch.context() as patience, quick_hashes():
        for name, value in (("HEAD_S", HEAD_S), ("BODY_S", BODY_S), ("STUCK_S", STUCK_S), ("MOST", MOST)):
            patience.setattr(connections, name, value)
        patience.setattr(connections, "LOOK_EVERY_S", 0.1)
        with web_server(web_settings(tmp_path_factory.mktemp("hostile"), login="required")) as server:
            with server.database.writing() as session:
                accounts.add(session, "rea", Role.REVIEWER, person_name="Curie^Marie", password=PASSWORD)
            yield server


def sends(served: WebServer, data: bytes) -> socket.socket:
    """A client that has sent this much."""
    client = socket.create_connection((LOCALHOST, served.settings.web.port), timeout=10)
    client.sendall(data)
    return client


def reviewer_token(served: WebServer) -> str:
    """A machine's token."""
    with served.database.writing() as session:
        return tokens.add(session, f"machine {len(tokens.listed(session))}", Role.REVIEWER, 1)


def seconds_until_hung_up(client: socket.socket, *, drip: bytes = b"") -> float:
    """How long a client is waited for that sends a byte now and then."""
    started = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() - started < 10:
        try:
            if drip:
                client.sendall(drip)
            if not client.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("data", "drip"),
    [(b"", b""), (HALF_A_HEAD, b""), (HALF_A_HEAD, b"x"), (HALF_A_BODY, b""), (HALF_A_BODY, b"x")],
    ids=["nothing", "half a head", "a head drop by drop", "half a body", "a body drop by drop"],
)
def test_nobody_is_waited_for_long(served: WebServer, data: bytes, drip: bytes) -> None:
    with sends(served, data) as client:
        assert 0.4 < seconds_until_hung_up(client, drip=drip) < 5


def test_the_log_says_once_a_minute_how_many_were_hung_up_on(capfd: pytest.CaptureFixture[str]) -> None:
    counted = connections._HungUp()
    for _ in range(1000):
        counted.count("a body")
    assert "".join(capfd.readouterr()).count("hung up on") == 1


def test_what_follows_an_answer_is_not_waited_for_long_either(served: WebServer) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    for beginning in (head, b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n" + HALF_A_HEAD):
        with sends(served, beginning) as client:
            assert client.recv(65536).startswith(b"HTTP/1.1 ")  # answered before all of it is here
            assert seconds_until_hung_up(client, drip=b"x") < 5


def test_who_reads_nothing_is_hung_up_on(served: WebServer) -> None:
    ask = b"GET /static/viewer/viewer.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((LOCALHOST, served.settings.web.port))
        client.sendall(ask * 40)
        time.sleep(STUCK_S + 1)
        client.settimeout(5)
        taken = 0
        with suppress(ConnectionResetError):
            while part := client.recv(1 << 16):
                taken += len(part)
    assert taken < 40 * len(httpx.get(f"{served.url}/static/viewer/viewer.js").content)


def test_who_sends_and_reads_at_a_pace_is_served_beside_many_who_do_not(served: WebServer) -> None:
    with ExitStack() as slow:
        for at in range(4 * MOST):
            slow.enter_context(sends(served, (HALF_A_HEAD, HALF_A_BODY)[at % 2]))
        for _ in range(5):
            assert httpx.get(f"{served.url}/login", timeout=5).status_code == 200


def test_a_long_body_at_a_pace_is_taken(served: WebServer) -> None:
    def slowly() -> Iterator[bytes]:
        yield b'{"rules": "'
        for _ in range(12):
            time.sleep(0.1)
            yield b"# a rule\\n" * 60
        yield b'"}'

    token = {"Authorization": f"Bearer {reviewer_token(served)}", "Content-Type": "application/json"}
    answer = httpx.post(f"{served.url}/api/rules/replays", content=slowly(), headers=token, timeout=10)
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_stranger_fills_no_memory(served: WebServer, in_chunks: bool) -> None:
    long = b'{"rules": "' + b"#" * 70_000 + b'"}'
    sent = iter([long]) if in_chunks else long
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{served.url}/api/rules/replays", content=sent, headers=headers)
    assert (answer.status_code, "only after a log-in" in answer.text) == (413, True)
    headers["Authorization"] = f"Bearer {reviewer_token(served)}"
    assert httpx.post(f"{served.url}/api/rules/replays", content=long, headers=headers).status_code in (202, 409)


@pytest.mark.parametrize(
    "bomb",
    [
        "- &a0 [x, x, x]\n" + "".join(f"- &a{n + 1} [*a{n}, *a{n}, *a{n}]\n" for n in range(30)) + "- when: *a30",
        "- &a0 {x: y}\n" + "".join(f"- &a{n + 1} {{<<: [*a{n}, *a{n}, *a{n}]}}\n" for n in range(30)),
    ],
    ids=["of lists", "of merged mappings"],
)
def test_a_few_lines_of_rules_stand_for_no_more_than_they_say(bomb: str) -> None:
    with pytest.raises(RulesError, match="aliases are not followed"):
        read_rules(bomb, {})


def test_a_mistake_quotes_only_the_beginning_of_what_is_long() -> None:
    with pytest.raises(RulesError) as wrong:
        read_rules(f"- {{name: a, adapter: b, when: [{', '.join('x' * 1000 for _ in range(99))}]}}", {})
    assert len(str(wrong.value)) < 5000
