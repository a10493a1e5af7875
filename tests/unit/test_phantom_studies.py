"""Phantom files: valid DICOM, unique, and read back as what they pretend to be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGLSLossless, RLELossless

from dicom_node.headers import read_header
from dicom_node.pixels import read_frames, read_image
from dicom_node.regions import body_region
from dicom_node.volumes import geometry
from worker.demo.phantom_pictures import write_chest_xray, write_fundus_photograph
from worker.demo.phantom_studies import (
    write_ct_localizer,
    write_ct_series,
    write_dose_screen,
    write_mr_series,
    write_xa_run,
)

RUN = np.random.default_rng(0).integers(0, 4096, (4, 32, 40)).astype(np.uint16)
VOLUME = np.random.default_rng(0).integers(-1000, 2000, (12, 32, 32)).astype(np.int16)


def test_every_kind_is_valid_dicom(tmp_path: Path) -> None:
    write_xa_run(tmp_path, RUN, patient_name="Иванова^Анна", accession_number="ACC1")
    write_xa_run(tmp_path, (RUN >> 4).astype(np.uint8), mask_frames=(1, 2), transfer_syntax=RLELossless)
    write_ct_series(tmp_path, VOLUME[:1])
    write_ct_localizer(tmp_path)
    write_dose_screen(tmp_path)
    write_mr_series(tmp_path, slices=1)
    write_chest_xray(tmp_path, RUN[0])
    write_fundus_photograph(tmp_path, np.full((31, 33, 3), 90, dtype=np.uint8))
    for path in sorted(tmp_path.iterdir()):
        check = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
        assert check.returncode == 0, check.stderr


def test_a_study_is_consistent(tmp_path: Path) -> None:
    study = "2.25.1234"
    write_ct_series(tmp_path, VOLUME, study_uid=study, accession_number="ACC2")
    write_ct_localizer(tmp_path, study_uid=study, accession_number="ACC2", series_number=2)
    write_dose_screen(tmp_path, study_uid=study, accession_number="ACC2")
    headers = [read_header(path) for path in tmp_path.iterdir()]
    assert {header.study_instance_uid for header in headers} == {study}
    assert len({header.series_instance_uid for header in headers}) == 3
    assert {header.modality for header in headers} == {"CT"}


def test_uids_are_new_with_every_call_unless_given(tmp_path: Path) -> None:
    paths = [write_xa_run(tmp_path, RUN[:1]) for _ in range(50)]
    headers = [read_header(path) for path in paths]
    for attribute in ("sop_instance_uid", "series_instance_uid", "study_instance_uid"):
        assert len({getattr(header, attribute) for header in headers}) == 50
    given = read_header(
        write_xa_run(tmp_path, RUN[:1], sop_instance_uid="1.2.7", series_uid="1.2.8", study_uid="1.2.9")
    )
    assert (given.sop_instance_uid, given.series_instance_uid, given.study_instance_uid) == ("1.2.7", "1.2.8", "1.2.9")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless, JPEGLSLossless])
def test_a_run_reads_back_as_it_was_drawn(tmp_path: Path, syntax: str) -> None:
    path = write_xa_run(tmp_path, RUN, transfer_syntax=syntax, age="007Y", priority="STAT", patient_name="Éa^Zoë")
    header = read_header(path)
    assert header.transfer_syntax_uid == syntax
    assert (header.patient_name, header.patient_age_years, header.requested_procedure_priority) == ("Éa^Zoë", 7, "STAT")
    assert np.array_equal(np.stack(list(read_frames(read_image(path)))), RUN)


def test_a_volume_reads_back_as_a_complete_stack_head_first(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, VOLUME, slice_spacing_mm=2.5)
    headers = [read_header(path) for path in paths]
    found = geometry(headers)
    assert (found.complete, found.slices, found.spacing_mm) == (True, 12, 2.5)
    heights = [header.image_position_patient[2] for header in headers if header.image_position_patient]
    assert heights == sorted(heights, reverse=True)
    assert body_region(headers[0]).names == {"abdomen"}
    ds = dcmread(paths[3])
    assert np.array_equal(ds.pixel_array + ds.RescaleIntercept, VOLUME[3])


def test_an_unknown_age_is_left_out(tmp_path: Path) -> None:
    assert read_header(write_xa_run(tmp_path, RUN, age="")).patient_age_years is None


def test_arrays_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(frames, rows, columns\)"):
        write_xa_run(tmp_path, RUN[0])
    with pytest.raises(ValueError, match=r"\(slices, rows, columns\)"):
        write_ct_series(tmp_path, VOLUME[0])
