"""The statement's annex on the objects that are written: modules, templates, codes, private elements, UIDs.

Input: none. Output: Markdown, read off one object of each kind (`worker.conformance.sample`) with highdicom's tables of
PS3.3. Nothing fails here but an object that lacks what its IOD demands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.evidence import CHARACTER_SET
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.results import TRANSFER_SYNTAX
from dicom_node.sr_classes import REPORT_CLASSES
from worker.conformance.markdown import named, paragraph, table
from worker.document_places import FIRST_FURTHER_SERIES_NUMBER, FIRST_SERIES_NUMBER
from worker.result_kinds import DEFAULT_KINDS, REJECTION, ResultKind

_KINDS: Mapping[str, str] = {
    ResultKind.SR: "structured report",
    ResultKind.SC: "picture of a key image, with the answer burnt in",
    ResultKind.SC_MULTI: "all key images in one object",
    ResultKind.KO: "the frames that the answer rests on",
    ResultKind.PR: "outlines and warnings over the source itself",
    ResultKind.PDF: "the report on paper",
    REJECTION: "rejection note: follows to where a rejected result was sent",
}


def results_annex() -> str:
    """Return the annex."""
    from worker.conformance.sample import results

    made = results()
    rows = [
        (f"`{kind}`", words, named(str(made[kind].SOPClassUID)), made[kind].Modality, _templates(made[kind]))
        for kind, words in _KINDS.items()
    ]
    private = sorted({str(tag) for ds in made.values() for tag in _private_tags(ds)})
    always = ", ".join(f"`{kind}`" for kind in DEFAULT_KINDS)
    return (
        table(("kind", "what it is", "SOP class", "modality", "templates"), rows)
        + paragraph(
            f"Each destination gets the kinds that `destinations[].results` names ({always} unless it says "
            f"otherwise). All are {UID(TRANSFER_SYNTAX).name}, in the character set {CHARACTER_SET}. Series of their "
            f"own in the study of the source are numbered from {FIRST_SERIES_NUMBER} (reports, pictures) and "
            f"{FIRST_FURTHER_SERIES_NUMBER} (the others)."
        )
        + paragraph(
            "A destination that does not take the structured report gets the same content in the first of these "
            f"classes that it takes, under a UID of its own: {', '.join(named(uid) for uid in REPORT_CLASSES[1:])}; "
            "else the pictures. What it takes in no Explicit VR is sent in Implicit VR Little Endian."
        )
        + paragraph(
            "UIDs are derived under the root `2.25` (PS3.5 B.2) from the source objects, the weights and the "
            "answer: the same answer is the same object. A person's decision makes new objects; a report names the "
            "one that it stands in the place of in PredecessorDocumentsSequence. Patient and study attributes are "
            "copied from the source; values that the standard does not allow are mended in the copy. "
            "ContributingEquipmentSequence names the algorithm, with a Device UID that changes with the weights. "
            f"Manufacturer is `{OWN_MANUFACTURER}`: objects with it are received and recorded but never processed."
        )
        + paragraph(f"Private elements: {', '.join(private) or 'none'}.")
        + "### Modules\n\n"
        + paragraph(
            "Usage as in PS3.3 (M mandatory, C conditional, U optional). Optional modules about the patient and the "
            "study are there as far as the source has them."
        )
        + _modules(made)
        + "### Private codes\n\n"
        + paragraph(
            f"Designator `{codes.PRIVATE_SCHEME}`, declared in CodingSchemeIdentificationSequence. All other codes "
            f"are of {', '.join(sorted(_schemes() - {codes.PRIVATE_SCHEME}))}."
        )
        + table(("code value", "code meaning"), [(f"`{c.value}`", c.meaning) for c in _codes() if _is_private(c)])
    )


def _modules(made: Mapping[str, Dataset]) -> str:
    kinds = [kind for kind in _KINDS if kind != REJECTION]
    usage = {kind: dict(modules_of(made[kind])) for kind in kinds}
    titles = dict.fromkeys(title for kind in kinds for title in usage[kind])
    rows = ([title, *(usage[kind].get(title, "") for kind in kinds)] for title in titles)
    return table(("module", *(f"`{kind}`" for kind in kinds)), rows)


def modules_of(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Yield the modules of an object with their usage: mandatory ones, and others of which it has what they demand.

    An optional module that demands nothing is there where the object has an attribute that no mandatory one has.
    """
    from highdicom import _standard_utils as standard  # its tables of PS3.3 are not public, and nowhere else in Python

    iod = standard.get_sop_class_iod_map()[str(ds.SOPClassUID)]
    attributes: Mapping[str, list[dict[str, Any]]] = standard.get_module_attribute_map()
    modules = standard.get_iod_module_map()[iod]
    top = {module["key"]: [a for a in attributes[module["key"]] if not a["path"]] for module in modules}
    mandatory = {a["keyword"] for module in modules if module["usage"] == "M" for a in top[module["key"]]}
    there = {element.keyword for element in ds}
    for module in modules:
        present = there & {a["keyword"] for a in top[module["key"]]}
        demanded = {a["keyword"] for a in top[module["key"]] if a["type"] in ("1", "2")}
        if module["usage"] == "M" or (demanded <= present and present - mandatory):
            yield module["key"].replace("-", " "), module["usage"]


def _templates(ds: Dataset) -> str:
    found = dict.fromkeys(
        str(item.TemplateIdentifier) for node in _nodes(ds) for item in node.get("ContentTemplateSequence", ())
    )
    return ", ".join(f"TID {identifier}" for identifier in found)


def _nodes(ds: Dataset) -> Iterator[Dataset]:
    yield ds
    for child in ds.get("ContentSequence", ()):
        yield from _nodes(child)


def _private_tags(ds: Dataset) -> set[Any]:
    return {element.tag for element in ds.iterall() if element.tag.is_private}


def _codes() -> list[Code]:
    """Return every code of `dicom_node.codes`, in the order of the module."""
    found: list[Code] = []
    for value in vars(codes).values():
        several = value if isinstance(value, tuple) else (value,)
        found += [code for code in several if isinstance(code, Code)]
    return found


def _schemes() -> set[str]:
    return {code.scheme for code in _codes()}


def _is_private(code: Code) -> bool:
    return code.scheme == codes.PRIVATE_SCHEME
