"""Sending by STOW-RS (PS3.18 10.5): a server and files in, exactly one outcome for each file out, whatever breaks.

Input: the address of a DICOMweb server and the paths of DICOM files. Output: `StoreOutcome`s, as C-STORE gives them.
Files go out byte for byte, read as they are sent. Nothing is raised for what happens on the network or is wrong with a
file: the outcome says it, and whether trying again can help. Where a request with several files fails as a whole, each
of them is sent by itself, so that one cannot speak for the others.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dicom_node.dicomweb.media_types import DICOM, DICOM_JSON
from dicom_node.dicomweb.multipart import closing, new_boundary, part_head
from dicom_node.dicomweb.origin import DicomWebServer
from dicom_node.dicomweb.stow_answer import read_answer
from dicom_node.headers import HeaderError, read_header
from dicom_node.http_server import reason_in_words
from dicom_node.scu import StoreOutcome
from dicom_node.status import Outcome

_PIECE_BYTES: Final = 1 << 20
#: An answer has a few hundred bytes an instance.
_MOST_ANSWER_BYTES: Final = 16 << 20
#: Answers about the object itself: it cannot be taken, however often it is sent.
_ABOUT_THE_OBJECT: Final = frozenset({400, 409, 413, 415, 422})
#: Answers that pass with time.
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sop_instance_uid: str
    size: int

    def outcome(
        self, klass: Outcome, comment: str = "", code: int | None = None, *, counts: bool = True
    ) -> StoreOutcome:
        return StoreOutcome(self.path, self.sop_instance_uid, klass, code, comment, is_associated=counts)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of a request as a whole; `about_all` is empty where the answer names each instance."""

    instances: Mapping[str, tuple[Outcome, int | None]] = field(default_factory=dict)
    about_all: Outcome | None = None
    comment: str = ""
    #: Whether it says something about the files, and not only about the server.
    counts: bool = True
    #: It did not come: the server may have the files.
    is_missing: bool = False


def store(
    server: DicomWebServer,
    files: Iterable[Path],
    *,
    timeout_s: float = 60.0,
    most_files: int = 50,
    most_bytes: int = 256 << 20,
) -> Iterator[StoreOutcome]:
    """Send `files`; yield exactly one outcome for each.

    Args:
        server: Where to.
        files: DICOM files.
        timeout_s: The longest silence of the server, and how long a connection may take.
        most_files: Files in one request.
        most_bytes: Bytes in one request; a larger file goes by itself.
    """
    readable: list[_File] = []
    for path in files:
        try:
            readable.append(_File(path, read_header(path).sop_instance_uid, path.stat().st_size))
        except (HeaderError, OSError) as error:
            yield StoreOutcome(path, "", Outcome.PERMANENT, comment=f"not sent: {error}")
    while readable:
        batch = _batch(readable, most_files, most_bytes)
        readable = readable[len(batch) :]
        answer = _request(server, batch, timeout_s)
        yield from _outcomes(server, batch, answer, timeout_s)
        if not answer.counts:
            # The server does not answer or does not let us in: asking again for each file would help no one.
            for file in readable:
                yield file.outcome(Outcome.TRANSIENT, answer.comment, counts=False)
            return


def _batch(files: Sequence[_File], most_files: int, most_bytes: int) -> list[_File]:
    batch: list[_File] = []
    size = 0
    for file in files[: max(1, most_files)]:
        # An instance twice in one request could not be told apart in the answer.
        if batch and (
            size + file.size > most_bytes or file.sop_instance_uid in {one.sop_instance_uid for one in batch}
        ):
            break
        batch.append(file)
        size += file.size
    return batch


def _outcomes(server: DicomWebServer, batch: list[_File], answer: _Answer, timeout_s: float) -> Iterator[StoreOutcome]:
    for file in batch:
        if file.sop_instance_uid not in answer.instances and _is_open(answer) and len(batch) > 1:
            alone = _request(server, [file], timeout_s)
            yield next(_outcomes(server, [file], alone, timeout_s))
            if not alone.counts:
                answer = replace(alone, instances=answer.instances)
        elif file.sop_instance_uid in answer.instances:
            klass, code = answer.instances[file.sop_instance_uid]
            yield file.outcome(klass, answer.comment, code)
        else:
            klass = answer.about_all or Outcome.TRANSIENT
            outcome = file.outcome(klass, answer.comment, counts=answer.counts)
            yield replace(outcome, is_unanswered=answer.is_missing)


def _is_open(answer: _Answer) -> bool:
    """Whether asking for one file by itself can tell more than this answer."""
    return answer.counts and answer.about_all is not Outcome.DELIVERED


def _request(server: DicomWebServer, batch: Sequence[_File], timeout_s: float) -> _Answer:
    connection = server.connection(timeout_s)
    try:
        try:
            connection.connect()
        except OSError as error:
            return _Answer(about_all=Outcome.TRANSIENT, comment=f"{server}: {reason_in_words(error)}", counts=False)
        return _exchange(server, connection, batch)
    finally:
        connection.close()


def _exchange(server: DicomWebServer, connection: http.client.HTTPConnection, batch: Sequence[_File]) -> _Answer:
    boundary = new_boundary()
    head, end = part_head(boundary, DICOM), closing(boundary)
    broken = ""
    try:
        connection.putrequest("POST", f"{server.parts.path.rstrip('/')}/studies")
        fields = {
            "Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}',
            "Content-Length": str(sum(len(head) + file.size for file in batch) + len(end)),
            "Accept": DICOM_JSON,
            **server.authorization,
        }
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        for file in batch:
            connection.send(head)
            _send_file(connection, file)
        connection.send(end)
    except FileChangedError as error:
        return _Answer(about_all=Outcome.PERMANENT, comment=str(error))
    except (OSError, http.client.HTTPException) as error:
        broken = reason_in_words(error)  # a server that refuses may say so and close before it has read everything
    try:
        response = connection.getresponse()
        body = response.read(_MOST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        words = f"{server}: {broken or reason_in_words(error)}"
        return _Answer(about_all=Outcome.TRANSIENT, comment=words, is_missing=True)
    return _understood(server, response.status, response.reason, body)


class FileChangedError(Exception):
    """A file cannot be read to the size that it had."""


def _send_file(connection: http.client.HTTPConnection, file: _File) -> None:
    left = file.size
    try:
        opened = file.path.open("rb")
    except OSError as error:
        raise FileChangedError(f"{file.path} cannot be read: {error.strerror}") from error
    with opened:
        while left:
            piece = opened.read(min(left, _PIECE_BYTES))
            if not piece:
                raise FileChangedError(f"{file.path} became shorter while it was sent")
            connection.send(piece)
            left -= len(piece)


def _understood(server: DicomWebServer, code: int, reason: str, body: bytes) -> _Answer:
    comment = f"{server} answered HTTP {code} {reason}".rstrip()
    instances = read_answer(body)
    if code in (200, 202, 409) and instances:
        return _Answer(instances, None, "" if code == 200 else comment)
    if code == 200:
        return _Answer(about_all=Outcome.DELIVERED)
    if code == 202:  # some were not stored, and it does not say which
        return _Answer(about_all=Outcome.TRANSIENT, comment=comment)
    if code in _ABOUT_THE_OBJECT:
        return _Answer(about_all=Outcome.PERMANENT, comment=comment)
    return _Answer(about_all=Outcome.TRANSIENT, comment=comment, counts=code in _BUSY)
