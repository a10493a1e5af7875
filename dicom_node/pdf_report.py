"""Report + key images -> a report on paper: PDF pages that a person reads without a DICOM viewer.

Input: a `Report`, who the patient is, and the key images as they were captured. Output: the bytes of a PDF, the same
for the same input: the answer, findings with their probability, texts, limits and warnings, provenance, then the key
images. Every page says for what it may not be used. On failure `PictureError` names an image that cannot be drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from dicom_node import codes
from dicom_node.marking import OWN_VERSION, RESEARCH_STATEMENT, STANDIN_WARNING, clean_text, statements_of
from dicom_node.picture import PictureError, RgbArray, verification_line
from dicom_node.report import Measurement, Person, Report, ReportedFinding, SourceFrames, probability_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

#: A4 upright, in inches and in points (1/72 inch).
_PAGE_INCHES: Final = (8.27, 11.69)
_WIDTH, _HEIGHT = (side * 72 for side in _PAGE_INCHES)
_MARGIN: Final = 54.0
_FOOT: Final = 60.0
_LINE: Final = 1.35
_BLACK, _GREY, _RED = "#111111", "#555555", "#a80038"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom and what a report is about, as its head names them; empty where unknown."""

    patient_name: str
    patient_id: str
    birth_date: str
    study_date: str
    accession_number: str


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """A piece of text; `gap` is the space above, in points."""

    text: str
    size: float = 9.5
    color: str = _BLACK
    bold: bool = False
    indent: float = 0.0
    gap: float = 2.0


def render_pdf(
    report: Report,
    subject: Subject,
    pictures: Sequence[RgbArray],
    *,
    reviewer: Person | None = None,
    edited: bool = False,
) -> bytes:
    """Return the PDF. `pictures` (uint8, rows x columns x 3) come as they are, one page each. Raises `PictureError`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import PdfPages

    paragraphs = [*_head(report, subject, reviewer, edited=edited), *_body(report), *_provenance(report)]
    pages = [*_text_pages(paragraphs), *(_picture_page(picture) for picture in pictures)]
    foot = f"{RESEARCH_STATEMENT}. {report.title}, version {report.algorithm.version}. Patient ID {subject.patient_id}"
    if report.algorithm.is_standin:
        foot = f"{STANDIN_WARNING}. {foot}"
    # "Creator" and dates would differ from run to run and from one release of the library to the next.
    known = {"Title": report.title, "Creator": f"dicom-worker {OWN_VERSION}", "Producer": "matplotlib"}
    metadata = {**known, "CreationDate": report.answered_at.astimezone(UTC)}
    buffer = BytesIO()
    with mpl.rc_context({"pdf.compression": 6, "pdf.fonttype": 42}), PdfPages(buffer, metadata=metadata) as document:
        for number, page in enumerate(pages, start=1):
            _write(page, _Paragraph(foot, 7.5, _RED), _MARGIN, _FOOT - 22)
            _write(page, _Paragraph(f"page {number} of {len(pages)}", 7.5, _GREY), _WIDTH - _MARGIN - 50, _FOOT - 34)
            document.savefig(page)
    return buffer.getvalue()


def _head(report: Report, subject: Subject, reviewer: Person | None, *, edited: bool) -> Iterator[_Paragraph]:
    if report.algorithm.is_standin:
        yield _Paragraph(STANDIN_WARNING, 15, _RED, bold=True)
    yield _Paragraph(report.title, 16, bold=True)
    yield _Paragraph(RESEARCH_STATEMENT, 12, _RED, bold=True, gap=4)
    yield _Paragraph(verification_line(reviewer, edited=edited), 10, _RED)
    name = subject.patient_name.split("=")[0].replace("^", " ").strip() or "name unknown"
    born = f", born {_day(subject.birth_date)}" if subject.birth_date else ""
    yield _Paragraph(f"{name}{born}, patient ID {subject.patient_id or 'unknown'}", 10, gap=10)
    taken = _day(subject.study_date) or "unknown date"
    yield _Paragraph(f"Study of {taken}, accession number {subject.accession_number or 'unknown'}", 10)
    answered = report.answered_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    yield _Paragraph(f"Answered {answered}", 10)
    yield _Paragraph(report.headline, 12.5, bold=True, gap=12)


def _day(date: str) -> str:
    """Return a DA value (YYYYMMDD) as people write it."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 else date


