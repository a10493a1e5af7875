"""The child process for codecs: what crashes, hangs or eats memory in it leaves the caller whole, and is explained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dicom_node.notes import left_out
from dicom_node.pixels import FrameReader, PixelError, read_image
from dicom_node.sandbox import Sandbox, SandboxCrashed, SandboxError, SandboxKilled, SandboxMemoryError, SandboxTimeout
from tests import sandboxed
from worker.demo.phantom_studies import write_xa_run

MIB = 2**20


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(memory_bytes=1024 * MIB, limit_s=30) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def hasty() -> Iterator[Sandbox]:
    with Sandbox(memory_bytes=1024 * MIB, limit_s=1) as sandbox:
        sandbox.call(os.getpid)  # starting takes its own time
        yield sandbox


@pytest.fixture
def run(tmp_path: Path) -> Path:
    frames = np.arange(3 * 32 * 48, dtype=np.uint16).reshape(3, 32, 48) % 4096
    return write_xa_run(tmp_path, frames, transfer_syntax="1.2.840.10008.1.2.5", sop_instance_uid="1.2.3.4")


def test_a_function_gives_its_result_from_another_process_and_keeps_that_process(sandbox: Sandbox) -> None:
    pids = {sandbox.call(os.getpid) for _ in range(3)}
    assert len(pids) == 1
    assert os.getpid() not in pids
    doubled = sandbox.call(sandboxed.doubled, np.arange(10), offset=3)
    assert doubled.tolist() == [3, 5, 7, 9, 11, 13, 15, 17, 19, 21]
    doubled[0] = 5  # writable, like any result


def test_the_childs_modules_are_its_own(sandbox: Sandbox) -> None:
    loaded = sandbox.call(sandboxed.loaded_modules)
    assert not {"torch", "pytest", "sqlalchemy"} & loaded


def test_exceptions_come_back_as_themselves(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="nothing here") as raised:
        sandbox.call(sandboxed.fail, "nothing here")
    assert "sandboxed.py" in "".join(raised.value.__notes__), "where it was raised"
    with pytest.raises(PixelError) as refused:
        sandbox.call(read_image, tmp_path / "missing.dcm")
    assert (refused.value.sop_instance_uid, refused.value.remedy) == ("missing.dcm", "send it again")


def test_what_cannot_cross_is_said_so(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match=r"cannot be found by another process; define the function at the top"):
        sandbox.call(lambda: 1)
    with pytest.raises(SandboxError, match="result cannot be pickled"):
        sandbox.call(sandboxed.give_a_lambda)
    with pytest.raises(SandboxError, match="Awkward: 1 and 2"):
        sandbox.call(sandboxed.fail_awkwardly)
    assert sandbox.call(os.getpid)


def test_a_crash_is_explained_by_the_last_note_and_the_next_call_works(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxCrashed, match=r"ended by SIGSEGV \(reading address 0\); check the original") as crash:
        sandbox.call(sandboxed.read_address_0)
    assert crash.value.doing == "reading address 0"
    with pytest.raises(SandboxCrashed, match="ended with status 3"):
        sandbox.call(os._exit, 3)
    assert sandbox.call(sandboxed.doubled, np.ones(1)).tolist() == [2]


def test_a_hang_in_c_code_is_ended_at_the_limit(hasty: Sandbox) -> None:
    began = time.monotonic()
    with pytest.raises(SandboxTimeout, match=r"longer than the 1 s that it may take \(matching for ever\)"):
        hasty.call(sandboxed.match_for_ever)
    assert time.monotonic() - began < 20, "it would match for ever; the limit is a second, and the machine may be busy"
    assert hasty.call(os.getpid)


def test_a_child_that_eats_memory_is_stopped_in_every_language(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxMemoryError, match="more than the 1024 MiB of memory that it may have"):
        sandbox.call(sandboxed.eat_memory)
    ours = psutil.Process().memory_info().rss
    with pytest.raises(SandboxError):
        sandbox.call(sandboxed.eat_memory_with_malloc)
    assert psutil.Process().memory_info().rss - ours < 50 * MIB
    assert sandbox.call(os.getpid)


def test_a_child_killed_between_two_calls_is_replaced_unnoticed(sandbox: Sandbox) -> None:
    pid = sandbox.call(os.getpid)
    os.kill(pid, signal.SIGKILL)
    assert sandbox.call(os.getpid) != pid


def test_a_child_killed_during_a_call_is_replaced_and_no_decoder_is_blamed(sandbox: Sandbox, tmp_path: Path) -> None:
    assert sandbox.call(sandboxed.kill_oneself_once, tmp_path / "mark") == "with every decoder"


def test_a_child_killed_again_is_given_up(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxKilled, match=r"killed from outside \(SIGKILL\); try again, and see in the system's log"):
        sandbox.call(sandboxed.kill_oneself)
    assert sandbox.call(os.getpid)


def test_closing_ends_the_child() -> None:
    with Sandbox() as sandbox:
        child = psutil.Process(sandbox.call(os.getpid))
    assert not child.is_running()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a call"])
def test_the_child_does_not_outlive_its_parent(busy: bool, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from dicom_node.sandbox import Sandbox\nfrom tests import sandboxed\n"
        "s = Sandbox(limit_s=1)\nPath(sys.argv[1]).write_text(str(s.call(os.getpid)))\n"
        + ("s.call(sandboxed.match_for_ever)\n" if busy else "import time; time.sleep(60)\n")
    )
    with subprocess.Popen([sys.executable, "-c", code, str(told)]) as parent:
        try:
            deadline = time.monotonic() + 30
            while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(0.2)
        finally:
            parent.kill()
    child = int(told.read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_a_fork_starts_a_child_of_its_own(sandbox: Sandbox) -> None:
    pid = sandbox.call(os.getpid)
    read, write = os.pipe()
    if (forked := os.fork()) == 0:
        os.write(write, str(sandbox.call(os.getpid)).encode())
        sandbox.close()
        os._exit(0)
    os.waitpid(forked, 0)
    assert int(os.read(read, 20)) != pid
    assert sandbox.call(os.getpid) == pid
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("fault", ["crash", "hang", "raise"])
def test_a_decoder_that_crashes_hangs_or_raises_is_left_out_and_the_next_one_decodes(fault: str, run: Path) -> None:
    expected = np.stack(list(FrameReader(read_image(run)).frames()))
    with Sandbox(memory_bytes=1024 * MIB, limit_s=30, decode_limit_s=1) as sandbox:
        assert sandbox.call(sandboxed.decode, run)[1] == ("imagecodecs",)
        frames, decoders = sandbox.call(sandboxed.decode_with_broken, run, {"imagecodecs": fault})
        assert decoders == ("pydicom",)
        assert np.array_equal(frames, expected)
        again = sandbox.call(sandboxed.decode, run)[1]
        assert again == (("imagecodecs",) if fault == "raise" else ("pydicom",)), "what crashed is not tried again"
    assert left_out("1.2.3.4") == (), "the parent's own decoders are not touched"


def test_a_decoder_has_its_own_limit_for_each_frame(run: Path) -> None:
    with Sandbox(limit_s=30, decode_limit_s=0.5) as sandbox:
        sandbox.call(sandboxed.decode, run)
        began = time.monotonic()
        decoders = sandbox.call(sandboxed.decode_with_broken, run, {"imagecodecs": "hang"})[1]
        assert decoders == ("pydicom",)
        assert time.monotonic() - began < 25, "not the whole time of the call, however busy the machine is"
        assert sandbox.call(sandboxed.slow, 0.8) == "slow", "what is not decoding has the whole time"


def test_where_every_decoder_crashes_the_instance_is_refused(run: Path) -> None:
    with (
        Sandbox(memory_bytes=1024 * MIB, limit_s=20) as sandbox,
        pytest.raises(PixelError, match=r"1\.2\.3\.4: frame 1 cannot be decoded \(imagecodecs: it crashed or hung"),
    ):
        sandbox.call(sandboxed.decode_with_broken, run, {"imagecodecs": "crash", "pydicom": "crash"})


def test_a_big_result_costs_little(sandbox: Sandbox) -> None:
    sandbox.call(sandboxed.picture)
    times = []
    for _ in range(7):
        began = time.process_time()
        picture = sandbox.call(sandboxed.picture)
        times.append(time.process_time() - began)
    assert picture.nbytes == 6_000_000
    assert sorted(times)[3] < 0.1, "seconds of this process's own work, in half of the calls"
