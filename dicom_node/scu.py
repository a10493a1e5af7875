"""Sending: C-ECHO to see whether a peer is there, C-STORE of files with exactly one outcome for each, whatever breaks.

Input: a peer and the paths of DICOM files. Output: `StoreOutcome`s. Files go out in the transfer syntax that they have,
byte for byte; only where the peer does not take Explicit VR Little Endian, in Implicit VR Little Endian. `c_store`
raises nothing for what happens on the network or is wrong with a file: the outcome says it, and whether trying again
can help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node import dimse, status
from dicom_node.associate_items import VERIFICATION
from dicom_node.file_format import FileFormatError
from dicom_node.headers import HeaderError, InstanceHeader, read_header
from dicom_node.outgoing import MAX_CONTEXTS, OutgoingAssociation, RequestError
from dicom_node.peer import Peer, PeerError, check_ae_title, parse_peer
from dicom_node.reencoding import in_default_syntax
from dicom_node.status import Outcome

#: What C-ECHO proposes.
ECHO_CONTEXT: Final = (VERIFICATION, str(ImplicitVRLittleEndian))

__all__ = [
    "ECHO_CONTEXT",
    "EchoError",
    "Outcome",
    "Peer",
    "PeerError",
    "StoreOutcome",
    "c_echo",
    "c_store",
    "parse_peer",
]


class EchoError(Exception):
    """The peer did not answer a C-ECHO with success; the message names it and the reason."""


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What became of one file."""

    path: Path
    #: "" where the file could not be read.
    sop_instance_uid: str
    klass: Outcome
    #: The status of the C-STORE response, None where there was none.
    status: int | None = None
    #: The reason in words; the peer's Error Comment, if it sent one.
    comment: str = ""
    #: False where no association came about: that says nothing about this file.
    is_associated: bool = True
    #: Seconds that the peer asks for before the next try; 0 where it does not say.
    retry_after_s: float = 0.0
    #: The peer accepted no transfer syntax that the file can be sent in.
    is_not_negotiated: bool = False
    #: It was sent and no answer came: the peer may have it.
    is_unanswered: bool = False

    @property
    def is_delivered(self) -> bool:
        """Whether the peer has the instance."""
        return self.klass in (Outcome.DELIVERED, Outcome.WARNING)

    @property
    def is_class_refused(self) -> bool:
        """Whether the peer takes no object of this SOP class, as it is with every other one of it."""
        return self.is_not_negotiated or self.status == status.SOP_CLASS_NOT_SUPPORTED

    @property
    def message(self) -> str:
        """The outcome in one line."""
        code = f"0x{self.status:04X} {status.status_name(self.status)}" if self.status is not None else ""
        return ": ".join(part for part in (str(self.klass), code, self.comment) if part)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    header: InstanceHeader

    @property
    def contexts(self) -> tuple[tuple[str, str], ...]:
        """What is proposed for it."""
        return tuple((self.header.sop_class_uid, uid) for uid in proposed_syntaxes(self.header.transfer_syntax_uid))

    def outcome(self, klass: Outcome, comment: str, code: int | None = None) -> StoreOutcome:
        return StoreOutcome(self.path, self.header.sop_instance_uid, klass, code, comment)


def proposed_syntaxes(transfer_syntax_uid: str) -> tuple[str, ...]:
    """Return what a file in this syntax is proposed in: its own first; what can be, in the default too (PS3.5 10.1)."""
    own = str(transfer_syntax_uid)
    return (own, str(ImplicitVRLittleEndian)) if own == ExplicitVRLittleEndian else (own,)


def c_echo(peer: Peer, *, calling_ae_title: str, connect_timeout_s: float = 10.0, timeout_s: float = 30.0) -> None:
    """Ask `peer` whether it is there (PS3.4 A). Raises `EchoError`, and `PeerError` for the calling AE title."""
    check_ae_title(calling_ae_title)
    pair = ECHO_CONTEXT
    try:
        with OutgoingAssociation(
            peer, calling_ae_title, [pair], connect_timeout_s=connect_timeout_s, timeout_s=timeout_s
        ) as association:
            context_id = association.context_id(*pair)
            if context_id is None:
                raise EchoError(f"{peer} accepted the association but not the Verification SOP class")
            code = association.echo(context_id, VERIFICATION).number(dimse.STATUS)
    except (RequestError, dimse.CommandError) as error:
        raise EchoError(str(error)) from error
    if code != status.SUCCESS:
        raise EchoError(f"{peer} answered C-ECHO with 0x{code:04X} {status.status_name(code)}")