def _body(report: Report) -> Iterator[_Paragraph]:
    yield _heading("Findings")
    for finding in report.findings:
        yield _Paragraph(_finding(finding), bold=True, gap=5)
        for line in _details(finding):
            yield _Paragraph(line, indent=12)
    yield _heading("In words")
    for narrative in report.narratives:
        if text := clean_text(narrative.text):
            yield _Paragraph(f"{narrative.heading.meaning} ({narrative.language})", bold=True, gap=5)
            yield from (_Paragraph(line, indent=12) for line in text.split("\n"))
    yield _heading("Limits and warnings")
    for statement in statements_of(report):
        yield _Paragraph(f"\N{BULLET} {statement}", indent=12)


def _provenance(report: Report) -> Iterator[_Paragraph]:
    algorithm = report.algorithm
    yield _heading("Where this comes from")
    maker = f"{algorithm.name}, version {algorithm.version}, by {algorithm.manufacturer or 'unknown'}"
    yield _Paragraph(f"Algorithm: {maker}; device {algorithm.device_uid}", size=8, color=_GREY)
    for parameter in algorithm.parameters:
        yield _Paragraph(parameter, size=8, color=_GREY, indent=12, gap=0.5)
    if report.replaces:
        yield _Paragraph(f"Stands in the place of the report {report.replaces}", size=8, color=_GREY, gap=4)
    yield _Paragraph("Images that the answer rests on:", size=8, color=_GREY, gap=4)
    shown = report.sources[:_MOST_SOURCES]
    for source in shown:
        yield _Paragraph(_source(source), size=8, color=_GREY, indent=12, gap=0.5)
    if len(shown) < len(report.sources):
        more = len(report.sources) - len(shown)
        yield _Paragraph(f"and {more} more, named in the structured report", size=8, color=_GREY, indent=12)


#: More sources than these would fill pages; the SR names them all.
_MOST_SOURCES: Final = 20


def _heading(text: str) -> _Paragraph:
    return _Paragraph(text, 11.5, bold=True, gap=13)


def _finding(finding: ReportedFinding) -> str:
    sites = ", ".join(site.meaning for site in finding.sites)
    named = finding.finding_type in (codes.NAMED_IN_TEXT, codes.FORM_OF_ANSWER)
    return (finding.tracking_id if named else finding.finding_type.meaning) + (f" ({sites})" if sites else "")


def _details(finding: ReportedFinding) -> Iterator[str]:
    for evaluation in finding.evaluations:
        yield f"{evaluation.name.meaning}: {evaluation.value.meaning}"
    for measurement in finding.measurements:
        yield _measured(measurement)
    if finding.region is not None:
        yield f"Outlined on {_source(finding.region.source)}: {finding.region.label}"
    if finding.times_s:
        yield "At " + ", ".join(f"{time:.1f} s" for time in finding.times_s) + " of the video"


def _measured(measurement: Measurement) -> str:
    if measurement.name == codes.PROBABILITY:
        return f"Probability: {probability_text(measurement.value)}"
    unit = "" if measurement.unit == codes.NO_UNITS else f" {measurement.unit.value}"
    return f"{measurement.name.meaning}: {measurement.value:g}{unit}"


def _source(source: SourceFrames) -> str:
    numbers = ", ".join(str(number) for number in source.frame_numbers)
    return f"{source.sop_instance_uid}" + (f", frames {numbers}" if numbers else "")


def _page() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=_PAGE_INCHES)


