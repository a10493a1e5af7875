"""The spool: whole objects under their digest, nothing else, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_node.file_format import file_meta
from dicom_node.spool import Spool, SpoolError
from dicom_node.uids import IMPLEMENTATION_CLASS_UID

META = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(chunks=st.lists(st.binary(max_size=2000), max_size=5))
def test_object_is_what_was_written_under_its_digest(spool: Spool, chunks: list[bytes]) -> None:
    with spool.begin(META) as writer:
        for chunk in chunks:
            writer.write(memoryview(chunk))
        stored = writer.commit()
    whole = META + b"".join(chunks)
    assert stored.path.read_bytes() == whole
    assert (stored.sha256, stored.size) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert stored.path == spool.path_of(stored.sha256)
    assert stored.path in spool.objects()


def test_what_is_not_committed_is_gone(spool: Spool) -> None:
    with spool.begin(META) as writer:
        writer.write(b"half")
        assert writer.path.exists()
    with pytest.raises(RuntimeError), spool.begin(META) as writer:
        raise RuntimeError
    assert not list(spool.incoming.iterdir())
    assert not list(spool.objects())


def test_same_bytes_are_one_object_and_other_bytes_another(spool: Spool) -> None:
    first, again, other = (spool.put_bytes(data) for data in (b"one", b"one", b"two"))
    assert first == again
    assert sorted(spool.objects()) == sorted([first.path, other.path])


def test_sweep_removes_leftovers_and_keeps_objects(spool: Spool) -> None:
    kept = spool.put_bytes(b"whole")
    (spool.incoming / "0123.part").write_bytes(b"half")
    assert spool.sweep() == 1
    assert spool.sweep() == 0
    assert list(spool.objects()) == [kept.path]


def test_files_that_are_no_objects_are_not_listed(spool: Spool) -> None:
    folder = spool.put_bytes(b"whole").path.parent
    for name in ("notes.txt", "0" * 64 + ".dcm.part", "Z" * 64 + ".dcm"):
        (folder / name).touch()
    assert len(list(spool.objects())) == 1


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "/.."])
def test_only_a_digest_becomes_a_path(spool: Spool, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        spool.path_of(name)


@pytest.mark.parametrize("call", ["write", "fdatasync", "fsync", "open"])
def test_failing_disk_is_a_spool_error_that_names_the_folder(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(f"dicom_node.spool.os.{call}", fail)
        with pytest.raises(SpoolError, match=f"{spool.root}.*No space left"):
            spool.put_bytes(b"data")
    assert not list(spool.incoming.iterdir())
    assert spool.put_bytes(b"data").path.read_bytes() == b"data"


def test_what_is_kept_free_is_not_given_to_images(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    for_images = Spool(tmp_path / "spool", keep_free_bytes=2 * free)
    with pytest.raises(SpoolError, match=r"keeps .* GiB free, and has .* GiB"):
        for_images.begin(b"x")
    assert not list(for_images.incoming.iterdir())
    for_results = Spool(tmp_path / "spool")
    assert for_results.put_bytes(b"x").size == 1
    assert Spool(tmp_path / "spool", keep_free_bytes=free // 2).put_bytes(b"y").size == 1


def test_spool_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot be opened"):
        Spool(tmp_path / "file" / "spool")


def test_opening_again_finds_the_same_objects(spool: Spool) -> None:
    stored = spool.put_bytes(b"data")
    assert list(Spool(spool.root).objects()) == [stored.path]


def test_file_meta_is_what_part_10_asks_for_and_depends_on_the_uids_alone(spool: Spool) -> None:
    stored = spool.put_bytes(META)
    meta = pydicom.dcmread(stored.path).file_meta
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.FileMetaInformationGroupLength == len(META) - 132 - 12
    assert "SourceApplicationEntityTitle" not in meta
    pinned = "30dddfb965c11727adf40596bcea5f68993c02f26b1f66008f15ed24dd11f74e"
    assert hashlib.sha256(META).hexdigest() == pinned, "a stored instance would get another digest than before"
