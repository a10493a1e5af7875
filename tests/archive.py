"""dcmtk's dcmqrscp as an archive: it stores, is searched, sends to those it knows, and has no storage commitment."""

from __future__ import annotations

from pathlib import Path

from tests.services.process import LOCALHOST, Service, dcmtk, free_port


class Archive(Service):
    """A query/retrieve SCP with an empty store."""

    ae_title = "ARCHIVE"
    host = LOCALHOST

    def __init__(self, directory: Path, *, knows: tuple[str, int] = ("DICOMWORKER", 1)) -> None:
        """`knows` is the AE title and the port on this machine that C-MOVE may send to."""
        port = free_port()
        (directory / "store").mkdir()
        title, peer_port = knows
        lines = [
            f"NetworkTCPPort = {port}",
            "MaxPDUSize = 16384",
            "MaxAssociations = 16",
            "HostTable BEGIN",
            f"worker = ({title}, {LOCALHOST}, {peer_port})",
            "HostTable END",
            "VendorTable BEGIN",
            "VendorTable END",
            "AETable BEGIN",
            f"{self.ae_title} {directory / 'store'} RW (200, 1024mb) ANY",
            "AETable END",
        ]
        (directory / "archive.cfg").write_text("\n".join(lines) + "\n", encoding="utf-8")
        argv = [dcmtk("dcmqrscp"), "--config", str(directory / "archive.cfg")]
        super().__init__(argv, directory, port, env={"TCP_NODELAY": "1"})