def _text_pages(paragraphs: Sequence[_Paragraph]) -> list[Figure]:
    """Fill pages from the top; a page ends where the next line would run into the foot."""
    pages, place = [_page()], _HEIGHT - _MARGIN
    for paragraph in paragraphs:
        place -= paragraph.gap
        for line in _wrapped(paragraph):
            place -= paragraph.size * _LINE
            if place < _FOOT:
                pages.append(_page())
                place = _HEIGHT - _MARGIN - paragraph.size * _LINE
            shown = _Paragraph(line, paragraph.size, paragraph.color, paragraph.bold)
            _write(pages[-1], shown, _MARGIN + paragraph.indent, place)
    return pages


def _picture_page(picture: RgbArray) -> Figure:
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise PictureError(f"a key image has shape {picture.shape}; needed: rows x columns x 3")
    page = _page()
    rows, columns = picture.shape[:2]
    room_across, room_down = _WIDTH - 2 * _MARGIN, _HEIGHT - _MARGIN - _FOOT
    scale = min(room_across / columns, room_down / rows)
    across, down = columns * scale, rows * scale
    left, bottom = (_WIDTH - across) / 2, _HEIGHT - _MARGIN - down
    axes = page.add_axes((left / _WIDTH, bottom / _HEIGHT, across / _WIDTH, down / _HEIGHT))
    axes.set_axis_off()
    axes.imshow(picture, interpolation="none", aspect="auto")
    return page


def _write(page: Figure, paragraph: _Paragraph, left: float, bottom: float) -> None:
    """Write one line, in points from the lower left corner; never as a formula, whatever it holds."""
    page.text(
        left / _WIDTH,
        bottom / _HEIGHT,
        _drawable(paragraph.text),
        fontsize=paragraph.size,
        color=paragraph.color,
        fontfamily="DejaVu Sans",
        fontweight="bold" if paragraph.bold else "normal",
        parse_math=False,
        fontfeatures=("-liga", "-clig"),  # or "fi" could not be found or copied
    )


def _wrapped(paragraph: _Paragraph) -> Iterator[str]:
    """Break at spaces; a word longer than the line is broken where it must be."""
    room = (_WIDTH - 2 * _MARGIN - paragraph.indent) / paragraph.size
    row = ""
    for word in _drawable(paragraph.text).split():
        candidate = f"{row} {word}" if row else word
        if _ems(candidate, bold=paragraph.bold) <= room:
            row = candidate
            continue
        if row:
            yield row
        row = word
        while _ems(row, bold=paragraph.bold) > room:
            fits = next(n for n in range(len(row), 0, -1) if n == 1 or _ems(row[:n], bold=paragraph.bold) <= room)
            yield row[:fits]
            row = row[fits:]
    if row:
        yield row


def _ems(text: str, *, bold: bool) -> float:
    """Return the width of a text in units of its font size."""
    return sum(_advance(character, bold=bold) for character in text)


@lru_cache(maxsize=4096)
def _advance(character: str, *, bold: bool) -> float:
    font = _font(bold=bold)
    return float(font.load_char(ord(character), _no_hinting()).linearHoriAdvance / 65536 / _MEASURED_AT)


#: Size at which widths are measured, in points at 72 dots per inch.
_MEASURED_AT: Final = 100


@lru_cache(maxsize=2)
def _font(*, bold: bool) -> FT2Font:
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(f"DejaVu Sans:{'bold' if bold else 'normal'}"))
    font.set_size(_MEASURED_AT, 72)
    return font


def _no_hinting() -> Any:
    from matplotlib.ft2font import LoadFlags

    return LoadFlags.NO_HINTING


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    return frozenset(_font(bold=False).get_charmap())


def _drawable(text: str) -> str:
    """Replace what the font that comes with matplotlib cannot draw."""
    return "".join(c if ord(c) in _characters() else " " if c.isspace() else "?" for c in text)
