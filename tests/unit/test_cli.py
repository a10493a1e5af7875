"""The command line as a person or a script meets it: exit codes, messages, JSON, and how fast it is there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom.data
import pytest
import yaml
from pydicom.uid import ComprehensiveSRStorage

from tests import command_line
from tests.ledger_rows import HELD_JOB, HELD_STUDY, RELEASED_STUDY, fill_ledger
from worker.db import refusals
from worker.db.columns import utc_now
from worker.db.records import Delivery
from worker.db.sessions import Database
from worker.settings import load_settings
from worker.states import DeliveryState

TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture
def filled(here: Path) -> Path:
    """A working directory with settings and a ledger."""
    (here / "dicom-worker.yaml").write_text("engine: {kind: standin}\nreview: {organization: Here}\n")
    fill_ledger(load_settings())
    return here


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def cli(*words: object, stdin: str = "") -> Done:
    """Run dicom-worker in the current directory, in this process; an error that escapes fails the test."""
    result = command_line.cli(*words, stdin=stdin)
    return Done(result.exit_code, result.stdout, result.stderr)


def json_of(*words: object) -> Any:
    """Run a command with --json and return its one document."""
    done = cli(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_names_every_command() -> None:
    argv = [sys.executable, "-m", "worker", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    for command in ("run", "send", "echo", "route", "infer", "studies", "study", "review", "adapters", "db", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize("module", ["worker.cli", "worker.children", "worker.demo.run"])
def test_heavy_libraries_delay_neither_help_nor_the_start_of_the_processes(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'pydicom', 'sqlalchemy', 'celery') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_command_and_unknown_command_are_wrong_usage() -> None:
    assert cli().returncode == 2
    done = cli("no-such-command")
    assert done.returncode == 2
    assert "no-such-command" in done.stderr


# Settings


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour: red\n", ["colour", "unknown setting"]),
        ("dicom: {prot: 1}\n", ["dicom.prot", "unknown setting"]),
        ("dicom: {port: 99999}\n", ["dicom.port", "99999"]),
        ("dicom: {ae_title: A_TITLE_THAT_IS_TOO_LONG}\n", ["dicom.ae_title", "1 to 16"]),
        ("dicom: [\n", ["cannot be read"]),
        ("just text\n", ["name: value"]),
    ],
)
@pytest.mark.parametrize("command", [("run",), ("studies", "--json"), ("doctor",), ("settings",)])
def test_wrong_settings_are_named_with_their_file(
    here: Path, text: str, named: list[str], command: tuple[str, ...]
) -> None:
    (here / "site.yaml").write_text(text)
    done = cli(*command, "--config", "site.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    for words in [*named, "site.yaml"]:
        assert words in done.stderr


def test_a_settings_file_that_is_not_there(here: Path) -> None:
    done = cli("settings", "--config", "none.yaml")
    assert done.returncode == 2
    assert "none.yaml" in done.stderr


def test_misspelt_environment_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_WORKER_DICOMM__PORT", "1")
    done = cli("settings")
    assert done.returncode == 2
    assert "DICOM_WORKER_DICOMM__PORT" in done.stderr


def test_settings_in_effect_hide_passwords_and_can_be_read_back(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "dicom-worker.yaml").write_text("dicom: {port: 4711}\nbroker_url: redis://user:secret@host:1/0\n")
    monkeypatch.setenv("DICOM_WORKER_DATABASE_URL", "postgresql+psycopg://me:hidden@host/db")
    done = cli("settings")
    assert "secret" not in done.stdout
    assert "hidden" not in done.stdout
    values = yaml.safe_load(done.stdout)
    assert values["dicom"]["port"] == 4711
    assert values["database_url"] == "postgresql+psycopg://me:***@host/db"
    assert json_of("settings") == values
    assert any(line["variable"] == "DICOM_WORKER_DICOM__PORT" for line in json_of("settings", "--help-all"))


def test_run_refuses_what_does_not_fit_together(here: Path) -> None:
    for words in (("run", "cook"), ("run", "node", "--profile", "demo"), ("run", "--exit-after-demo")):
        assert cli(*words).returncode == 2


def test_missing_weights_are_named_with_licence_and_remedy(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(here / "no-hub-cache"))
    done = cli("adapters", "check")
    assert done.returncode == 1
    for words in ("google/medgemma-1.5-4b-it", "Health AI Developer Foundations", "hf download", "--profile demo"):
        assert words in done.stderr
    checked = json.loads(cli("adapters", "check", "--json").stdout)
    assert not checked["ok"]
    bases = {adapter["base"] for adapter in json_of("adapters", "list")}
    states = {state["adapter"] or state["hub_id"]: state["ok"] for state in checked["weights"]}
    assert states == dict.fromkeys({*bases, *(adapter["name"] for adapter in json_of("adapters", "list"))}, False)
    assert len(checked["problems"]) == len(states)


def test_adapters_are_listed_with_their_limits() -> None:
    adapters = {adapter["name"]: adapter for adapter in json_of("adapters", "list")}
    assert len(adapters) == 5
    assert "detection" in adapters["flare"]["tasks"]
    assert "de" in adapters["clinical_caption"]["languages"]
    assert "CT" in set(adapters["flare"]["modalities"]) - set(adapters["flare"]["unasked_modalities"])
    assert all(adapter["limitations"] for adapter in adapters.values())
    assert adapters["dsa_patency"]["release_at"]["patent"] > adapters["dsa_patency"]["release_at"]["blocked"]


# Routing


def test_route_explain_says_why_for_real_files() -> None:
    document = json_of("route", "explain", TEST_FILES / "dicomdirtests" / "98892001", TEST_FILES / "README.txt")
    scout, heart = sorted(document["series"], key=lambda series: series["instances"])
    assert scout["adapter"] is None
    assert "LOCALIZER" in scout["reason"]
    assert "body region" in heart["reason"]
    assert not any(step["matched"] for step in heart["trace"])
    assert "README.txt" in document["left_out"][0]


def test_route_explain_follows_site_rules(here: Path) -> None:
    rule = {"name": "heads too", "when": {"body_part_examined": "head"}, "adapter": "abdominal_trauma"}
    (here / "dicom-worker.yaml").write_text(yaml.safe_dump({"routes": [rule]}))
    (series,) = json_of("route", "explain", TEST_FILES / "dicomdirtests" / "77654033" / "CT2")["series"]
    assert series["adapter"] == "abdominal_trauma"
    assert series["rule"] == "site rule: heads too"
    assert any("body region" in doubt for doubt in series["doubts"])


def test_paths_that_are_not_there_or_not_dicom(here: Path) -> None:
    assert cli("route", "explain", "nowhere").returncode == 2
    (here / "note.txt").write_text("no image")
    done = cli("route", "explain", "note.txt")
    assert done.returncode == 1
    assert "note.txt" in done.stderr
    assert cli("infer", "no_adapter", "note.txt").returncode == 2
    unknown = cli("infer", "dsa_patency", "note.txt", "--out", "results", "--results", "sr,video")
    assert (unknown.returncode, "there is no kind video" in unknown.stderr) == (2, True)


# The ledger


def test_studies_as_json_has_the_shape_that_scripts_rely_on(filled: Path) -> None:
    studies = {study["accession_number"]: study for study in json_of("studies")}
    released = studies["ACC-1"]
    assert released["study_instance_uid"] == RELEASED_STUDY
    assert {"patient_id", "state", "revision", "instances"} <= set(released)
    assert released["series"][0]["route"] == {
        "adapter": "dsa_patency",
        "adapters": ["dsa_patency"],
        "rule": "adapter: dsa_patency",
        "reason": "SOP class and modality accepted",
    }
    (job,) = released["jobs"]
    assert job["findings"] == {"patency": "blocked"}
    assert (job["confidence"], job["decision"], job["attempts"]) == (0.93, "release", 1)
    assert {"base", "base_revision", "adapter_digest", "engine"} <= set(job["provenance"])
    assert job["notice"]
    assert job["results"][0]["deliveries"][0]["destination"] == "pacs"
    assert studies["ACC-3"]["series"][0]["route"]["adapter"] is None


def test_studies_and_study_for_people(filled: Path) -> None:
    listed = cli("studies").stdout
    assert "ACC-1" in listed
    assert "means nothing" in listed
    assert "0.93 (uncalibrated)" in listed
    shown = cli("study", "ACC-2").stdout
    for words in ("abdominal_trauma", "gap of 10 mm", "liver injury", "sender was done", "not sent"):
        assert words in shown
    assert "Secret^Name" not in listed + shown


def test_a_study_is_found_by_uid_and_by_accession_number(filled: Path) -> None:
    assert json_of("study", HELD_STUDY) == json_of("study", "ACC-2")
    assert json_of("studies", "--search", "P-ACC-3")[0]["accession_number"] == "ACC-3"
    done = cli("study", "ACC-9", "--json")
    assert done.returncode == 1
    assert "ACC-9" in done.stderr
    assert done.stdout == ""


def test_no_database_is_a_clear_message(here: Path) -> None:
    done = cli("studies")
    assert done.returncode == 1
    assert "no database" in done.stderr
    assert not (here / "data" / "dicom-worker.db").exists()


def test_db_upgrade_makes_the_tables(here: Path) -> None:
    assert cli("db", "upgrade").returncode == 0
    assert json_of("studies") == []


# Review


def test_a_held_answer_is_listed_shown_and_rejected(filled: Path) -> None:
    (case,) = json_of("review", "list")
    assert case["id"] == HELD_JOB
    assert "gap of 10 mm" in cli("review", "show", HELD_JOB[:6]).stdout
    assert cli("review", "reject", "ACC-2", "--reason", "motion").returncode == 2, "nobody has said who rejects"
    done = cli("review", "reject", "ACC-2", "--reviewer", "Curie^Marie", "--reason", "motion")
    assert done.returncode == 0, done.stderr
    assert "rejected" in done.stdout
    assert json_of("review", "list") == []
    assert json_of("study", "ACC-2")["jobs"][0]["reviews"][0]["comment"] == "motion"
    again = cli("review", "accept", "ACC-2", "--reviewer", "Bohr^Niels")
    assert again.returncode == 1
    assert "Curie^Marie" in again.stderr


def test_a_person_passes_on_and_takes_back(filled: Path) -> None:
    me, other = ("--reviewer", "Curie^Marie"), ("--reviewer", "Bohr^Niels")
    asked = cli("review", "second-reader", "ACC-2", *me, "--opinion", "is that the liver?")
    assert "waits for a second reader" in asked.stdout
    refused = cli("review", "reject", "ACC-2", *me, "--reason", "motion")
    assert refused.returncode == 1
    assert "must be another person" in refused.stderr
    assert cli("review", "reject", "ACC-2", *other, "--reason", "motion", "--undo-s", "600").returncode == 0
    assert cli("review", "undo", "ACC-2", *me).returncode == 1, "another person's decision"
    assert "is held again" in cli("review", "undo", "ACC-2", *other).stdout
    assert cli("review", "comment", "ACC-2", *me, "--text", "to be discussed").returncode == 0
    actions = [review["action"] for review in json_of("review", "show", "ACC-2")["reviews"]]
    assert actions == ["opinion", "reject", "comment"]


def test_the_reviewer_can_come_from_the_environment(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_REVIEWER", "Curie^Marie")
    outcome = json_of("review", "accept", HELD_JOB)
    assert outcome["state"] == "accepted"
    (review,) = json_of("review", "show", HELD_JOB)["reviews"]
    assert (review["reviewer_name"], review["reviewer_organization"]) == ("Curie^Marie", "Here")


def test_edited_findings_are_checked(filled: Path) -> None:
    who = ("--reviewer", "Curie^Marie")
    assert cli("review", "edit", HELD_JOB, *who, "--findings", "-", stdin="[1]").returncode == 2
    done = cli("review", "edit", HELD_JOB, *who, "--findings", "-", stdin='{"colour": "red"}')
    assert done.returncode == 1
    assert "colour" in done.stderr


# Deliveries


def test_dead_letters_are_listed_and_sent_again(filled: Path) -> None:
    (dead,) = json_of("deliveries", "list", "--state", "dead")
    assert dead["last_error"] == "refused: no"
    assert cli("deliveries", "resend").returncode == 2
    assert json_of("deliveries", "resend", dead["id"]) == {"queued_again": 1}
    assert json_of("deliveries", "list")[0]["state"] == "pending"
    assert cli("deliveries", "resend", dead["id"]).returncode == 1
    assert cli("deliveries", "list", "--state", "lost").returncode == 2


def test_a_destination_is_tried_now_and_asked_again(filled: Path) -> None:
    with (filled / "dicom-worker.yaml").open("a") as file:
        file.write("destinations: [{name: pacs, ae_title: PACS, host: 127.0.0.1, port: 104}]\n")
    database = Database(load_settings().resolved_database_url)
    with database.writing() as session:
        later = utc_now() + timedelta(minutes=10)
        session.get_one(Delivery, 1).state = DeliveryState.PENDING
        session.get_one(Delivery, 1).not_before = later
        refusals.learn(session, "pacs", [ComprehensiveSRStorage])
    database.close()
    for command, key in (("try-now", "due_now"), ("ask-again", "offered_again")):
        assert json_of("deliveries", command, "pacs") == {key: 1}
        again = cli("deliveries", command, "pacs")
        assert (again.returncode, "pacs" in again.stderr) == (1, True)
        assert cli("deliveries", command, "nobody").returncode == 2


def test_doctor_says_that_images_are_refused_for_want_of_room(filled: Path) -> None:
    def data_dir() -> dict[str, str]:
        checks = json.loads(cli("doctor", "--json").stdout)["checks"]
        return next(check for check in checks if check["check"] == "data_dir")

    assert data_dir()["state"] in ("ok", "remark")
    with (filled / "dicom-worker.yaml").open("a") as file:
        file.write("disk: {keep_free_gib: 1.0e+6}\n")
    found = data_dir()
    assert found["state"] == "failed"
    assert "images are refused below 1e+06 GiB (disk.keep_free_gib); make room" in found["message"]
