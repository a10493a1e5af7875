"""The conformance statement is current, and its tables hold every code that the services give."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from dicom_node import commitment, commitment_service, status, storage_service
from worker import ingest, node
from worker.cli import app
from worker.conformance import contexts, network, web
from worker.conformance.markdown import setting
from worker.settings import Settings, load_settings
from worker.web import access
from worker.web.dicomweb import answers, pixels, qido, retrieve, store
from worker.web.dicomweb import app as dicomweb_app

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"


def test_the_statement_is_current() -> None:
    answer = CliRunner().invoke(app, ["conformance", "--defaults"])
    assert answer.exit_code == 0, answer.output
    assert DOCUMENT.read_text(encoding="utf-8") == answer.stdout, (
        "dicom-worker conformance --defaults > docs/conformance.md"
    )


def test_a_site_has_the_statement_of_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("dicom: {ae_title: RADIOLOGY, max_pdu_bytes: 16384}\n")
    limits = network.limits(load_settings(tmp_path / "site.yaml"))
    assert "`dicom.ae_title` (RADIOLOGY)" in limits
    assert "`dicom.max_pdu_bytes` (16384)" in limits


def test_a_setting_that_is_gone_is_noticed() -> None:
    with pytest.raises(KeyError, match=r"no setting dicom\.max_pdu"):
        setting(Settings(), "dicom.max_pdu")


def statuses_in(*modules: ModuleType) -> set[int]:
    """Every constant of `dicom_node.status` that these modules use, outside of the tables of the statement."""
    found = set()
    for module in modules:
        for node_ in ast.parse(inspect.getsource(module)).body:
            target = getattr(node_, "target", None)
            if isinstance(target, ast.Name) and target.id.endswith("_STATUSES"):
                continue
            names = (n.attr for n in ast.walk(node_) if isinstance(n, ast.Attribute) and _is_status(n.value))
            found |= {value for name in names if isinstance(value := getattr(status, name), int)}
    return found


def _is_status(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "status"


def test_the_tables_of_statuses_are_whole() -> None:
    assert statuses_in(storage_service, ingest) == set(storage_service.STORE_STATUSES)
    of_both = set(commitment_service.ACTION_STATUSES) | set(commitment_service.REPORT_STATUSES)
    # `commitment` has the requesting side too; what it judges there it also gives here.
    assert statuses_in(commitment_service, commitment, node) == of_both


def test_the_table_of_http_statuses_is_whole() -> None:
    found = {200, 202, 409}  # computed, in the response to STOW-RS
    for module in (access, answers, dicomweb_app, pixels, qido, retrieve, store):
        for call in (n for n in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(n, ast.Call)):
            given = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "status_code")]
            numbers = (arg.value for arg in given if isinstance(arg, ast.Constant))
            found |= {number for number in numbers if isinstance(number, int) and 200 <= number < 600}
    assert found - {303} == set(web.STATUSES), "a browser is led to the log-in, which is no answer of DICOMweb"


def test_every_resource_has_its_media_types() -> None:
    resources = list(web.resources())
    assert len({(method, path) for _, method, path, _ in resources}) == len(resources) > 20
    assert all(types for *_, types in resources)


def test_what_is_accepted_holds_all_that_is_written() -> None:
    accepted = {offer.sop_class_uid for offer in contexts.accepted()}
    assert {offer.sop_class_uid for offer in contexts.proposed() if offer.service == "Storage"} < accepted