def c_store(
    peer: Peer,
    files: Iterable[Path],
    *,
    calling_ae_title: str,
    connect_timeout_s: float = 10.0,
    timeout_s: float = 60.0,
) -> Iterator[StoreOutcome]:
    """Send `files`, over one association as long as it holds; yield exactly one outcome for each.

    `timeout_s` is the longest silence of the peer. Raises `PeerError` for the calling AE title, before it sends.
    """
    return _store_all(peer, list(files), check_ae_title(calling_ae_title), connect_timeout_s, timeout_s)


def _store_all(
    peer: Peer, paths: Sequence[Path], calling_ae_title: str, connect_timeout_s: float, timeout_s: float
) -> Iterator[StoreOutcome]:
    readable: list[_File] = []
    for path in paths:
        try:
            readable.append(_File(path, read_header(path)))
        except (HeaderError, OSError) as error:
            yield StoreOutcome(path, "", Outcome.PERMANENT, comment=f"not sent: {error}")
    while readable:
        batch, readable = _batch(readable)
        done = 0
        is_open = False
        try:
            contexts = list(dict.fromkeys(pair for file in batch for pair in file.contexts))
            with OutgoingAssociation(
                peer, calling_ae_title, contexts, connect_timeout_s=connect_timeout_s, timeout_s=timeout_s
            ) as association:
                is_open = True
                for file in batch:
                    outcome = _store_one(association, peer, file)
                    done += 1
                    yield outcome
        except RequestError as error:
            # The file at hand has failed. The others get another association, unless none came about or the peer is
            # silent: then waiting for it once more for each of them would help no one.
            klass = Outcome.PERMANENT if error.is_permanent else Outcome.TRANSIENT
            failed, rest = batch[done : done + 1], batch[done + 1 :]
            if not is_open or error.is_silent:
                failed, rest = batch[done:] + readable, []
                readable = []
            for number, file in enumerate(failed):
                is_unanswered = is_open and number == 0 and not error.is_permanent
                outcome = file.outcome(klass, str(error))
                yield replace(outcome, is_associated=is_open, is_unanswered=is_unanswered)
            readable = rest + readable


def _batch(files: list[_File]) -> tuple[list[_File], list[_File]]:
    """Split `files` where the presentation contexts of one association are used up."""
    contexts: set[tuple[str, str]] = set()
    for number, file in enumerate(files):
        contexts.update(file.contexts)
        if len(contexts) > MAX_CONTEXTS:
            return files[:number], files[number:]
    return files, []


def _store_one(association: OutgoingAssociation, peer: Peer, file: _File) -> StoreOutcome:
    """Send one file. Raises `RequestError` where the association broke."""
    sop_class_uid = file.header.sop_class_uid
    context_id, syntax = association.first_context(file.contexts)
    if context_id is None:
        syntaxes = " or ".join(UID(pair[1]).name for pair in file.contexts)
        words = f"{peer} does not accept {UID(sop_class_uid).name} in {syntaxes}"
        return replace(file.outcome(Outcome.PERMANENT, words), is_not_negotiated=True)
    try:
        as_it_is = syntax == file.header.transfer_syntax_uid
        with nullcontext(file.path) if as_it_is else in_default_syntax(file.path) as path:
            response = association.store(context_id, path, sop_class_uid, file.header.sop_instance_uid)
        code = response.number(dimse.STATUS)
    except dimse.CommandError as error:
        raise RequestError(f"{peer}: {error}") from error
    except FileFormatError as error:
        raise RequestError(str(error), is_permanent=True) from error
    except OSError as error:
        raise RequestError(f"{file.path} cannot be read: {error.strerror}", is_permanent=True) from error
    return file.outcome(status.store_outcome(code), response.text(dimse.ERROR_COMMENT), code)
