"""The statement's sections on DIMSE: services, presentation contexts, policies, status codes.

Input: settings. Output: Markdown, from the tables of `dicom_node`. Nothing fails here but a table that is not there.
"""

from __future__ import annotations

from pydicom.uid import UID

from dicom_node import association, commitment, commitment_service, query, status, storage_service
from dicom_node.associate_items import APPLICATION_CONTEXT
from dicom_node.connecting import MAX_PDU_BYTES
from dicom_node.decoders import SYNTAXES
from dicom_node.dicomweb.media_types import FRAME_MEDIA_TYPES
from dicom_node.image_attributes import is_encapsulated
from dicom_node.outgoing import MAX_CONTEXTS
from dicom_node.scp import ScpConfig
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.video import is_video
from models.adapter import adapters
from worker.confirmation import REPORT_TRIES
from worker.conformance import contexts
from worker.conformance.markdown import code, named, paragraph, setting, syntaxes_of, table
from worker.db import commitments
from worker.missing_images import TRIES
from worker.settings import Settings

#: Statuses that peers answer a C-STORE with, for the table of what becomes of them.
_ANSWERS = (
    *(status.SUCCESS, status.COERCION_OF_DATA_ELEMENTS, status.ELEMENTS_DISCARDED),
    *(status.WARNING_DATA_SET_DOES_NOT_MATCH_SOP_CLASS, status.DUPLICATE_SOP_INSTANCE),
    *(status.OUT_OF_RESOURCES, status.PROCESSING_FAILURE),
    *(status.RESOURCE_LIMITATION, status.DUPLICATE_INVOCATION, status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS),
    *(status.CANNOT_UNDERSTAND, status.SOP_CLASS_NOT_SUPPORTED, status.NOT_AUTHORIZED, status.INVALID_SOP_INSTANCE),
)
_BECOMES = {
    status.Outcome.DELIVERED: "delivered",
    status.Outcome.WARNING: "delivered; the remark stands in the ledger",
    status.Outcome.TRANSIENT: "tried again, later each time",
    status.Outcome.PERMANENT: "a dead letter",
}


def _what_becomes(answer: int) -> str:
    replaced = answer == status.SOP_CLASS_NOT_SUPPORTED
    return (
        "replaced by the next best (see the annex), else a dead letter"
        if replaced
        else _BECOMES[status.store_outcome(answer)]
    )


def overview() -> str:
    """Return the table of network services."""
    ours: dict[str, set[str]] = {}
    for as_role, offers in (("SCP", contexts.accepted()), ("SCU", contexts.proposed())):
        for offer in offers:
            ours.setdefault(offer.service, set()).add(as_role)
    rows = [
        (service, *("yes" if role in roles else "no" for role in ("SCU", "SCP"))) for service, roles in ours.items()
    ]
    return table(("network service", "SCU", "SCP"), sorted(rows))


def accepted() -> str:
    """Return the tables of what the node accepts as acceptor."""
    offers = contexts.accepted()
    storage = [offer for offer in offers if offer.service == "Storage"]
    others = [offer for offer in offers if offer.service != "Storage"]
    everything = set(contexts.TRANSFER_SYNTAXES)
    if any(set(offer.transfer_syntaxes) != everything for offer in storage):
        raise AssertionError("a storage class is not taken in every transfer syntax: the statement must say which")
    rows = [(named(o.sop_class_uid), syntaxes_of(o.transfer_syntaxes), o.role) for o in others]
    any_storage = f"each Storage SOP class of the annex ({len(storage)}), and private SOP classes"
    rows.append((any_storage, "any; the first proposed is taken", "SCP"))
    refused = [
        UID(uid).name
        for uid in contexts.SOP_CLASSES
        if UID(uid).name.endswith("Storage") and uid not in {offer.sop_class_uid for offer in offers}
    ]
    return table(("abstract syntax", "transfer syntaxes", "role"), rows) + paragraph(
        "Objects are kept byte for byte as received, in the transfer syntax of the sender. "
        f"Not accepted, because such objects belong to no patient's study: {', '.join(refused)}."
    )


def proposed() -> str:
    """Return the table of what is proposed as requester."""
    rows = [
        (offer.service, named(offer.sop_class_uid), syntaxes_of(offer.transfer_syntaxes), offer.role)
        for offer in contexts.proposed()
    ]
    rows.append(("Storage (`dicom-worker send`)", "as in each file", "as in each file", "SCU"))
    retrieved = f"those of the images that are fetched, in {len(query.RETRIEVED_SYNTAXES)} syntaxes (see the annex)"
    rows.append(("Storage (C-GET sub-operations)", "the images' classes", retrieved, "SCP, by role selection"))
    return table(("service", "abstract syntax", "transfer syntaxes", "role"), rows)


