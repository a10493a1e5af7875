"""An answer, as rows keep it -> the DICOM files that report it. Pure: nothing here knows the database.

Input: an `Answer` and, where a person signed it, a `Signature`. Output: the results of the wanted kinds, each read back
and checked: an SR (TID 1500), a Secondary Capture for each key image or one for all, a Key Object Selection,
presentation states, a report on paper. The key images are rendered anew from the stored instances, because rows keep no
pixels; pixels that differ from those the model saw are an error, never a slightly different picture. On failure
`DocumentError`, or the error of the part that failed (`RenderError`, `SrError`, `ResultError` ...).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.capture import build_capture, captured
from dicom_node.encapsulated_pdf import build_encapsulated_pdf
from dicom_node.headers import InstanceFile
from dicom_node.key_objects import build_key_objects
from dicom_node.multiframe_capture import KeyImage, build_multiframe_capture
from dicom_node.placement import Placement
from dicom_node.presentation import build_presentations
from dicom_node.report import Person, Report, SourceFrames
from dicom_node.results import check_result, write_dicom
from dicom_node.sr import build_sr
from models.drawing import check_digest
from models.generation import RgbImage
from worker.answers import Answer, Predecessor, Signature, algorithm, report_of
from worker.document_places import document_uid, place_of
from worker.rendering import Renderer, renderer
from worker.result_kinds import DEFAULT_KINDS, ResultKind
from worker.settings import RenderingSettings

__all__ = [
    "Answer",
    "Document",
    "DocumentError",
    "Predecessor",
    "Signature",
    "algorithm",
    "build_documents",
    "document_uid",
]


class DocumentError(Exception):
    """The results cannot be written; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Document:
    """A DICOM file that is ready to be kept and sent."""

    #: Of `ResultKind`, or `REJECTION`.
    kind: str
    sop_instance_uid: str
    sop_class_uid: str
    data: bytes
    #: The report that the answer stands in the place of.
    predecessor_sop_instance_uid: str | None = None


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the writers of all kinds share."""

    answer: Answer
    report: Report
    predecessor: Predecessor | None
    images: Sequence[RgbImage]

    @property
    def sources(self) -> tuple[SourceFrames, ...]:
        """The source frames of the key images."""
        return self.answer.input_record.key_sources

    @property
    def reviewer(self) -> Person | None:
        return None if self.answer.signature is None else self.answer.signature.person

    @property
    def edited(self) -> bool:
        return self.answer.signature is not None and self.answer.signature.edited

    @property
    def predecessor_uid(self) -> str | None:
        return None if self.predecessor is None else self.predecessor.sop_instance_uid

    def place(self, kind: ResultKind, index: int = 0) -> Placement:
        """Return where a result stands."""
        return place_of(self.answer, self.predecessor_uid, kind, index)

    def path_of(self, source: SourceFrames) -> Path:
        """Return the file of a source."""
        return _file_of(self.answer, source).path


def build_documents(
    answer: Answer,
    predecessor: Predecessor | None = None,
    pictures: Renderer | None = None,
    kinds: Collection[ResultKind] = DEFAULT_KINDS,
) -> list[Document]:
    """Write and check the results of an answer, in the order of `ResultKind`.

    Args:
        answer: The answer, signed or not.
        predecessor: The report that the new one stands in the place of.
        pictures: Who draws the key images; with the default limits if None.
        kinds: What to write. Of a source that no presentation state can show, there is none.

    Raises:
        RenderError: The key images cannot be drawn as the model saw them.
        ResultError: What was written does not say what it must.
    """
    images = _images_as_seen(answer, pictures or renderer(RenderingSettings()))
    draft = _Draft(answer, report_of(answer, predecessor), predecessor, images)
    verified = answer.signature is not None
    documents = []
    for kind in ResultKind:
        for ds in _WRITERS[kind](draft) if kind in kinds else ():
            data = write_dicom(_without_series_time(ds))
            check_result(data, draft.report, verified=verified)
            uids = (str(ds.SOPInstanceUID), str(ds.SOPClassUID))
            documents.append(Document(kind.value, *uids, data, draft.predecessor_uid))
    return documents


def _images_as_seen(answer: Answer, pictures: Renderer) -> list[RgbImage]:
    """Draw what the model saw again and return the key images, or say that they are not the same any more."""
    record = answer.input_record
    images = pictures.replay(record, answer.files) if record.recipe else _rendered_again(answer, pictures)
    return [images[index] for index in record.key_images]


def _rendered_again(answer: Answer, pictures: Renderer) -> tuple[RgbImage, ...]:
    """Choose and draw anew: what was asked before recipes were kept has none."""
    rendered = pictures.render(answer.adapter, answer.files)
    check_digest(rendered.images, answer.input_record.digest)
    return rendered.images


def _structured_report(draft: _Draft) -> list[Dataset]:
    place, signature = draft.place(ResultKind.SR), draft.answer.signature
    ds = build_sr(
        draft.report,
        _files_of(draft, draft.report.sources),
        sop_instance_uid=place.sop_instance_uid,
        series_instance_uid=place.series_instance_uid,
        series_number=place.series_number,
        instance_number=place.instance_number,
        predecessor=None if draft.predecessor is None else dcmread(draft.predecessor.path),
        verifying=draft.reviewer,
        verified_at=None if signature is None else signature.signed_at,
        edited=draft.edited,
    )
    return [ds]


def _captures(draft: _Draft) -> list[Dataset]:
    return [
        _capture(draft, draft.place(ResultKind.SC, index), image, source)
        for index, (image, source) in enumerate(zip(draft.images, draft.sources, strict=True))
    ]


def _capture(draft: _Draft, place: Placement, image: RgbImage, source: SourceFrames) -> Dataset:
    return build_capture(
        image,
        draft.report,
        draft.path_of(source),
        sop_instance_uid=place.sop_instance_uid,
        series_instance_uid=place.series_instance_uid,
        series_number=place.series_number,
        instance_number=place.instance_number,
        shown=(source,),
        reviewer=draft.reviewer,
        edited=draft.edited,
    )


def _multiframe_capture(draft: _Draft) -> list[Dataset]:
    key_images = [KeyImage(image, source) for image, source in zip(draft.images, draft.sources, strict=True)]
    first, place = draft.path_of(draft.sources[0]), draft.place(ResultKind.SC_MULTI)
    return [
        build_multiframe_capture(key_images, draft.report, first, place, reviewer=draft.reviewer, edited=draft.edited)
    ]


def _key_objects(draft: _Draft) -> list[Dataset]:
    """Select every frame that the model was shown: it says of none that it mattered more."""
    shown = draft.answer.input_record.image_sources
    first, place = draft.path_of(shown[0]), draft.place(ResultKind.KO)
    return [build_key_objects(draft.report, first, shown, place, reviewer=draft.reviewer, edited=draft.edited)]


def _presentations(draft: _Draft) -> list[Dataset]:
    """Annotate the key images' frames, and every frame with an outline."""
    outlined = [finding.region.source for finding in draft.report.findings if finding.region is not None]
    frames = (*draft.sources, *outlined)

    def place(number: int) -> Placement:
        return draft.place(ResultKind.PR, number)

    return build_presentations(
        draft.report, _files_of(draft, frames), frames, place, reviewer=draft.reviewer, edited=draft.edited
    )


