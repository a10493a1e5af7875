"""The documentation names what is there: every setting, every command, every file it links to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from worker.children import PROCESSES_OF_ROLE
from worker.cli import app
from worker.commands.settings_reference import as_markdown, setting_lines

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> set[str]:
    """Return every command as it is typed, e.g. "review list"."""
    root = get_command(app)
    found = set()
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        found |= {f"{name} {part}" for part in inner} if inner else {name}
    return found


def test_the_list_of_settings_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == as_markdown(), (
        "dicom-worker settings --markdown > docs/settings.md"
    )


def test_every_setting_says_what_it_is_and_in_which_unit() -> None:
    lines = setting_lines()
    assert {"dicom.port", "web.bind", "destinations[].host", "routes[].when.modality"} <= {line.name for line in lines}
    for line in lines:
        assert len(line.help) > 5, line.name
        assert line.unit == "seconds" or not line.name.endswith("_s"), line.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    known = commands()
    for line in re.findall(r"dicom-worker ([a-z][a-z -]*)", page.read_text(encoding="utf-8")):
        words = line.split()
        assert words[0] in known or " ".join(words[:2]) in known, f"{page.name}: dicom-worker {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_text_exist(page: Path) -> None:
    names = {line.name for line in setting_lines()}
    names |= {re.sub(r"\[\]", "", name) for name in names}
    sections = {re.escape(name.split(".")[0]) for name in names if "." in name}
    for name in re.findall(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)`", page.read_text(encoding="utf-8")):
        name = re.sub(r"^(engine\.adapters)\..*", r"\1", name)  # its keys are the adapters' names
        assert any(known == name or known.startswith(f"{name}.") for known in names), f"{page.name}: {name}"


def test_the_guide_names_every_command_and_role() -> None:
    guide = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command in commands():
        assert f"dicom-worker {command}" in guide, command
    for role in PROCESSES_OF_ROLE:
        assert re.search(rf"`{role}`", guide), role


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in folder.glob("[0-9]*.md")}
