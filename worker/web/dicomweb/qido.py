"""QIDO-RS (PS3.18 10.6): what is in the store, by its attributes.

Input: keys in the query of the address. Output: DICOM JSON, 204 where nothing matches. What rows can tell is asked of
the database; the rest of the object that speaks for a study or series. Answers are cut at a limit, with a warning
that says so. On failure 400, naming the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from dicom_node.dicomweb.dicom_json import element_at, keyword_tag, pick, plain_element, read_dataset, to_json
from dicom_node.dicomweb.matching import KEYS, Key, Level, Query, QueryError, matches_all, parse_query, range_of
from dicom_node.image_attributes import PixelError
from worker.db.records import Study
from worker.web.dicomweb import catalogue
from worker.web.dicomweb.answers import base_url, check_uids, json_response, json_type, object_url
from worker.web.dicomweb.catalogue import SeriesEntry, StoredObject, StudyEntry

log = structlog.get_logger()
router = APIRouter()

#: Results in one answer at most; what is beyond can be asked for with `offset`.
MOST_RESULTS: Final = 1000
#: Attributes of an answer at each level (PS3.18 tables 10.6.3-3 to 10.6.3-5) that are read from the object itself.
_USUAL: Final = {
    Level.STUDY: (
        *("SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
        *("TimezoneOffsetFromUTC", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
        *("StudyID", "StudyDescription"),
    ),
    Level.SERIES: (
        *("SpecificCharacterSet", "Modality", "TimezoneOffsetFromUTC", "SeriesDescription", "SeriesInstanceUID"),
        *("SeriesNumber", "SeriesDate", "SeriesTime", "BodyPartExamined", "PerformedProcedureStepStartDate"),
        *("PerformedProcedureStepStartTime", "RequestAttributesSequence"),
    ),
    Level.INSTANCE: (
        *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "TimezoneOffsetFromUTC", "InstanceNumber"),
        *("Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
    ),
}  # fmt: skip
#: What `includefield=all` adds above the instance level: attributes that are the same in the whole study or series.
_ALL: Final = {
    Level.STUDY: (
        *("PatientAge", "PatientSize", "PatientWeight", "IssuerOfPatientID", "OtherPatientIDs", "EthnicGroup"),
        *("AdmittingDiagnosesDescription", "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "Occupation"),
        *("AdditionalPatientHistory", "PatientComments", "InstitutionName"),
    ),
    Level.SERIES: (
        *("Laterality", "ProtocolName", "OperatorsName", "PerformingPhysicianName", "Manufacturer", "StationName"),
        *("InstitutionName", "ManufacturerModelName", "PerformedProcedureStepID", "PatientPosition"),
        *("PerformedProcedureStepDescription", "SoftwareVersions", "FrameOfReferenceUID", "DeviceSerialNumber"),
    ),
}  # fmt: skip
_COLUMNS: Final = {
    "StudyInstanceUID": Study.study_instance_uid,
    "PatientID": Study.patient_id,
    "AccessionNumber": Study.accession_number,
}
#: Columns are cut where DICOM's own values end; a longer one is compared in the object alone.
_COLUMN_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class _Found:
    """One thing that matches, at the level that is asked for."""

    study: StudyEntry
    series: SeriesEntry | None = None
    instance: StoredObject | None = None

    @property
    def speaker(self) -> StoredObject:
        """The object whose attributes are shown."""
        return self.instance or (self.series or self.study).first


@router.get("/studies")
def studies(request: Request) -> Response:
    """Search for studies."""
    return _search(request, Level.STUDY)


@router.get("/series")
@router.get("/studies/{study}/series")
def series(request: Request, study: str = "") -> Response:
    """Search for series, of all studies or of one."""
    return _search(request, Level.SERIES, study)


@router.get("/instances")
@router.get("/studies/{study}/instances")
@router.get("/studies/{study}/series/{series}/instances")
def instances(request: Request, study: str = "", series: str = "") -> Response:
    """Search for instances, of all studies, of one, or of one series."""
    return _search(request, Level.INSTANCE, study, series)


def _search(request: Request, level: Level, study: str = "", series: str = "") -> Response:
    media_type = json_type(request)
    fixed = [("StudyInstanceUID", study), ("SeriesInstanceUID", series)]
    given = [(name, uid) for name, uid in fixed if uid]
    check_uids(*(uid for _, uid in given))
    try:
        query = parse_query([*given, *request.query_params.multi_items()], level)
    except QueryError as error:
        raise HTTPException(400, str(error)) from None
    most = MOST_RESULTS if query.limit is None else min(query.limit, MOST_RESULTS)
    with request.app.state.database.reading() as session:
        found = islice(_matching(session, query), query.offset, query.offset + most + 1)
        base = base_url(request)
        answers = [_answer(one, query, base, bool(study)) for one in islice(found, most)]
        has_more = next(found, None) is not None
    warnings = []
    if has_more and (query.limit is None or query.limit > most):
        warnings.append(f"there are more than the {most} results given here; ask for the next ones with offset")
    if query.is_fuzzy:
        warnings.append("the fuzzymatching parameter is not supported; only literal matching has been performed")
    response = json_response(answers, media_type) if answers else Response(status_code=204)
    for text in warnings:
        response.headers.append("Warning", f'299 {request.url.netloc} "{text}"')
    return response


def _matching(session: Session, query: Query) -> Iterator[_Found]:
    """Yield what matches, lazily: what is beyond the limit is never looked at."""
    levels = {name: level for level, names in KEYS.items() for name in names}
    by_level = {level: [key for key in query.keys if levels[key.name] is level] for level in Level}
    for study in catalogue.studies(session, list(_conditions(query))):
        if not _is_match(by_level[Level.STUDY], _study_rows(study), study.first):
            continue
        if query.level is Level.STUDY:
            yield _Found(study)
            continue
        for series in study.series:
            if not _is_match(by_level[Level.SERIES], _series_rows(series), series.first):
                continue
            if query.level is Level.SERIES:
                yield _Found(study, series)
                continue
            for instance in catalogue.objects(session, study.study_instance_uid, series.series_instance_uid):
                if _is_match(by_level[Level.INSTANCE], _instance_rows(instance), instance):
                    yield _Found(study, series, instance)


def _conditions(query: Query) -> Iterator[ColumnElement[bool]]:
    """Yield what the database can leave out: never more than what does not match."""
    for name, column in _COLUMNS.items():
        key = query.key(name)
        if key and not any(set("*?") & set(value) or len(value) > _COLUMN_LENGTH for value in key.values):
            yield column.in_(key.values)
    if date := query.key("StudyDate"):
        start, end = range_of(date.values[0])
        if start:
            yield Study.study_date >= start
        if end:
            yield Study.study_date <= end
    if uids := query.key("SeriesInstanceUID"):
        yield catalogue.studies_with_series(uids.values)
    if uids := query.key("SOPInstanceUID"):
        yield catalogue.studies_with_instance(uids.values)


def _is_match(keys: Iterable[Key], rows: Dataset, speaker: StoredObject) -> bool:
    """Whether all keys match: those that rows can tell of first, for they cost nothing."""
    from_file = []
    for key in keys:
        if element_at(rows, (key.path[0],)) is None:
            from_file.append(key)
        elif not key.matches(rows):
            return False
    return not from_file or matches_all(from_file, _dataset(speaker))


def _study_rows(study: StudyEntry) -> Dataset:
    modalities = sorted({series.first.header.modality for series in study.series} - {""})
    return _rows(
        ("StudyInstanceUID", "UI", study.study_instance_uid),
        ("AccessionNumber", "SH", study.accession_number),
        ("PatientID", "LO", study.patient_id),
        ("PatientName", "PN", study.patient_name),
        ("StudyDate", "DA", study.study_date),
        ("StudyDescription", "LO", study.study_description),
        ("ModalitiesInStudy", "CS", modalities),
        ("NumberOfStudyRelatedSeries", "IS", str(len(study.series))),
        ("NumberOfStudyRelatedInstances", "IS", str(sum(series.instances for series in study.series))),
    )


def _series_rows(series: SeriesEntry) -> Dataset:
    header = series.first.header
    return _rows(
        ("SeriesInstanceUID", "UI", series.series_instance_uid),
        ("Modality", "CS", header.modality),
        ("SeriesDescription", "LO", header.series_description),
        ("SeriesNumber", "IS", "" if header.series_number is None else str(header.series_number)),
        ("NumberOfSeriesRelatedInstances", "IS", str(series.instances)),
    )


def _instance_rows(instance: StoredObject) -> Dataset:
    header = instance.header
    numbers = (
        ("InstanceNumber", "IS", header.instance_number),
        ("Rows", "US", header.rows),
        ("Columns", "US", header.columns),
        ("BitsAllocated", "US", header.bits_allocated),
        ("NumberOfFrames", "IS", header.number_of_frames),
    )
    known = [(name, vr, str(value) if vr == "IS" else value) for name, vr, value in numbers if value is not None]
    uids = (("SOPClassUID", "UI", header.sop_class_uid), ("SOPInstanceUID", "UI", header.sop_instance_uid))
    return _rows(*uids, *known, ("AvailableTransferSyntaxUID", "UI", header.transfer_syntax_uid))


def _rows(*values: tuple[str, str, Any]) -> Dataset:
    made = Dataset()
    for keyword, vr, value in values:
        made.add(plain_element(keyword, vr, value))
    return made


def _answer(found: _Found, query: Query, base: str, is_below_study: bool) -> dict[str, Any]:
    """Return one result: the attributes of its level, and of those above that the address does not fix."""
    levels = [level for level in Level if level <= query.level and not (is_below_study and level is Level.STUDY)]
    tags: set[int] = {keyword_tag(keyword) for level in levels for keyword in _USUAL[level]}
    tags |= {key.path[0] for key in query.keys} | query.include
    if query.include_all:
        tags |= {keyword_tag(keyword) for level in levels for keyword in _ALL.get(level, ())}
    made = Dataset()
    if query.level is not Level.INSTANCE or query.include or query.include_all or not is_below_study:
        dataset = _dataset(found.speaker)
        made.update(dataset if query.include_all and query.level is Level.INSTANCE else pick(dataset, tags))
    if not is_below_study:
        made.update(_study_rows(found.study))
    if found.series is not None:
        made.update(_series_rows(found.series))
    if found.instance is not None:
        made.update(_instance_rows(found.instance))
    uids = _place_of(found.speaker)[: query.level + 1]
    for keyword, uid in zip(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), uids, strict=False):
        made.add(plain_element(keyword, "UI", uid))
    made.add(plain_element("InstanceAvailability", "CS", "ONLINE"))
    made.add(plain_element("RetrieveURL", "UR", object_url(base, *uids)))
    return to_json(made, lambda place: f"{object_url(base, *_place_of(found.speaker))}/bulkdata/{place}")


def _place_of(instance: StoredObject) -> tuple[str, str, str]:
    header = instance.header
    return header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid


def _dataset(instance: StoredObject) -> Dataset:
    try:
        return _read(instance.path, instance.digest)
    except PixelError as error:
        log.warning("object cannot be read", action="qido", sop_instance_uid=instance.header.sop_instance_uid)
        log.debug("why", action="qido", error=error.reason)
        return Dataset()


@lru_cache(maxsize=64)
def _read(path: Path, digest: str) -> Dataset:
    return read_dataset(path)
