"""The API does what its document says, whatever is sent: no server error, and answers of the declared form.

Requests are made from /api/openapi.json (schemathesis); a seed keeps them the same in every run. The stream of events,
which does not end, has tests of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.ledger_rows import HELD_JOB, HELD_STUDY, fill_ledger
from tests.web_server import WebServer, web_server, web_settings
from worker.people import tokens
from worker.roles import Role

EXAMPLES = 4
CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """The application with three studies."""
    settings = web_settings(tmp_path_factory.mktemp("conformance"), login="required")
    fill_ledger(settings)
    with web_server(settings) as server:
        yield server


@pytest.fixture(scope="module")
def headers(served: WebServer) -> dict[str, str]:
    """What an administrator's program shows."""
    with served.database.writing() as session:
        return {"Authorization": f"Bearer {tokens.add(session, 'tests', Role.ADMINISTRATOR, 1)}"}


@pytest.fixture
def document(served: WebServer) -> Any:
    """The API's description of itself."""
    schema = schemathesis.openapi.from_url(f"{served.url}/api/openapi.json")
    return schema.include(path_regex="^/api/").exclude(path="/api/events")


def test_it_does_what_its_document_says(document: Any, headers: dict[str, str]) -> None:
    seen = 0
    for result in document.get_all_operations():
        operation = result.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def conforms(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        conforms()
        seen += 1
    assert seen > 20


def test_what_is_there_has_the_declared_form(document: Any, headers: dict[str, str]) -> None:
    known = {"reference": HELD_STUDY, "job_id": HELD_JOB, "replay_id": HELD_JOB}
    for result in document.get_all_operations():
        operation = result.ok()
        if operation.method.upper() != "GET":
            continue
        values = {name: known[name] for name in known if f"{{{name}}}" in operation.path}
        case = operation.Case(path_parameters=values)
        case.call_and_validate(headers=headers, checks=CHECKS)
