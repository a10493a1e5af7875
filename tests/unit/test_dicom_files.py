"""Files named on the command line: what is read, and what is left out with a reason that tells what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.sample_reports import TEST_FILES
from worker.commands.dicom_files import read_instances


def test_of_files_of_one_instance_the_first_is_used_and_the_other_named(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(TEST_FILES / "MR_small.dcm", tmp_path / name)
    shutil.copy(TEST_FILES / "CT_small.dcm", tmp_path / "c.dcm")
    found, left_out = read_instances([tmp_path])
    assert [file.path.name for file in found] == ["a.dcm", "c.dcm"]
    assert left_out == [
        f"{tmp_path / 'b.dcm'}: it has the SOP Instance UID of {tmp_path / 'a.dcm'}, which is used; give one of them"
    ]


def test_a_bare_data_set_is_told_how_to_become_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bare.dcm"
    path.write_bytes((TEST_FILES / "MR_small.dcm").read_bytes()[132:])
    found, (reason,) = read_instances([path])
    assert not found
    assert reason.startswith(f"{path}: it is not a DICOM file") and "dcmconv --read-dataset" in reason
