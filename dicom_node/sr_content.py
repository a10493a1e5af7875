"""Report -> the content tree of its SR document (PS3.16 TID 1500): observers, images, findings, texts.

Input: a `Report`, and the person who edited it. Output: a content sequence as highdicom makes it. On failure `SrError`
names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import highdicom.sr as hd
import numpy as np
from highdicom.sr.value_types import ContentSequence
from pydicom.sr.codedict import codes as published

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.marking import clean_text, statements_of
from dicom_node.report import Algorithm, Person, Region, Report, ReportedFinding, SourceFrames
from dicom_node.uids import derive_uid

_CONTAINS: Final = hd.RelationshipTypeValues.CONTAINS
#: Languages a text may be in beside English, the document's: RFC 5646 tag (CID 5000) -> code meaning.
_LANGUAGES: Final = {"de": "German", "es": "Spanish", "fr": "French"}


class SrError(ValueError):
    """A report cannot be written as SR; the message names the reason."""


def person_name(person: Person) -> str:
    """Return the name with at least one caret, which tells a family name from a whole name (PS3.5 6.2.1)."""
    return person.name if "^" in person.name else f"{person.name}^"


def measurement_report(report: Report, editor: Person | None) -> Any:
    """Return the content tree of a report; `editor` is the person who changed its findings. Raises `SrError`."""
    tree = hd.MeasurementReport(
        observation_context=_observers(report.algorithm, editor),
        procedure_reported=_concept(codes.IMAGING_PROCEDURE),
        imaging_measurements=[_group(report, finding, edited=editor is not None) for finding in report.findings],
    )
    root = tree[0]
    measurements = root.ContentSequence[-1]
    items = list(root.ContentSequence[:-1])
    items += [_image_library(report.sources), measurements, _texts(report)]
    root.ContentSequence = ContentSequence(items)
    return tree


def _concept(code: Code) -> Any:
    return hd.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _observers(algorithm: Algorithm, editor: Person | None) -> Any:
    """TID 1001: the device always observed; where a person edited, the person comes first (TID 1003, 1004)."""
    device = hd.ObserverContext(
        observer_type=published.DCM.Device,
        observer_identifying_attributes=hd.DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid,
            name=algorithm.name,
            manufacturer_name=algorithm.manufacturer,
            model_name=algorithm.name,
            serial_number=algorithm.device_uid,
        ),
    )
    person = None
    if editor is not None:
        person = hd.ObserverContext(
            observer_type=published.DCM.Person,
            observer_identifying_attributes=hd.PersonObserverIdentifyingAttributes(
                name=person_name(editor), organization_name=editor.organization
            ),
        )
    return hd.ObservationContext(observer_person_context=person, observer_device_context=device)


def _algorithm(algorithm: Algorithm) -> Any:
    """TID 4019."""
    return hd.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        manufacturer=algorithm.manufacturer,
        parameters=list(algorithm.parameters) or None,
        family=_concept(codes.ARTIFICIAL_INTELLIGENCE),
    )


def _group(report: Report, finding: ReportedFinding, *, edited: bool) -> Any:
    """TID 1501, or TID 1410 where the finding has a region.

    An edited finding is a person's, so no group of an edited report names the algorithm as its author.
    """
    first = report.sources[0]
    tracking_uid = derive_uid("tracking", report.algorithm.name, first.sop_instance_uid, finding.tracking_id)
    content: dict[str, Any] = {
        "tracking_identifier": hd.TrackingIdentifier(uid=tracking_uid, identifier=finding.tracking_id),
        "finding_type": _concept(finding.finding_type),
        "algorithm_id": None if edited else _algorithm(report.algorithm),
        "finding_sites": [hd.FindingSite(anatomic_location=_concept(site)) for site in finding.sites],
        "measurements": [
            hd.Measurement(name=_concept(m.name), value=m.value, unit=_concept(m.unit)) for m in finding.measurements
        ],
        "qualitative_evaluations": [
            hd.QualitativeEvaluation(name=_concept(e.name), value=_concept(e.value)) for e in finding.evaluations
        ],
    }
    if finding.region is not None:
        return hd.PlanarROIMeasurementsAndQualitativeEvaluations(**content, referenced_region=_outline(finding.region))
    return hd.MeasurementsAndQualitativeEvaluations(
        **content,
        source_images=[
            hd.SourceImageForMeasurementGroup(f.sop_class_uid, f.sop_instance_uid, list(f.frame_numbers) or None)
            for f in finding.sources
        ],
    )


def _moments(finding: ReportedFinding) -> Any:
    """Return the moments of a video as a TCOORD: seconds after its start (PS3.3 C.18.7).

    It cannot stand in the finding's group, whose template knows TCOORD of waveforms only (TID 1501 rows 10g, 10h).
    """
    moments = hd.TcoordContentItem(
        name=_concept(codes.SOURCE),
        temporal_range_type=hd.TemporalRangeTypeValues.MULTIPOINT,
        referenced_time_offsets=[round(time, 3) for time in finding.times_s],
        relationship_type=_CONTAINS,
    )
    video = finding.sources[0]
    selected = hd.ImageContentItem(
        name=_concept(codes.SOURCE),
        referenced_sop_class_uid=video.sop_class_uid,
        referenced_sop_instance_uid=video.sop_instance_uid,
        referenced_frame_numbers=list(video.frame_numbers) or None,
        relationship_type=hd.RelationshipTypeValues.SELECTED_FROM,
    )
    moments.ContentSequence = ContentSequence([selected])
    return moments


def _outline(region: Region) -> Any:
    """Return the outline as an SCOORD on its image: a polyline whose last point is its first is closed (C.18.6.1.2)."""
    source = region.source
    return hd.ImageRegion(
        graphic_type=hd.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*region.outline, region.outline[0]], dtype=np.float32),
        source_image=hd.SourceImageForRegion(
            source.sop_class_uid, source.sop_instance_uid, list(source.frame_numbers) or None
        ),
    )


def _image_library(sources: Sequence[SourceFrames]) -> Any:
    """TID 1600 by hand: highdicom's own needs attributes that XA, CR and enhanced CT lack."""
    library = hd.ContainerContentItem(name=_concept(codes.IMAGE_LIBRARY), relationship_type=_CONTAINS)
    group = hd.ContainerContentItem(name=_concept(codes.IMAGE_LIBRARY_GROUP), relationship_type=_CONTAINS)
    images = {frames.sop_instance_uid: frames for frames in sources}
    group.ContentSequence = ContentSequence(
        [
            hd.ImageContentItem(
                name=_concept(codes.SOURCE),
                referenced_sop_class_uid=frames.sop_class_uid,
                referenced_sop_instance_uid=frames.sop_instance_uid,
                relationship_type=_CONTAINS,
            )
            for frames in images.values()
        ]
    )
    library.ContentSequence = ContentSequence([group])
    return library


