"""A certificate authority and a certificate signed by it, made by openssl for one test run."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.process import program


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: the authority, and a certificate for both ends of a connection with its key."""

    ca: Path
    certificate: Path
    key: Path


def make_tls_files(folder: Path) -> TlsFiles:
    """Make the files in `folder`."""
    openssl = program("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

    new_key = ("req", "-newkey", "rsa:2048", "-nodes")
    run(*new_key, "-x509", "-days", "2", "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem")
    run(*new_key, "-subj", "/CN=localhost", "-keyout", "node.key", "-out", "node.csr")
    (folder / "node.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="utf-8")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "node.ext")
    run("x509", "-req", "-in", "node.csr", *signing, "-out", "node.pem")
    return TlsFiles(folder / "ca.pem", folder / "node.pem", folder / "node.key")
