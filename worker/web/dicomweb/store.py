"""STOW-RS (PS3.18 10.5): instances in by HTTP, through the same durable path as C-STORE.

Input: a multipart/related body of application/dicom, read to the disk as it comes. Output: for each instance either its
address or why it was refused; an instance is acknowledged when its file and its row are durable. One request counts as
one association. On failure 400 or 415 where the body is not what it should be, 409 where nothing was stored, 503 where
there is no room; what was stored before a body broke off stays.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dicom_node import status
from dicom_node.dicomweb.intake import Intake, IntakeError, Taken
from dicom_node.dicomweb.media_types import DICOM, MULTIPART, MediaTypeError, parse_media_type
from dicom_node.dicomweb.multipart import MultipartError, MultipartReader, Part
from dicom_node.scp import AssociationRecord, ReceivedInstance
from dicom_node.spool import SpoolError
from worker.web.dicomweb.answers import base_url, check_uids, json_response, json_type, object_url
from worker.web.dicomweb.service import DicomWeb

log = structlog.get_logger()
router = APIRouter()

#: Stands in the ledger where C-STORE has the calling AE title; routes can ask for it.
CALLING: Final = "STOW-RS"
_CLASS_UID, _INSTANCE_UID, _REASON = "00081150", "00081155", "00081197"
_RETRIEVE, _FAILED, _REFERENCED, _OTHER_FAILURES = "00081190", "00081198", "00081199", "0008119A"


class _Reception:
    """One request's instances on their way in."""

    def __init__(self, service: DicomWeb, boundary: str, study: str, peer_address: str, base: str) -> None:
        self._service, self._study, self._base = service, study, base
        self._reader = MultipartReader(boundary)
        self._intake: Intake | None = None
        self._part_is_dicom = True
        self._id, self._peer, self._opened = uuid.uuid4().hex, peer_address, datetime.now(UTC)
        self.stored: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        #: Failures of what does not even say which instance it is.
        self.unnamed: list[dict[str, Any]] = []
        self.codes: list[int] = []
        self.studies: set[str] = set()

    @property
    def is_complete(self) -> bool:
        return self._reader.is_complete

    def take(self, piece: bytes) -> None:
        """Take a piece of the body; blocks while instances are made durable. Raises `MultipartError`."""
        for event in self._reader.feed(piece):
            if isinstance(event, Part):
                self._intake = Intake(self._service.spool, self._service.settings.web.largest_instance_mib * 2**20)
                self._part_is_dicom = _is_dicom(event)
            elif self._intake is not None and isinstance(event, bytes):
                if self._part_is_dicom:
                    self._intake.write(event)
            elif self._intake is not None:
                self._keep(self._intake)
                self._intake = None

    def end(self, *, released: bool) -> None:
        """Record the end of the request: a whole one is a sign that its series are whole."""
        if self._intake is not None:
            self._intake.abandon()
            self._intake = None
        if self.stored:
            self._service.writer.association_ended(
                AssociationRecord(
                    association_id=self._id,
                    calling_ae_title=CALLING,
                    called_ae_title=self._service.settings.dicom.ae_title,
                    peer_address=self._peer,
                    opened_at=self._opened,
                    closed_at=datetime.now(UTC),
                    released=released,
                    instances=len(self.stored),
                )
            )

    def _keep(self, intake: Intake) -> None:
        if not self._part_is_dicom:
            intake.abandon()
            self._refuse(intake, IntakeError(status.CANNOT_UNDERSTAND, "the part is not application/dicom"))
            return
        try:
            taken = intake.finish(self._study)
        except IntakeError as error:
            self._refuse(intake, error)
            return
        code = self._record(taken)
        if status.status_class(code) is status.StatusClass.FAILURE:
            self._refuse(intake, IntakeError(code, "the instance could not be recorded"))
            return
        header = taken.header
        self.studies.add(header.study_instance_uid)
        uids = (header.study_instance_uid, header.series_instance_uid, header.sop_instance_uid)
        url = {"vr": "UR", "Value": [object_url(self._base, *uids)]}
        self.stored.append(_named(header.sop_class_uid, header.sop_instance_uid) | {_RETRIEVE: url})

    def _record(self, taken: Taken) -> int:
        """Return the status of an instance once its row is durable."""
        return self._service.writer.record(
            ReceivedInstance(
                stored=taken.stored,
                header=taken.header,
                association_id=self._id,
                calling_ae_title=CALLING,
                called_ae_title=self._service.settings.dicom.ae_title,
                peer_address=self._peer,
                received_at=datetime.now(UTC),
            )
        )

    def _refuse(self, intake: Intake, error: IntakeError) -> None:
        log.warning(
            "instance refused",
            action="stow",
            association_id=self._id,
            sop_instance_uid=intake.sop_instance_uid[:64],
            status=f"0x{error.code:04X}",
            reason=str(error),
        )
        self.codes.append(error.code)
        reason = {_REASON: {"vr": "US", "Value": [error.code]}}
        if intake.sop_instance_uid:
            self.failed.append(_named(intake.sop_class_uid, intake.sop_instance_uid) | reason)
        else:
            self.unnamed.append(reason)

    @property
    def status_code(self) -> int:
        if not self.codes:
            return 200
        if self.stored:
            return 202
        return 503 if all(0xA700 <= code <= 0xA7FF for code in self.codes) else 409

    def answer(self) -> dict[str, Any]:
        """Return the Store Instances Response (PS3.18 I.2)."""
        made: dict[str, Any] = {}
        if len(self.studies) == 1:
            made[_RETRIEVE] = {"vr": "UR", "Value": [object_url(self._base, *self.studies)]}
        for tag, items in ((_FAILED, self.failed), (_REFERENCED, self.stored), (_OTHER_FAILURES, self.unnamed)):
            if items:
                made[tag] = {"vr": "SQ", "Value": items}
        return made