def limits(settings: Settings) -> str:
    """Return the table of limits and times."""
    scp = ScpConfig.__dataclass_fields__
    rows = [
        ("application context", f"`{APPLICATION_CONTEXT}`"),
        ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation Version Name", f"`{IMPLEMENTATION_VERSION_NAME}`"),
        ("AE title", setting(settings, "dicom.ae_title")),
        ("TCP port", setting(settings, "dicom.port")),
        ("callers that are accepted", setting(settings, "dicom.calling_ae_titles")),
        ("the called AE title must be ours", setting(settings, "dicom.require_called_ae_title")),
        ("maximum PDU length announced, acceptor", setting(settings, "dicom.max_pdu_bytes")),
        ("maximum PDU length announced, requester", f"{MAX_PDU_BYTES} bytes"),
        ("associations at once, acceptor", setting(settings, "dicom.max_associations")),
        ("associations at once, requester", "`destinations[].associations` (1) for each destination"),
        ("presentation contexts proposed at once", f"at most {MAX_CONTEXTS}"),
        ("asynchronous operations", "none: one at a time"),
        ("extended negotiation, user identity", "none"),
        ("seconds until an association request is whole", f"{scp['artim_timeout_s'].default:g}"),
        ("seconds of silence until an association is ended", setting(settings, "dicom.idle_timeout_s")),
        ("seconds to wait for an answer, requester", setting(settings, "delivery.timeout_s")),
        ("objects over one association, requester", setting(settings, "delivery.batch")),
        ("rejected associations until a delivery is a dead letter", setting(settings, "delivery.max_attempts")),
    ]
    return table(("subject", "value"), rows)


def storage_statuses() -> str:
    """Return the tables of C-STORE statuses, given and received."""
    given = [(code(number), words) for number, words in storage_service.STORE_STATUSES.items()]
    taken = [(code(number), status.status_name(number), _what_becomes(number)) for number in _ANSWERS]
    return (
        "Given as SCP; the Error Comment (0000,0902) says more:\n\n"
        + table(("status", "meaning"), given)
        + "Taken as SCU:\n\n"
        + table(("status", "name", "what becomes of the object"), taken)
        + f"A request of a service that is not offered is answered with {code(status.UNRECOGNIZED_OPERATION)}.\n\n"
    )


def storage_commitment(settings: Settings) -> str:
    """Return the section on storage commitment."""
    reasons = ", ".join(commitment.failure_in_words(reason) for reason in commitment.GIVEN_REASONS)
    return (
        paragraph(
            "As SCP: an instance is vouched for when it is recorded as stored and its file is there; images are "
            f"kept until somebody deletes them. Failure reasons given: {reasons}. The report follows on the "
            f"requester's association if it is silent for {association.REPORT_AFTER_S:g} s after the response; if it "
            f"was not answered within {commitments.REPORT_AFTER_S:g} s, on an association to the address of its AE "
            f"title in `sources` or `destinations`, with the SCP role, at most {REPORT_TRIES} times."
        )
        + table(("status of N-ACTION", "meaning"), _rows(commitment_service.ACTION_STATUSES))
        + paragraph(
            "As SCU, for destinations with `commitment: true`: one N-ACTION for each batch, on an association of "
            f"its own that stays open for {setting(settings, 'delivery.confirm_wait_s')} s. N-EVENT-REPORT is taken "
            "there, also before the N-ACTION response, and by the node at any later time."
        )
        + table(("status of N-EVENT-REPORT", "meaning"), _rows(commitment_service.REPORT_STATUSES))
    )


def queries() -> str:
    """Return the section on query/retrieve."""
    rows = [(k.purpose, k.level, ", ".join(k.matched), ", ".join(k.returned) or "none") for k in query.QUERIES]
    return (
        "Study root, no relational queries, no extended negotiation, no C-CANCEL.\n\n"
        + table(("asked for", "level", "keys with a value", "keys asked for"), rows)
        + paragraph(
            "Images come by C-MOVE at SERIES and IMAGE level to our own AE title, or by C-GET where a source does "
            "not offer C-MOVE, or not to us (`sources[].retrieve`). Missing slices of a series are asked for by "
            f"themselves where `sources[].fetch_missing` is set, at most {TRIES} times. A status of C-FIND, C-MOVE "
            "or C-GET in the failure or cancel class ends what was asked; its code and Error Comment go to the "
            "person who asked, or to the ledger."
        )
    )


def storage_annex() -> str:
    """Return the tables of Storage SOP classes and of transfer syntaxes."""
    users: dict[str, list[str]] = {}
    for name, adapter in sorted(adapters().items()):
        for uid in adapter.acceptance.sop_class_uids:
            users.setdefault(str(uid), []).append(name)
    classes = [
        (UID(o.sop_class_uid).name, f"`{o.sop_class_uid}`", ", ".join(users.get(o.sop_class_uid, ())))
        for o in contexts.accepted()
        if o.service == "Storage"
    ]
    syntaxes = [
        (
            UID(uid).name,
            f"`{uid}`",
            "yes" if uid in SYNTAXES or is_video(uid) or not is_encapsulated(uid) else "no",
            "yes" if uid in query.RETRIEVED_SYNTAXES else "no",
            FRAME_MEDIA_TYPES.get(uid, ""),
        )
        for uid in contexts.TRANSFER_SYNTAXES
    ]
    return (
        "### Storage SOP classes\n\nAll are stored; those that an adapter names can be processed.\n\n"
        + table(("name", "UID", "adapters"), classes)
        + "### Transfer syntaxes\n\n"
        + paragraph("All are stored. Images in those whose pixels are read can be processed and shown.")
        + table(("name", "UID", "pixels are read", "proposed for C-GET", "media type of a stored frame"), syntaxes)
    )


def _rows(statuses: dict[int, str]) -> list[tuple[str, str]]:
    return [(code(number), words) for number, words in statuses.items()]
