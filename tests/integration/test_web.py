"""The pages, the API and the probes, as a browser or a monitoring system asks for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests import services
from tests.ledger_rows import (
    CAPTURE_SHAPE,
    HELD_CAPTURE,
    HELD_JOB,
    HELD_PAGE,
    HELD_PICTURE,
    HELD_STUDY,
    RELEASED_PAGE,
    fill_ledger,
)
from worker.db.records import Result
from worker.db.sessions import Database
from worker.settings import Settings, SettingsError, load_settings
from worker.web.app import create_app, listen, serve

STANDIN_WORDS = "results mean nothing"


def settings_in(folder: Path, **overrides: object) -> Settings:
    web = {"login": "off", **overrides.pop("web", {})}  # type: ignore[dict-item]
    return load_settings(None, {"data_dir": str(folder / "data"), "web": web, **overrides})


def client_for(settings: Settings) -> TestClient:
    return TestClient(create_app(settings), base_url="http://localhost:8080")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a filled ledger."""
    monkeypatch.chdir(tmp_path)
    filled = settings_in(tmp_path)
    fill_ledger(filled)
    return filled


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A browser."""
    with client_for(settings) as browser:
        yield browser


def test_the_first_page_is_the_work_list_and_another_has_the_studies(client: TestClient) -> None:
    page = client.get("/").text
    for words in ("ACC-2", "gap of 10 mm after slice 14", "0.93 (uncalibrated)", f'href="/cases/{HELD_JOB}"'):
        assert words in page
    assert "ACC-1" not in page, "it waits for nobody"
    page = client.get("/studies").text
    for words in ("ACC-1", "ACC-2", "ACC-3", "0.93 (uncalibrated)", "left alone", f'href="{HELD_PAGE}"'):
        assert words in page


def test_search_finds_by_the_beginning_of_an_identifier(client: TestClient) -> None:
    for beginning in ("acc-3", "P-ACC-3", "3"):
        page = client.post("/search", data={"q": beginning}).text
        assert "P-ACC-3" in page
        assert "ACC-1" not in page
    assert "No study has this" in client.post("/search", data={"q": "nothing like it"}).text


def test_a_study_shows_its_whole_way(client: TestClient) -> None:
    page = client.get(HELD_PAGE).text
    for words in ("abdominal_trauma", "liver injury", "sender was done", "Doubts", "not sent: held for a person"):
        assert words in page
    assert f'href="/cases/{HELD_JOB}"' in page
    assert HELD_PICTURE in page
    released = client.get(RELEASED_PAGE).text
    for words in ("refused: no", "blurred", "Another try asked by Jane Doe"):
        assert words in released


def test_pages_of_nothing_are_not_found(client: TestClient) -> None:
    for address in ("/studies/1.2.3", "/studies/9", "/results/9.png", "/api/studies/1.2.3", "/no-such-page"):
        assert client.get(address).status_code == 404
    page = client.get("/no-such-page", headers={"accept": "text/html"})
    assert page.status_code == 404
    for words in ("There is no page at this address", 'href="/"', 'href="/studies"'):
        assert words in page.text
    assert client.get("/api/no-such", headers={"accept": "text/html"}).json() == {"detail": "Not Found"}


def test_what_comes_from_outside_is_text_and_a_patient_is_named_beside_the_images_only(client: TestClient) -> None:
    for address in ("/studies", RELEASED_PAGE, f"/cases/{HELD_JOB}"):
        page = client.get(address).text
        assert "<script>" not in page
        assert "&lt;script&gt;" in page
        assert ("Secret" in page) == (address == f"/cases/{HELD_JOB}")


def test_a_key_image_is_the_stored_picture(client: TestClient) -> None:
    answer = client.get(HELD_PICTURE)
    assert answer.headers["content-type"] == "image/png"
    with Image.open(BytesIO(answer.content)) as picture:
        assert picture.size == (CAPTURE_SHAPE[1], CAPTURE_SHAPE[0])
        assert picture.getpixel((0, 0)) == (0, 255, 0)
        assert picture.getpixel((50, 50)) == (200, 0, 0)
    assert client.get(HELD_PICTURE, params={"frame": 2}).status_code == 404


def test_a_damaged_key_image_is_a_message(client: TestClient, settings: Settings) -> None:
    (settings.data_dir / f"{HELD_CAPTURE}.dcm").write_bytes(b"no DICOM at all")
    answer = client.get(HELD_PICTURE)
    assert answer.status_code == 404
    assert "cannot be shown" in answer.text


@pytest.mark.parametrize("address", ["/", HELD_PAGE, "/studies/9"])
def test_every_page_says_when_the_stand_in_answers(tmp_path: Path, address: str) -> None:
    with client_for(settings_in(tmp_path, engine={"kind": "standin"})) as browser:
        fill_ledger(browser.app.state.settings, is_standin=False)  # type: ignore[attr-defined]
        assert STANDIN_WORDS in browser.get(address).text


def test_old_stand_in_results_are_named_after_a_change_of_engine(tmp_path: Path) -> None:
    real, old = settings_in(tmp_path / "real"), settings_in(tmp_path / "old")
    fill_ledger(real, is_standin=False)
    fill_ledger(old, is_standin=True)
    with client_for(real) as browser:
        assert STANDIN_WORDS not in browser.get("/").text
    with client_for(old) as browser:
        assert STANDIN_WORDS in browser.get("/").text


def test_the_api_gives_the_ledger_and_describes_itself(client: TestClient) -> None:
    listed = client.get("/api/studies", params={"limit": 2}).json()
    assert len(listed) == 2
    one = client.get(f"/api/studies/{HELD_STUDY}").json()
    assert one["jobs"][0]["findings"]["severity_estimate"] == "moderate"
    assert one["history"]
    assert [case["id"] for case in client.get("/api/review").json()] == [HELD_JOB]
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/studies", "/api/studies/{reference}", "/api/review"} <= set(paths)


def test_nothing_can_be_changed_over_http(client: TestClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for address in ("/", HELD_PAGE, "/api/studies", "/api/review"):
            assert client.request(method, address).status_code == 405


def test_other_names_are_refused_while_the_pages_are_for_this_machine(settings: Settings) -> None:
    with TestClient(create_app(settings), base_url="http://evil.example") as browser:
        assert browser.get("/").status_code == 400
    for name in ("127.0.0.1:8080", "[::1]:8080"):
        with TestClient(create_app(settings), base_url=f"http://{name}") as browser:
            assert browser.get("/healthz").status_code == 200


def test_pages_are_not_cached_and_load_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert client.get("/static/style.css").status_code == 200


def test_metrics_count_what_the_ledger_holds(client: TestClient) -> None:
    text = client.get("/metrics").text
    for line in (
        'dicom_worker_instances{state="stored"} 3.0',
        'dicom_worker_series{state="unrouted"} 1.0',
        'dicom_worker_jobs{adapter="abdominal_trauma",state="held"} 1.0',
        'dicom_worker_deliveries{destination="pacs",state="dead"} 1.0',
        'dicom_worker_queue_age_seconds{queue="delivery"} 0.0',
    ):
        assert line in text
    (age,) = [line for line in text.splitlines() if line.startswith('dicom_worker_queue_age_seconds{queue="review"}')]
    assert float(age.split()[1]) > 0


def test_ready_means_database_and_disk(client: TestClient, settings: Settings) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").json() == {"ready": True, "troubles": {}}
    database = Database(settings.resolved_database_url)
    with database.writing() as session:
        session.connection().exec_driver_sql("DELETE FROM alembic_version")
    database.close()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "db upgrade" in answer.json()["troubles"]["database"]


def test_a_database_that_is_away_is_said_so(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{services.free_port()}/none"
    with client_for(settings_in(tmp_path, database_url=url)) as browser:
        assert browser.get("/healthz").status_code == 200
        ready = browser.get("/readyz")
        assert ready.status_code == 503
        assert "cannot be reached" in ready.text
        assert "127.0.0.1" not in ready.text  # everybody may ask; where the database is, is told in the log
        answer = browser.get("/")
        assert answer.status_code == 503
        assert "doctor" in answer.json()["detail"]


def test_a_port_that_is_about_to_be_given_up_is_waited_for(tmp_path: Path) -> None:
    dying = socket.create_server(("127.0.0.1", 0))
    settings = Settings(data_dir=tmp_path, web={"port": dying.getsockname()[1]})
    timer = threading.Timer(0.4, dying.close)
    timer.start()
    with listen(settings) as listener:
        assert listener.getsockname()[1] == settings.web.port
    timer.join()


def test_a_taken_port_names_the_setting(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"web\.port {port}"):
            serve(settings_in(tmp_path, web={"port": port}))


SERVE = """
import sys
from pathlib import Path
from worker.log import configure_logging
from worker.settings import load_settings
from worker.web.app import serve
settings = load_settings(None, {"data_dir": sys.argv[1], "web": {"port": int(sys.argv[2]), "bind": sys.argv[3]}})
configure_logging(settings.log, "web")
serve(settings)
"""


def test_sigterm_ends_the_server_with_success_and_an_open_bind_is_loud(tmp_path: Path) -> None:
    port = services.free_port()
    fill_ledger(settings_in(tmp_path))
    argv = [sys.executable, "-c", SERVE, str(tmp_path / "data"), str(port), "0.0.0.0"]  # noqa: S104
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        services.wait_until(lambda: services.answers_on(port), 30, "the pages")
        assert httpx.get(f"http://127.0.0.1:{port}/api/review", trust_env=False).status_code == 401
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "without https" in log


def test_a_server_that_is_told_to_end_while_it_starts_gives_up_its_port(tmp_path: Path) -> None:
    """The signal of a supervisor that is gone comes once: were it lost, nothing would ever free the port."""
    port = services.free_port()
    fill_ledger(settings_in(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path / "data"), str(port), "127.0.0.1"])
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def test_a_result_without_a_file_breaks_no_page(client: TestClient, settings: Settings) -> None:
    database = Database(settings.resolved_database_url)
    with database.reading() as session:
        path = Path(session.query(Result).filter_by(sop_instance_uid=HELD_CAPTURE).one().path)
    database.close()
    path.unlink()
    assert client.get(HELD_PICTURE).status_code == 404
    assert client.get(HELD_PAGE).status_code == 200