def _texts(report: Report) -> Any:
    """TID 1500 row 12: free text below "Qualitative Evaluations"; what must be known comes before what was found."""
    texts = [(codes.COMMENT, statement) for statement in statements_of(report)]
    texts.append((codes.SUMMARY, clean_text(report.headline)))
    items = [_text(heading, text) for heading, text in texts]
    items += [_text(n.heading, text, n.language) for n in report.narratives if (text := clean_text(n.text))]
    items += [_moments(finding) for finding in report.findings if finding.times_s]
    container = hd.ContainerContentItem(name=_concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS)
    container.ContentSequence = ContentSequence(items)
    return container


def _text(heading: Code, text: str, language: str = "en") -> Any:
    """Return a text; one that is not English, the document's language, carries its own (TID 1204)."""
    text_item = hd.TextContentItem(name=_concept(heading), value=text, relationship_type=_CONTAINS)
    if language != "en":
        if language not in _LANGUAGES:
            raise SrError(f"a text is in {language!r}; there are codes for en, {', '.join(_LANGUAGES)}")
        own = hd.CodeContentItem(
            name=published.DCM.LanguageOfContentItemAndDescendants,
            value=hd.CodedConcept(value=language, scheme_designator="RFC5646", meaning=_LANGUAGES[language]),
            relationship_type=hd.RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
        text_item.ContentSequence = ContentSequence([own])
    return text_item