@router.post("/studies")
@router.post("/studies/{study}")
async def store(request: Request, study: str = "") -> Response:
    """Store instances, of any study or of the one that the address names."""
    media_type = json_type(request)
    if study:
        check_uids(study)
    boundary = _boundary(request)
    peer = request.client.host if request.client else ""
    try:
        reception = _Reception(request.app.state.dicomweb, boundary, study, peer, base_url(request))
    except MultipartError as error:
        raise HTTPException(400, str(error)) from None
    broken = await _receive(request, reception)
    if not (reception.stored or reception.codes):
        raise HTTPException(400, broken or "the body has no parts")
    if broken:
        log.warning("body broke off", action="stow", reason=broken)
    code = 202 if broken and reception.stored else reception.status_code
    return json_response(reception.answer(), media_type, code)


async def _receive(request: Request, reception: _Reception) -> str:
    """Take the body; return why it is not whole, or "". Raises `ClientDisconnect`."""
    broken = "the body ends before its closing boundary"
    released = False
    try:
        async for piece in request.stream():
            await run_in_threadpool(reception.take, piece)
        released = reception.is_complete
        broken = "" if released else broken
    except MultipartError as error:
        broken = str(error)
    except SpoolError as error:
        log.error("spool cannot be opened", action="stow", error=str(error))
        raise HTTPException(503, "the node cannot store just now; see its log") from None
    except ClientDisconnect:
        log.warning("client went away", action="stow", stored=len(reception.stored))
        raise
    finally:
        await run_in_threadpool(lambda: reception.end(released=released))
    return broken


def _boundary(request: Request) -> str:
    try:
        content = parse_media_type(request.headers.get("content-type", ""))
    except MediaTypeError:
        content = None
    if content is None or content.name != MULTIPART or content.content != DICOM:
        wanted = f'{MULTIPART}; type="{DICOM}"; boundary=...'
        raise HTTPException(415, f"instances are taken as {wanted}, not as metadata with bulk data")
    if not content.parameters.get("boundary"):
        raise HTTPException(400, "the Content-Type names no boundary")
    return content.parameters["boundary"]


def _is_dicom(part: Part) -> bool:
    """Whether a part is a DICOM file; one that does not say what it is counts as one."""
    try:
        return parse_media_type(part.headers.get("content-type", DICOM)).name == DICOM
    except MediaTypeError:
        return False


def _named(sop_class_uid: str, sop_instance_uid: str) -> dict[str, Any]:
    return {
        _CLASS_UID: {"vr": "UI", "Value": [sop_class_uid]},
        _INSTANCE_UID: {"vr": "UI", "Value": [sop_instance_uid]},
    }
