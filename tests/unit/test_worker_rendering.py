"""Rendering in a child process: the same pictures, and broken images that end as a reason."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.headers import InstanceFile, read_header
from models.adapters import adapters
from models.rendering import RenderError, RenderInterrupted
from tests import sandboxed
from worker.demo.phantom_studies import write_xa_run
from worker.rendering import Renderer, renderer
from worker.settings import RenderingSettings

DSA = adapters()["dsa_patency"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    frames = np.full((6, 64, 64), 900, np.uint16)
    frames[2:, 20:24] = 300
    return write_xa_run(tmp_path, frames, sop_instance_uid="1.2.3.4", transfer_syntax="1.2.840.10008.1.2.5")


def files(path: Path) -> list[InstanceFile]:
    return [InstanceFile(read_header(path), path)]


def test_pictures_are_the_same_as_without_a_child_process(run: Path) -> None:
    pictures = renderer(RenderingSettings())
    ours, theirs = DSA.render(files(run)), pictures.render(DSA, files(run))
    assert theirs.to_json() == ours.to_json()
    again = pictures.replay(theirs.input_record(), files(run))
    assert all(np.array_equal(one, other) for one, other in zip(again, ours.images, strict=True))
    assert '"decoders": ["imagecodecs"]' in json.dumps(theirs.record), "who decoded is kept with the job"
    assert pictures is renderer(RenderingSettings()), "one child for a process"
    assert pictures.sheltered(DSA).render(files(run)).digest() == ours.digest()


def test_what_cannot_be_decoded_is_a_render_error_as_ever(run: Path) -> None:
    ds = dcmread(run)
    ds.PixelData = ds.PixelData[:200]
    ds.save_as(run)
    with pytest.raises(RenderError, match=r"1\.2\.3\.4"):
        renderer(RenderingSettings()).render(DSA, files(run))


def test_limits_of_time_and_memory_name_their_setting() -> None:
    pictures = Renderer(RenderingSettings(limit_s=1, memory_mib=512))
    try:
        pictures._call(os.getpid)
        with pytest.raises(RenderError, match=r"longer than the 1 s .*\(matching for ever\).*\(rendering\.limit_s\)"):
            pictures._call(sandboxed.match_for_ever)
        with pytest.raises(RenderError, match=r"more than the 512 MiB .*allow more memory \(rendering\.memory_mib\)"):
            pictures._call(sandboxed.eat_memory)
        with pytest.raises(RenderError, match=r"ended by SIGSEGV \(reading address 0\); check the original"):
            pictures._call(sandboxed.read_address_0)
    finally:
        pictures.close()


def test_a_child_that_cannot_start_is_a_reason_to_try_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Renderer(RenderingSettings())
    open_before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as changed:
        changed.setattr("sys.executable", "/nowhere/python")
        with pytest.raises(RenderInterrupted, match=r"a child process cannot be started .*try again"):
            pictures.render(DSA, files(run))
        changed.setattr("sys.executable", "/bin/false")
        with pytest.raises(RenderInterrupted, match=r"did not start \(status 1\); try again"):
            pictures.render(DSA, files(run))
    assert len(os.listdir("/proc/self/fd")) == open_before
    try:
        assert pictures.render(DSA, files(run)).digest() == DSA.render(files(run)).digest()
    finally:
        pictures.close()


def test_a_prepared_child_has_what_it_draws_with_before_it_is_asked(run: Path) -> None:
    pictures = Renderer(RenderingSettings())
    try:
        pictures.prepare([DSA])
        give_up = time.monotonic() + 30
        while "models.adapters.dsa_patency.render" not in pictures._call(sandboxed.loaded_modules):
            assert time.monotonic() < give_up
        assert pictures.render(DSA, files(run)).images
    finally:
        pictures.close()
