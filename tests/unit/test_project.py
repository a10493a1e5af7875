"""The project's own files agree with one another: Makefile, CI, image, compose file, packaging, pinned versions."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from worker.children import PROCESSES_OF_ROLE
from worker.settings import load_settings

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "gpu.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
ROLES = set(PROCESSES_OF_ROLE)
OURS = {name: service for name, service in COMPOSE["services"].items() if "dicom-worker" in service["image"]}

# torch pins these itself, exactly and by platform; they are there only beside its CUDA build.
CUDA_PARTS = re.compile(r"nvidia-.*|cuda-.*|triton")


def tracked_files() -> list[Path]:
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def dicom_worker(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "worker", *words]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


# Commands


def test_compose_plays_every_role_once() -> None:
    commands = {name: service["command"] for name, service in OURS.items()}
    assert commands.pop("migrate") == ["db", "upgrade"]
    assert commands == {role: ["run", role] for role in ROLES}


def test_run_knows_the_roles_and_the_profile_that_other_files_name() -> None:
    usage = dicom_worker("run", "--help").stdout
    for word in [*ROLES, "--profile"]:
        assert word in usage
    refused = dicom_worker("run", "no-such-role")
    assert refused.returncode == 2
    assert "no-such-role" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("words", [("db", "upgrade"), ("echo",), ("doctor",)])
def test_commands_that_the_image_and_compose_call_exist(words: tuple[str, ...]) -> None:
    called = [*DOCKERFILE.splitlines(), *(str(service) for service in OURS.values())]
    assert any(re.sub(r"[\s'\",\[\]]+", " ", line).find(" ".join(words)) >= 0 for line in called)
    done = dicom_worker(*words, "--help")
    assert done.returncode == 0, done.stderr


def test_make_has_the_two_commands_of_the_contract_and_ci_uses_one() -> None:
    plan = {target: make_plan(target) for target in ("run", "test")}
    assert ".venv/bin/dicom-worker run --profile demo" in plan["run"]
    assert "scripts/lint.sh .venv" in plan["test"]
    assert "scripts/tests.sh .venv" in plan["test"]
    (parts,) = re.findall(r"^test: (.*?) ##", MAKEFILE, flags=re.MULTILINE)
    run = re.findall(r"^(?:exec )?make ([\w-]+)", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert {"venv", *run} == set(parts.split()), "lint makes the virtual environment"


def make_plan(target: str) -> str:
    # The outer make's flags would change what this one prints.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "PYTEST_ARGS")}
    make = ["make", "--dry-run", "--no-print-directory", target]
    return subprocess.run(make, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_modules_and_scripts_that_make_calls_exist() -> None:
    for module in re.findall(r"python -m ([\w.]+)", MAKEFILE):
        assert importlib.util.find_spec(module) is not None, module
    for script in [*re.findall(r"scripts/[\w-]+\.sh", MAKEFILE), ".ci/run"]:
        assert os.access(ROOT / script, os.X_OK), f"{script} is not executable"


@pytest.mark.parametrize(
    ("words", "fails", "exit_code"),
    [
        ([], "", 0),
        ([], "tests/unit", 1),
        ([], "tests/faults", 1),
        (["-k", "faults"], "", 0),
        (["-k", "unit"], "unit", 1),
    ],
)
def test_all_tests_run_and_any_that_fails_is_heard_of(
    words: list[str], fails: str, exit_code: int, tmp_path: Path
) -> None:
    script = tmp_path / "scripts" / "tests.sh"
    python = tmp_path / ".venv" / "bin" / "python"
    for path in (script, python):
        path.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "tests.sh", script)
    python.write_text(f"#!/bin/bash\nsleep 0.1\necho ran: $*\n[[ -z '{fails}' || $* != *'{fails}'* ]]\n")
    python.chmod(0o755)
    done = subprocess.run([script, ".venv", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr
    ran = " ".join(re.findall(r"(?m)^ran: -m pytest(.*)", done.stdout)).split()
    assert sorted(ran) == sorted(words or {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")})


# Settings in the image and the compose file


@pytest.mark.parametrize("name", sorted(ROLES))
def test_settings_in_compose_are_settings(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    gpu: dict[str, str] = GPU["services"].get(name, {}).get("environment", {})
    for extra in [{}, gpu]:
        for variable, value in {**OURS[name]["environment"], **extra}.items():
            monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)))
        settings = load_settings()
        assert settings.engine.kind == ("transformers" if extra else "standin")
        assert settings.dicom.bind == settings.web.bind == "0.0.0.0"  # noqa: S104  (inside the container)
        assert settings.resolved_database_url.startswith("postgresql+psycopg://")
        (pacs,) = settings.destinations
        assert pacs.host in COMPOSE["services"]
        assert int(re.sub(r"\D", "", str(OURS[name]["stop_grace_period"]))) > settings.grace_s


def test_published_ports_are_this_machines_unless_asked_otherwise() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    for port in ports:
        assert port.startswith(("127.0.0.1:", "${DICOM_PUBLISH:-127.0.0.1}:"))


def test_volumes_and_dependencies_in_compose_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])
    assert set(GPU["services"]) <= set(OURS)


# Packaging


def test_image_and_pyproject_agree_on_python() -> None:
    images = set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE))
    assert images == {PYPROJECT["tool"]["mypy"]["python_version"]} == {"3.11"}
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == "py311"


def test_image_copies_every_package_and_runs_as_a_user_without_rights() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    packages = {pattern.rstrip("*") for pattern in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert copied == packages
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"} == kept
    assert re.search(r"^USER (?!root)\w+$", DOCKERFILE, re.MULTILINE)


def test_data_files_of_the_packages_are_installed_with_them() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    packages = {"dicom_node", "models", "worker", "migrations"}
    for path in tracked_files():
        inside = path.relative_to(ROOT)
        if inside.parts[0] in packages and path.suffix != ".py":
            assert any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns), f"{inside} is not installed"
            assert all(part.isidentifier() for part in inside.parts[:-1]), f"{inside}: no package can have this name"


def test_nothing_can_be_uploaded_by_accident() -> None:
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]


def test_commands_are_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="dicom-worker")
    assert callable(script.load())


# Pinned versions


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Everything that this project needs on this platform, directly or not, with who needs it."""
    to_visit: list[tuple[str, frozenset[str]]] = [("dicom-worker", frozenset({"", "dev"}))]
    seen = set(to_visit)
    while to_visit:
        name, extras = to_visit.pop()
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            applies = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            if not applies or CUDA_PARTS.fullmatch(canonicalize_name(needed.name)):
                continue
            yield name, needed
            visit = (canonicalize_name(needed.name), frozenset({"", *needed.extras}))
            if visit not in seen:
                seen.add(visit)
                to_visit.append(visit)


