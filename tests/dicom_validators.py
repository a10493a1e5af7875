"""The field's validators over files: dciodvfy, dcentvfy, PixelMed's DicomSRValidator and dcmtk's dsrdump.

Input: paths of DICOM files. Output: what each tool says, errors apart from warnings. A tool that is not installed, or
that ends without a verdict, is an error: a test must not pass because nothing was checked.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.services.process import dcmtk, program

_PIXELMED_JAR: Final = Path("/usr/share/java/pixelmed.jar")
_VALIDATE_ALL: Final = Path(__file__).with_name("ValidateAll.java")
#: PixelMed's rules exceed Java's default limits for XPath.
_XPATH_LIMITS: Final = tuple(f"-Djdk.xml.xpath{name}Limit=0" for name in ("TotalOp", "ExprGrp", "ExprOp"))
#: Its rules are a long program that runs briefly: better compiled fast than well.
_BRIEF: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_PIXELMED_TIMEOUT_S: Final = 280
_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a validator said of one file."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def dciodvfy(path: Path) -> Verdict:
    """Check one file against its IOD (PS3.3 annex A)."""
    lines = _lines([program("dciodvfy", "dicom3tools"), "-new", str(path)])
    return Verdict(_starting("Error", lines), _starting("Warning", lines))


def dcentvfy(paths: Sequence[Path]) -> Verdict:
    """Check that the instances of one study agree about patient, study and series."""
    lines = _lines([program("dcentvfy", "dicom3tools"), *map(str, paths)])
    return Verdict(_starting("Error", lines), _starting("Warning", lines))


def dsrdump(path: Path) -> str:
    """Return an SR document as dcmtk prints it, whole texts and codes included; raises where dcmtk cannot read it."""
    arguments = [dcmtk("dsrdump"), "--print-long-values", "--print-all-codes", str(path)]
    return subprocess.run(arguments, check=True, capture_output=True, encoding="utf-8", timeout=_TIMEOUT_S).stdout


def pixelmed(paths: Sequence[Path]) -> dict[Path, Verdict]:
    """Check SR documents against their templates (PS3.16) with PixelMed, in one Java process where Java can compile."""
    java = program("java", "default-jre-headless")
    if not _PIXELMED_JAR.exists():
        raise AssertionError(f"{_PIXELMED_JAR} is missing: apt-get install libpixelmed-java (make test does it)")
    base = [java, *_BRIEF, *_XPATH_LIMITS, "-cp", str(_PIXELMED_JAR)]
    if any(line.startswith("jdk.compiler") for line in _lines([java, "--list-modules"])):
        output = _lines([*base, str(_VALIDATE_ALL), *map(str, paths)], timeout_s=_PIXELMED_TIMEOUT_S)
        return {path: _pixelmed_verdict(path, _section(output, path)) for path in paths}
    single = [*base, "com.pixelmed.validate.DicomSRValidator", "-checktemplateid", "-checkcontentitemorder"]
    return {path: _pixelmed_verdict(path, _lines([*single, str(path)])) for path in paths}


def _pixelmed_verdict(path: Path, lines: Sequence[str]) -> Verdict:
    if "IOD validation complete" not in lines or "Root Template Validation Complete" not in lines:
        raise AssertionError(f"PixelMed did not finish {path}: {lines}")
    return Verdict(_starting("Error", lines), _starting("Warning", lines))


def _section(output: Sequence[str], path: Path) -> Sequence[str]:
    if (head := f"=== {path}") not in output:
        raise AssertionError(f"PixelMed did not reach {path}: {output}")
    rest = output[output.index(head) + 1 :]
    end = next((number for number, line in enumerate(rest) if line.startswith("=== ")), len(rest))
    return rest[:end]


def _starting(word: str, lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for line in lines if line.startswith(word))


def _lines(arguments: Sequence[str], timeout_s: float = _TIMEOUT_S) -> list[str]:
    done = subprocess.run(arguments, check=False, capture_output=True, timeout=timeout_s)
    return (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
