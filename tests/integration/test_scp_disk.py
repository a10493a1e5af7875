"""What the node does when the disk or the sink fails, and what a killed node leaves behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from dicom_node.scp import ReceivedInstance
from dicom_node.spool import Spool, SpoolError
from tests.receiving_node import RawSender, c_store_rq, ct_slice, encoded, p_data, pdu, pdv, receiving_node
from tests.services.process import answers_on, free_port, wait_until
from tests.web_server import web_settings
from worker.children import children_of
from worker.settings import DiskSettings


def _fails(code: int) -> NoReturn:
    raise OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("call", "code"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO), ("fsync", errno.EIO), ("open", errno.EROFS)]
)
def test_failing_disk_is_out_of_resources_and_the_next_instance_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    with receiving_node(tmp_path) as node, RawSender(node.port) as sender:
        sender.associate()
        with monkeypatch.context() as broken:
            broken.setattr(f"dicom_node.spool.os.{call}", lambda *_args: _fails(code))
            assert sender.store(ct_slice("on a failing disk", rows=128)) == (0xA700, "out of storage")
        assert not node.instances
        assert not node.leftovers()
        assert sender.store(ct_slice("when it is well again"))[0] == 0


def test_disk_that_fills_up_within_an_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [20_000]

    def limited(fd: int, data: bytes) -> int:
        if room[0] <= 0:
            _fails(errno.ENOSPC)
        room[0] -= len(data)
        return write(fd, data)

    with receiving_node(tmp_path) as node, RawSender(node.port) as sender:
        sender.associate()
        monkeypatch.setattr("dicom_node.spool.os.write", limited)
        assert sender.store(ct_slice("too large", rows=256))[0] == 0xA700
        room[0] = 10_000_000
        assert sender.store(ct_slice("small"))[0] == 0
        assert len(node.objects()) == 1
        assert not node.leftovers()


@pytest.mark.parametrize(
    ("failure", "status"),
    [(RuntimeError("the database is gone"), 0x0110), (SpoolError("full"), 0xA700), (0xA700, 0xA700), (0xC000, 0xC000)],
)
def test_success_is_not_answered_when_the_record_fails(tmp_path: Path, failure: Exception | int, status: int) -> None:
    def answer(received: ReceivedInstance) -> int:
        assert received.stored.path.exists()
        if isinstance(failure, Exception):
            raise failure
        return failure

    with receiving_node(tmp_path) as node, RawSender(node.port) as sender:
        node.answer = answer
        sender.associate()
        assert sender.store(ct_slice("unrecorded"))[0] == status
        node.answer = lambda _received: 0
        assert sender.store(ct_slice("recorded"))[0] == 0
        sender.release()
        node.wait_until_idle()
        assert node.ended[-1].instances == 1


_NODE = """
import sys, time
from pathlib import Path
from dicom_node.scp import ScpConfig, StoreScp
from dicom_node.spool import Spool
scp = StoreScp(ScpConfig("DICOMWORKER", port=0), Spool(Path(sys.argv[1])), lambda received: 0)
scp.start()
print(scp.port, flush=True)
time.sleep(60)
"""


def test_killed_node_leaves_every_acknowledged_object_and_no_half_one(tmp_path: Path) -> None:
    half = ct_slice("half", rows=256)
    with subprocess.Popen(
        [sys.executable, "-c", _NODE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = next(int(line) for line in process.stdout if line.strip().isdigit())
            with RawSender(port) as sender:
                sender.associate()
                acknowledged = [ct_slice(f"acknowledged {number}") for number in range(3)]
                assert [sender.store(ds)[0] for ds in acknowledged] == [0, 0, 0]
                sender.send(p_data(1, c_store_rq(str(half.SOPInstanceUID)), is_command=True))
                sender.send(pdu(0x04, pdv(1, encoded(half)[:60_000], is_command=False, is_last=False)))
                while not any(path.stat().st_size > 50_000 for path in (tmp_path / "incoming").iterdir()):
                    pass
                process.send_signal(signal.SIGKILL)
                process.wait()
        finally:
            process.kill()
    spool = Spool(tmp_path)
    assert len(list(spool.objects())) == 3
    assert spool.sweep() == 1
    assert not list(spool.incoming.iterdir())


def test_the_daemons_node_gives_no_image_the_room_that_is_kept_free(tmp_path: Path) -> None:
    settings = web_settings(tmp_path)
    dicom = settings.dicom.model_copy(update={"port": free_port()})
    settings = settings.model_copy(update={"dicom": dicom, "disk": DiskSettings(keep_free_gib=1e6)})
    with children_of(["node"]) as (node,):
        node.begin(settings)
        wait_until(lambda: answers_on(dicom.port), 30, "the node")
        with RawSender(dicom.port) as sender:
            sender.associate()
            assert sender.store(ct_slice("no room"))[0] == 0xA700
    assert not list(Spool(settings.data_dir / "spool").objects())
