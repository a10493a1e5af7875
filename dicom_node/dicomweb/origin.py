"""A DICOMweb server of others, by its base URL (PS3.18 8.2)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.http_server import HttpServer, HttpServerError


@dataclass(frozen=True, slots=True)
class DicomWebServer(HttpServer):
    """Where to send and to ask; its URL goes up to the resource `studies`: https://pacs.example/dicom-web."""

    def __post_init__(self) -> None:
        """Refuse what is no base URL. Raises `HttpServerError`."""
        HttpServer.__post_init__(self)  # super() does not know a class that `slots` has made anew
        if self.parts.query:
            raise HttpServerError(f"the address of {self.parts.hostname} holds more than host and path")
