"""The services that other tests lean on: they are real, empty at the start of a test, and gone when stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pydicom
import pytest
import redis
from pydicom.data import get_testdata_file

from tests import services
from tests.localhost_only import OutsideConnectionError

CT = Path(str(get_testdata_file("CT_small.dcm", read=False)))


def send(port: int, *options: str) -> None:
    subprocess.run(
        [services.dcmtk("storescu"), *options, services.LOCALHOST, str(port), str(CT)], check=True, capture_output=True
    )


def test_free_ports_are_all_different() -> None:
    ports = [services.free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_dcmtk_tools_are_not_the_scripts_of_pynetdicom() -> None:
    for name in ("storescu", "storescp", "echoscu"):
        assert b"dcmtk" in subprocess.run([services.dcmtk(name), "--version"], capture_output=True, check=True).stdout


def test_missing_program_names_its_package() -> None:
    with pytest.raises(services.MissingProgramError, match="apt-get install sl"):
        services.program("no-such-program", "sl")


def test_redis_is_empty_at_the_start_of_each_test(redis_server: services.RedisServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("left", "behind")
        redis_server.clear()
        assert client.keys() == []


def test_each_postgres_database_is_new(postgres_server: services.PostgresServer, postgres_url: str) -> None:
    other = postgres_server.new_database()
    assert other != postgres_url
    with psycopg.connect(other.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE TABLE here (id int)")
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert found == (0,)
    postgres_server.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(other.replace("+psycopg", ""))


def test_orthanc_stores_what_dcmtk_sends(orthanc: services.Orthanc) -> None:
    send(orthanc.port, "--call", "ANY", "--aetitle", "UNKNOWN")
    (ds,) = orthanc.wait_for(1)
    assert ds.SOPInstanceUID == pydicom.dcmread(CT).SOPInstanceUID
    assert orthanc.sop_instance_uids() == {ds.SOPInstanceUID}


def test_orthanc_is_empty_again_and_sends_to_a_peer(orthanc: services.Orthanc, storescp: services.StoreScp) -> None:
    assert orthanc.instance_ids() == []
    orthanc.upload(CT.read_bytes())
    orthanc.add_modality("peer", storescp.ae_title, storescp.port)
    orthanc.send("peer")
    (ds,) = storescp.wait_for(1)
    assert ds.PatientID == pydicom.dcmread(CT).PatientID


def test_storescp_keeps_every_copy_and_comes_back_on_its_port(storescp: services.StoreScp) -> None:
    send(storescp.port)
    storescp.wait_for(1)
    storescp.stop()
    assert not services.answers_on(storescp.port)
    storescp.start()
    send(storescp.port)
    assert len(storescp.wait_for(2)) == 2


def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    server = services.Service([services.program("redis-server", "redis-server"), "--port", "nonsense"], tmp_path, 1)
    with pytest.raises(services.ServiceError, match="nonsense"):
        server.start()
    assert not server.running


@pytest.mark.parametrize("kind", ["RedisServer", "PostgresServer"])
def test_a_killed_test_run_leaves_no_server_behind(
    kind: str, service_folder: Callable[[str], AbstractContextManager[Path]]
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests import services\n"
        f"server = services.{kind}(Path(sys.argv[1])); server.start(); print(server.port, flush=True)\n"
        "time.sleep(60)"
    )
    with service_folder(kind.lower()) as folder:
        argv = [sys.executable, "-c", code, str(folder)]
        with subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None
            port = int(run.stdout.readline())
            assert services.answers_on(port)
            os.kill(run.pid, signal.SIGKILL)
        services.wait_until(lambda: not services.answers_on(port), 10, f"{kind} gone")


def test_other_machines_are_out_of_reach(free_port: Callable[[], int]) -> None:
    with socket.socket() as sock, pytest.raises(OutsideConnectionError, match=r"192\.0\.2\.1"):
        sock.connect(("192.0.2.1", 80))
    with pytest.raises(socket.gaierror, match="look up no names"):
        socket.create_connection(("pacs.example", 104))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", free_port()))
