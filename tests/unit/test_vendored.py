"""JavaScript of others is what its makers published: a change of it is seen."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "worker" / "web" / "static" / "vendor"


def test_every_file_has_its_digest_and_its_licence() -> None:
    readme = (VENDOR / "README.md").read_text(encoding="utf-8")
    digests = dict(re.findall(r"^sha256 `([^`]+)`: ([0-9a-f]{64})$", readme, re.MULTILINE))
    scripts = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.js")}
    assert digests == scripts
    for name in re.findall(r"\(`([^`]+-licence\.md)`\)", readme):
        assert (VENDOR / name).is_file()
