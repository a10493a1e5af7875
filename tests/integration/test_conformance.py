"""The conformance statement against what a running node accepts, and what it proposes to others."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification

from dicom_node import commitment, query, scp, scu
from dicom_node.connecting import RequestError
from dicom_node.results import write_dicom
from dicom_node.spool import Spool
from dicom_node.sr_classes import REPORT_CLASSES, in_class
from tests import services
from tests.receiving_node import PYDICOM_FILES
from tests.schema import upgraded
from tests.services.process import dcmtk
from worker.conformance import contexts
from worker.conformance.sample import results
from worker.db.sessions import Database
from worker.ingest import IngestWriter
from worker.node import LedgerKeeper
from worker.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
OURS = "DICOMWORKER"
CT = "1.2.840.10008.5.1.4.1.1.2"


def part(head: str) -> str:
    """The text below a heading of the statement."""
    return re.split(r"^##", DOCUMENT.split(f"# {head}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def uids_in(text: str) -> set[str]:
    return set(re.findall(r"`([0-9.]{10,64})`", text))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[scp.StoreScp]:
    folder = tmp_path_factory.mktemp("node")
    db = Database(f"sqlite:///{folder}/ledger.db")
    upgraded(db)
    writer = IngestWriter(db, 600, lambda _series_id: None)
    keeper = LedgerKeeper(db, Settings().delivery)
    config = scp.ScpConfig(OURS, port=0)
    with scp.StoreScp(config, Spool(folder / "spool"), writer.record, writer.association_ended, keeper=keeper) as node:
        yield node
    writer.close()
    db.close()


def accepted_by(node: scp.StoreScp, pairs: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Propose each pair in a context of its own, with pynetdicom."""
    found = set()
    ae = AE("STRANGER")
    for start in range(0, len(pairs), 127):
        contexts_ = [build_context(*pair) for pair in pairs[start : start + 127]]
        # Verification keeps the association up where nothing else is accepted.
        assoc = ae.associate(
            services.LOCALHOST, node.port, contexts=[*contexts_, build_context(Verification)], ae_title=OURS
        )
        assert assoc.is_established
        accepted = [context for context in assoc.accepted_contexts if context.context_id != 2 * len(contexts_) + 1]
        found |= {(str(context.abstract_syntax), str(context.transfer_syntax[0])) for context in accepted}
        assoc.release()
    return found


def test_the_node_accepts_the_classes_of_the_statement_and_no_others(node: scp.StoreScp) -> None:
    stated = uids_in(part("Storage SOP classes")) | uids_in(part("Presentation contexts accepted"))
    every_class = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"]
    implicit = "1.2.840.10008.1.2"
    assert {uid for uid, _ in accepted_by(node, [(uid, implicit) for uid in every_class])} == stated


def test_the_node_accepts_the_transfer_syntaxes_of_the_statement(node: scp.StoreScp) -> None:
    every_syntax = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
    assert set(every_syntax) == uids_in(part("Transfer syntaxes"))
    lines = [line for line in part("Presentation contexts accepted").splitlines() if "`" in line]
    rows = {line.split("`")[1]: line.split("|")[2] for line in lines}
    rows = {uid: names for uid, names in rows.items() if uid in (Verification, commitment.SOP_CLASS)}
    asked = [(uid, syntax) for uid in (CT, *rows) for syntax in every_syntax]
    found = accepted_by(node, asked)
    assert {syntax for uid, syntax in found if uid == CT} == set(every_syntax)
    for uid, names in rows.items():
        assert [UID(s).name for s in every_syntax if (uid, s) in found] == [name.strip() for name in names.split(",")]


def test_dcmtk_is_served_as_stated(node: scp.StoreScp) -> None:
    address = ["--call", OURS, services.LOCALHOST, str(node.port)]
    compressed = PYDICOM_FILES / "JPEG2000.dcm"
    for arguments in (
        [dcmtk("echoscu"), "--propose-ts", "3", *address],
        [dcmtk("storescu"), "--propose-j2k-lossy", "--required", *address, str(compressed)],
    ):
        done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr


@contextmanager
def listening(seen: list[tuple[str, str]]) -> Iterator[scu.Peer]:
    """An AE that serves everything and notes what is proposed to it."""

    def note(event: evt.Event) -> None:
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list  # codespell:ignore requestor
        seen.extend((str(c.abstract_syntax), str(s)) for c in proposed for s in c.transfer_syntax)

    ae = AE("ANYBODY")
    for offer in contexts.proposed():
        ae.add_supported_context(UID(offer.sop_class_uid), [UID(s) for s in offer.transfer_syntaxes])
    server = ae.start_server((services.LOCALHOST, 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, note)])
    yield scu.Peer("ANYBODY", services.LOCALHOST, server.server_address[1])
    server.shutdown()


def test_others_are_asked_for_what_is_stated_and_nothing_else(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    paths = []
    written = dict(results())
    written |= {uid: other for uid in REPORT_CLASSES[1:] if (other := in_class(written["sr"], uid)) is not None}
    for kind, ds in written.items():
        paths.append(tmp_path / f"{kind}.dcm")
        paths[-1].write_bytes(write_dicom(ds))
    request = commitment.Request("1.2.3", (commitment.Reference("1.2.3", "1.2.3"),))
    study = {"StudyInstanceUID": "1.2.3"}
    with listening(seen) as peer:
        scu.c_echo(peer, calling_ae_title=OURS)
        list(scu.c_store(peer, paths, calling_ae_title=OURS))
        with suppress(commitment.NotOfferedError, RequestError):
            commitment.ask(
                peer,
                request,
                calling_ae_title=OURS,
                on_report=lambda _report: 0,
                wait_s=0.01,
                connect_timeout_s=5,
                timeout_s=5,
            )
        with suppress(query.QueryError):
            query.find(peer, "STUDY", study, calling_ae_title=OURS, timeout_s=5)
        with suppress(query.QueryError):
            query.move(peer, "STUDY", study, to_ae_title=OURS, calling_ae_title=OURS, timeout_s=5)
    stated = {(offer.sop_class_uid, syntax) for offer in contexts.proposed() for syntax in offer.transfer_syntaxes}
    without_get = {pair for pair in stated if pair[0] != query.STUDY_ROOT_GET}
    assert set(seen) == without_get, "C-GET is tested with archives"
    assert {uid for uid, _ in stated} <= uids_in(part("Presentation contexts proposed"))
