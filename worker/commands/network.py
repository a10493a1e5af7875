"""`send` and `echo`: C-STORE and C-ECHO to any node, with the site's own AE title and certificates.

Input: files or folders, and a peer written AET@HOST:PORT. Output: one line or JSON entry per file with the DICOM status
in words; with `--probe` a table of what the peer takes. Exit code 1 when the peer does not answer or did not take
everything; files that are not DICOM are named and left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.console import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    ledger,
    note,
    out,
    print_json,
    read_settings,
    table,
    wrong_usage,
)
from worker.commands.dicom_files import PathsArgument, read_instances

if TYPE_CHECKING:
    from dicom_node.probe import Capabilities
    from dicom_node.scu import Peer
    from worker.settings import Destination, DicomDestination, Settings

CallingOption = Annotated[str, typer.Option("--calling", metavar="AET", help="our AE title [default: dicom.ae_title]")]
TlsOption = Annotated[bool, typer.Option("--tls", help="use the certificates of dicom.tls")]


def send(
    paths: PathsArgument,
    to: Annotated[str, typer.Option("--to", metavar="AET@HOST:PORT", help="who is to receive them")],
    calling: CallingOption = "",
    tls: TlsOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM files by C-STORE."""
    from dicom_node.scu import PeerError, c_store

    settings = read_settings(config)
    peer = _peer(to, settings, tls=tls)
    files, left_out = read_instances(paths)
    if not files:
        fail("none of these is a DICOM file:" + "".join(f"\n  {reason}" for reason in left_out))
    try:
        outcomes = list(
            c_store(peer, [file.path for file in files], calling_ae_title=calling or settings.dicom.ae_title)
        )
    except PeerError as error:
        wrong_usage(str(error))
    refused = [outcome for outcome in outcomes if not outcome.is_delivered]
    if as_json:
        sent = [
            {
                "path": str(outcome.path),
                "sop_instance_uid": outcome.sop_instance_uid,
                "delivered": outcome.is_delivered,
                "status": outcome.status,
                "message": outcome.message,
            }
            for outcome in outcomes
        ]
        print_json({"to": str(peer), "sent": sent, "left_out": left_out})
    else:
        for outcome in refused:
            note(f"{outcome.path}: {outcome.message}")
        for reason in left_out:
            note(f"left out: {reason}")
        out().print(f"{len(outcomes) - len(refused)} of {len(outcomes)} files are with {peer}", markup=False)
    if refused:
        raise typer.Exit(FAILED)


def echo(
    peer: Annotated[
        str, typer.Argument(metavar="PEER", help="AET@HOST:PORT, or the name of a destination in the settings")
    ],
    calling: CallingOption = "",
    tls: TlsOption = False,
    probe: Annotated[bool, typer.Option("--probe", help="ask also what it takes; nothing is stored there")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a DICOM node whether it is there (C-ECHO), and what it takes.

    What a destination of the settings does not take is remembered, and sent in another form.
    """
    from dicom_node import probe as probing
    from dicom_node.scu import EchoError, PeerError, c_echo
    from worker.settings import DicomDestination

    settings = read_settings(config)
    named = next((known for known in settings.destinations if known.name == peer), None)
    if named is not None and not isinstance(named, DicomDestination):
        _check(named, settings, as_json=as_json)
        return
    asked = _peer(peer, settings, tls=tls) if named is None else _peer_of_settings(named, settings)
    trouble, taken = None, None
    title = calling or settings.dicom.ae_title
    try:
        if probe:
            taken = probing.probe(asked, calling_ae_title=title)
        else:
            c_echo(asked, calling_ae_title=title)
    except PeerError as error:
        wrong_usage(str(error))
    except EchoError as error:
        trouble = str(error)
    if named is not None and taken is not None:
        _remember(settings, named.name, taken)
    if as_json:
        found = {} if taken is None else taken.to_json()
        print_json({"peer": str(asked), "ok": trouble is None, "message": trouble or "answers", **found})
        if trouble:
            raise typer.Exit(FAILED)
    elif trouble:
        fail(trouble)
    else:
        out().print(f"{asked} answers", markup=False)
        if taken is not None:
            _print_capabilities(taken)


def _check(named: Destination, settings: Settings, *, as_json: bool) -> None:
    """Look whether a destination that is no DICOM node answers."""
    from worker.channels import UnreachableError, channel_of

    trouble = None
    try:
        channel_of(named).check(settings, named)
    except UnreachableError as error:
        trouble = str(error)
    if as_json:
        print_json({"peer": named.address, "ok": trouble is None, "message": trouble or "answers"})
        if trouble:
            raise typer.Exit(FAILED)
    elif trouble:
        fail(f"{named.address} does not answer: {trouble}")
    else:
        out().print(f"{named.address} answers", markup=False)


def _remember(settings: Settings, name: str, taken: Capabilities) -> None:
    """Keep what the probe showed, in place of what was known of the destination."""
    from worker.db import refusals

    with ledger(settings) as database, database.writing() as session:
        refusals.forget(session, name)
        refusals.learn(session, name, taken.refused, "it accepted no presentation context for it when it was probed")


def _print_capabilities(taken: Capabilities) -> None:
    described = taken.to_json()
    rows = []
    for entry in described["storage"]:
        names = [syntax["name"] for syntax in entry["transfer_syntaxes"] if syntax["accepted"]]
        rows.append([entry["sop_class"], "yes" if names else "no", "\n".join(names)])
    out().print(table("object", "taken", "in", rows=rows))
    services = {"commitment": "storage commitment", "find": "C-FIND", "move": "C-MOVE", "get": "C-GET"}
    out().print(table("service", "offered", rows=[[services[n], "yes" if described[n] else "no"] for n in services]))


def peer_of(destination: DicomDestination, settings: Settings) -> Peer:
    """Return a destination of the settings as a peer, with certificates if it wants them.

    Raises:
        PeerError, TlsError: The settings do not allow it.
    """
    from dicom_node.scu import Peer, PeerError
    from dicom_node.tls import client_context

    context = None
    if destination.tls:
        files = settings.dicom.tls
        if files is None:
            raise PeerError("TLS is asked for, but the settings have no dicom.tls (certificate, key, ca)")
        context = client_context(files.ca, files.certificate, files.key)
    return Peer(destination.ae_title, destination.host, destination.port, context)


def _peer_of_settings(named: DicomDestination, settings: Settings) -> Peer:
    """Return a DICOM destination as a peer, or end with exit code 2."""
    from dicom_node.scu import PeerError
    from dicom_node.tls import TlsError

    try:
        return peer_of(named, settings)
    except (PeerError, TlsError) as error:
        wrong_usage(str(error))


def _peer(text: str, settings: Settings, *, tls: bool) -> Peer:
    """Read a peer off the command line, or end with exit code 2."""
    from dicom_node.scu import PeerError, parse_peer
    from dicom_node.tls import TlsError
    from worker.settings import DicomDestination

    try:
        peer = parse_peer(text)
        named = DicomDestination(name="command line", ae_title=peer.ae_title, host=peer.host, port=peer.port, tls=tls)
        return peer_of(named, settings)
    except (PeerError, TlsError) as error:
        wrong_usage(str(error))
