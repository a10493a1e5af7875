"""The PACS's part in tests: Orthanc, and dcmtk's storescp as a plain receiver.

Both listen on all interfaces (neither has a setting for it); Orthanc's REST interface answers this machine only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom

from tests.services.process import (
    LOCALHOST,
    MissingProgramError,
    Service,
    answers_on,
    dcmtk,
    free_port,
    program,
    wait_until,
)

#: Of Debian's package orthanc-dicomweb.
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc(Service):
    """Orthanc as the PACS: any AE title may echo and store; REST without password for this machine only."""

    ae_title = "ORTHANC"
    host = LOCALHOST

    def __init__(self, directory: Path, *, dicomweb: bool = False) -> None:
        port, http_port = free_port(), free_port()
        if dicomweb and not DICOMWEB_PLUGIN.exists():
            raise MissingProgramError(f"there is no {DICOMWEB_PLUGIN}: apt-get install orthanc-dicomweb")
        configuration = {
            "Name": "PACS for tests",
            "StorageDirectory": str(directory / "storage"),
            "IndexDirectory": str(directory / "storage"),
            "Plugins": [str(DICOMWEB_PLUGIN)] if dicomweb else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomAet": self.ae_title,
            "DicomPort": port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "HttpPort": http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
        }
        (directory / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
        super().__init__([program("Orthanc", "orthanc"), str(directory / "orthanc.json")], directory, port)
        self.http_url = f"http://{LOCALHOST}:{http_port}"
        self.dicomweb_url = f"{self.http_url}/dicom-web"
        self._http = httpx.Client(base_url=self.http_url, trust_env=False, timeout=30)

    def ready(self) -> bool:
        """Return whether both the REST interface and the DICOM port answer."""
        try:
            return self._http.get("/system").is_success and answers_on(self.port)
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End the process and the connections to it."""
        self._http.close()
        super().stop()
        self._http = httpx.Client(base_url=self.http_url, trust_env=False, timeout=30)

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._http.close()

    def rest(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call Orthanc's REST interface; an answer other than 2xx is an error."""
        return self._http.request(method, path, **options).raise_for_status()

    def instance_ids(self) -> list[str]:
        """Return Orthanc's own ids of all stored instances."""
        return list(self.rest("GET", "/instances").json())

    def file(self, instance_id: str) -> bytes:
        """Return the DICOM file of an instance, as stored."""
        return self.rest("GET", f"/instances/{instance_id}/file").content

    def datasets(self) -> list[pydicom.Dataset]:
        """Return all stored instances, read by pydicom."""
        return [pydicom.dcmread(BytesIO(self.file(instance_id))) for instance_id in self.instance_ids()]

    def sop_instance_uids(self) -> set[str]:
        """Return the SOP Instance UIDs of all stored instances."""
        found = self.rest("GET", "/instances", params={"expand": ""}).json()
        return {str(instance["MainDicomTags"]["SOPInstanceUID"]) for instance in found}

    def wait_for(self, count: int, timeout_s: float = 30) -> list[pydicom.Dataset]:
        """Wait until at least `count` instances are stored, and return all of them."""
        wait_until(lambda: len(self.instance_ids()) >= count, timeout_s, f"{count} instances in Orthanc")
        return self.datasets()

    def upload(self, dicom: bytes) -> None:
        """Store a DICOM file by REST."""
        self.rest("POST", "/instances", content=dicom)

    def add_modality(self, name: str, ae_title: str, port: int, **rights: bool) -> None:
        """Tell Orthanc about a peer on this machine (for sending to it, and for its storage commitment reports)."""
        self.rest("PUT", f"/modalities/{name}", json={"AET": ae_title, "Host": LOCALHOST, "Port": port, **rights})

    def send(self, name: str, instance_ids: Sequence[str] = ()) -> None:
        """Send instances (none named: all) by C-STORE to a peer that `add_modality` told of."""
        self.rest("POST", f"/modalities/{name}/store", json=list(instance_ids) or self.instance_ids(), timeout=300)

    def clear(self) -> None:
        """Delete everything stored and every peer."""
        for kind in ("patients", "modalities"):
            for name in self.rest("GET", f"/{kind}").json():
                self.rest("DELETE", f"/{kind}/{name}")


#: A configuration file of storescp (dcmtk's asconfig.txt): these SOP classes, in one transfer syntax.
_LIMITED = """[[TransferSyntaxes]]
[Taken]
TransferSyntax1 = {syntax}
[[PresentationContexts]]
[Taken]
{contexts}
[[Profiles]]
[Taken]
PresentationContexts = Taken
"""


class StoreScp(Service):
    """dcmtk's storescp: takes every storage SOP class and transfer syntax, writes the bytes as they come."""

    ae_title = "STORESCP"
    host = LOCALHOST

    def __init__(self, directory: Path, *, takes: Sequence[str] = (), syntax: str = "1.2.840.10008.1.2.1") -> None:
        """Take every SOP class and syntax; or where `takes` names some, only these in one `syntax` (UIDs)."""
        port = free_port()
        self._configuration = directory / "storescp.cfg"
        self.received = directory / "received"
        incoming = directory / "incoming"
        self.received.mkdir()
        incoming.mkdir()
        # pydicom reads a half-written file without complaint, so a file is moved to `received` once it is whole.
        move = ["--exec-on-reception", f"mv '#p/#f' '{self.received}'", "--exec-sync"]
        accept = ["--fork", "--disable-host-lookup", "--max-pdu", "131072"]
        accept += ["--config-file", str(self._configuration), "Taken"] if takes else ["--accept-all", "--promiscuous"]
        if takes:
            self.take_only(takes, syntax)
        write = ["--bit-preserving", "--unique-filenames", "--output-directory", str(incoming)]
        argv = [dcmtk("storescp"), "--aetitle", self.ae_title, *accept, *write, *move, str(port)]
        super().__init__(argv, directory, port, env={"TCP_NODELAY": "1"})

    def take_only(self, sop_class_uids: Sequence[str], syntax: str = "1.2.840.10008.1.2.1") -> None:
        """Take these SOP classes in one transfer syntax from the next start on."""
        numbered = enumerate(sop_class_uids, 1)
        contexts = "\n".join(f"PresentationContext{number} = {uid}\\Taken" for number, uid in numbered)
        text = _LIMITED.format(syntax=syntax, contexts=contexts)
        self._configuration.write_text(text, encoding="ascii")

    def files(self) -> list[Path]:
        """Return the files received so far: one for every C-STORE, so an instance sent twice is there twice."""
        return sorted(self.received.iterdir())

    def datasets(self) -> list[pydicom.Dataset]:
        """Return the data sets received so far."""
        return [pydicom.dcmread(path) for path in self.files()]

    def wait_for(self, count: int, timeout_s: float = 30) -> list[pydicom.Dataset]:
        """Wait until at least `count` data sets are received, and return all of them."""
        wait_until(lambda: len(self.files()) >= count, timeout_s, f"{count} files from storescp")
        return self.datasets()