def test_constraints_pin_every_dependency_to_what_is_installed() -> None:
    pinned = pins()
    for name, needed in requirements():
        key = canonicalize_name(needed.name)
        assert key in pinned, f"{needed} (needed by {name}) is not in constraints.txt: make lock"
        assert needed.specifier.contains(pinned[key], prereleases=True), f"{name} needs {needed}"
        assert Version(importlib.metadata.version(key)).public == pinned[key], f"{key}: make venv"


def test_constraints_are_plain_pins_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", line) for line in lines)
    assert len(pins()) == len(lines)
    assert pins()["torch"] == "2.13.0"


# What must not be in the repository

# Some letters are in brackets, so that this file does not trip over itself.
FOREIGN = [
    r"(?<![\w.}])/wor[k]/(main|shared|\.library)",
    r"/roo[t]/",
    r"/opt/(wheel[s]|pyp[i])",
    r"(pyp[i]|pythonhoste[d]|pytorc[h]|npmj[s])\.(org|com)\b",
    r"(deb|security|archive)\.(deb[i]an|ub[u]ntu)\.",
]


def test_no_paths_of_one_machine_and_no_registry_hosts() -> None:
    pattern = re.compile("|".join(FOREIGN))
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if found := pattern.search(text):
            pytest.fail(f"{path.relative_to(ROOT)} names {found.group()!r}")


def test_shell_scripts_stop_at_the_first_error() -> None:
    for path in [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"]:
        first = path.read_text().splitlines()[0]
        assert shlex.split(first) == ["#!/usr/bin/env", "bash"]
        assert "set -euo pipefail" in path.read_text()
