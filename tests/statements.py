"""Statements as reporting makes them, on structured reports that are really written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.report import Report
from dicom_node.results import write_dicom
from dicom_node.sr import build_sr
from tests.sample_reports import REVIEWER, TEST_FILES, frames_of, vessel_report
from worker.messages.statement import Standing, Statement, answer_uid, subject_of

CT: Final = TEST_FILES / "CT_small.dcm"


def statement(report: Report | None = None, source: Path | Dataset = CT, **changes: Any) -> Statement:
    """Return what is said of a report on one source image; unsigned, unless `changes` say more."""
    said = report or vessel_report([frames_of(source)])
    place = {
        "sop_instance_uid": "2.25.11",
        "series_instance_uid": "2.25.12",
        "series_number": 90000,
        "instance_number": 1,
    }
    subject, sr_uid = subject_of(write_dicom(build_sr(said, [source], **place)))
    made = Statement(
        report=said,
        standing=Standing.PRELIMINARY,
        subject=subject,
        answer_uid=answer_uid(said.sources[0].series_instance_uid, "unit", said.algorithm.name, ""),
        sr_uid=sr_uid,
        confidence_method="label likelihood",
    )
    return replace(made, **changes)


def signed(made: Statement, standing: Standing = Standing.FINAL) -> Statement:
    """Return a statement as a person has signed it."""
    return replace(made, standing=standing, signer=REVIEWER, is_edited=standing is Standing.AMENDED)
