"""`evaluate` with every adapter and every kind of question: terminal, JSON and page, from phantom files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.integration.evaluation_cases import ASKED, Asked, write_manifest
from worker.cli import app

CASES = 3


class OpensAndCloses(HTMLParser):
    """Notes what is wrong with the nesting of a page, and the words that a reader sees."""

    void = frozenset({"meta", "br", "path", "use", "rect", "line", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.faults: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.void:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Stand for itself."""

    def handle_endtag(self, tag: str) -> None:
        if tag in self.void:
            return
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_every_adapter_and_question_is_measured(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dicom-worker.yaml").write_text("engine: {kind: standin}\n")
    manifest = write_manifest(tmp_path / "cases", asked, CASES)
    command = ["evaluate", "--adapter", asked.adapter, *asked.words, "--manifest", str(manifest), "--out", "report"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    document = json.loads(Path("report/evaluation.json").read_text())
    assert (document["entries"], document["failed"]) == (CASES, 0), document["warnings"]
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert set(asked.figures) <= set(figures)
    parser = OpensAndCloses()
    page = Path("report/evaluation.html").read_text()
    parser.feed(page)
    assert (parser.faults, parser.stack) == ([], [])
    shown = " ".join(parser.words)
    for name, figure in figures.items():
        assert name in shown
        assert name.split()[0] in done.stdout
        if figure["value"] is None:
            assert figure["remark"], f"{name} says why it has no value"
            continue
        if figure["low"] is None:
            assert figure["n"] == 1, f"{name} has no interval"
            assert "none from one case" in shown
            continue
        assert figure["low"] <= figure["value"] + 1e-9
        assert figure["value"] <= figure["high"] + 1e-9
        assert f"{figure['value']:.3f}" in shown
        assert f"{figure['low']:.3f} to {figure['high']:.3f}" in shown
    # Nothing from elsewhere: no address, no file, no script.
    assert not re.search(r"https?:|//[a-z]|src=|<link|<script|@import|url\((?!#)|href=\"(?!#)", page)
    answers = [json.loads(line) for line in Path("report/answers.jsonl").read_text().splitlines()]
    for answer, entry in zip(answers, json.loads(manifest.read_text()), strict=True):
        assert answer["truth"].items() >= entry["truth"].items()
