"""`fetch`: have an archive send the images of an accession number to this node.

Input: an accession number and a source of the settings, or a peer written AET@HOST:PORT. Output: one line or JSON entry
for each study. Exit code 1 when the archive has no such study, does not answer, or could not send everything.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    ledger,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)

if TYPE_CHECKING:
    from dicom_node.peer import Peer
    from worker.delivery_settings import Way
    from worker.settings import Settings


def fetch(
    accession: Annotated[str, typer.Argument(help="accession number, as at the archive")],
    source: Annotated[str, typer.Option("--from", metavar="NAME|AET@HOST:PORT", help="a source of the settings")],
    priors: Annotated[int, typer.Option(min=0, help="fetch also so many earlier studies of the patient")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have an archive send what is missing here of an examination (C-FIND, C-MOVE or C-GET).

    For C-MOVE the daemon must be running.
    """
    from dicom_node.query import QueryError
    from dicom_node.spool import SpoolError
    from worker import retrieval
    from worker.fetching import ImageArchive
    from worker.reception import reception

    settings = read_settings(config)
    peer, way = _source(settings, source)
    try:
        with ledger(settings) as database:
            title, timeout_s = settings.dicom.ae_title, settings.delivery.timeout_s
            archive = ImageArchive(peer, title, timeout_s, lambda: reception(database, settings), way)
            studies = retrieval.fetch(database, archive, accession, priors=priors)
    except (QueryError, SpoolError) as error:
        fail(str(error))
    if as_json:
        print_json({"from": str(peer), "studies": [asdict(study) for study in studies]})
    else:
        rows = [
            [
                study.study_instance_uid,
                study.study_date,
                study.description,
                *(str(number) for number in (study.at_archive, study.here, study.sent, study.failed)),
            ]
            for study in studies
        ]
        out().print(table("study", "date", "description", "at archive", "here", "sent", "failed", rows=rows))
    if any(study.here + study.sent < study.at_archive for study in studies):
        raise typer.Exit(FAILED)


def _source(settings: Settings, text: str) -> tuple[Peer, Way]:
    """Return the archive, and how images are fetched from it."""
    from dicom_node.peer import PeerError, parse_peer
    from dicom_node.tls import TlsError
    from worker.peers import peer_of

    try:
        named = next((source for source in settings.sources if source.name == text), None)
        if named is not None:
            return peer_of(settings, named), named.retrieve
        if "@" not in text:
            names = ", ".join(source.name for source in settings.sources) or "none"
            wrong_usage(f"--from {text}: `sources` has no such name ({names}); or write AET@HOST:PORT")
        return parse_peer(text), "auto"
    except (PeerError, TlsError) as error:
        wrong_usage(str(error))