def _paper_report(draft: _Draft) -> list[Dataset]:
    shown = zip(draft.images, draft.sources, strict=True)
    pages = [
        captured(image, draft.report, (source,), reviewer=draft.reviewer, edited=draft.edited)
        for image, source in shown
    ]
    first, place = draft.path_of(draft.sources[0]), draft.place(ResultKind.PDF)
    return [build_encapsulated_pdf(draft.report, first, pages, place, reviewer=draft.reviewer, edited=draft.edited)]


def _files_of(draft: _Draft, sources: Sequence[SourceFrames]) -> list[Path]:
    named = {source.sop_instance_uid for source in sources}
    return [file.path for file in draft.answer.files if file.header.sop_instance_uid in named]


def _file_of(answer: Answer, source: SourceFrames) -> InstanceFile:
    for file in answer.files:
        if file.header.sop_instance_uid == source.sop_instance_uid:
            return file
    raise DocumentError(f"the source image {source.sop_instance_uid} is not among the stored instances any more")


def _without_series_time(ds: Dataset) -> Dataset:
    """Leave out SeriesDate and SeriesTime (type 3): a series grows run by run, and they would contradict each other."""
    for keyword in ("SeriesDate", "SeriesTime"):
        if keyword in ds:
            delattr(ds, keyword)
    return ds


_WRITERS: Final[dict[ResultKind, Callable[[_Draft], list[Dataset]]]] = {
    ResultKind.SR: _structured_report,
    ResultKind.SC: _captures,
    ResultKind.SC_MULTI: _multiframe_capture,
    ResultKind.KO: _key_objects,
    ResultKind.PR: _presentations,
    ResultKind.PDF: _paper_report,
}
