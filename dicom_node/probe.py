"""What a peer takes: storage SOP classes and transfer syntaxes, storage commitment, queries (PS3.8 7.1).

Input: a peer. Output: `Capabilities`, read off what it accepts when associations are negotiated; nothing is stored.
On failure `EchoError` or `PeerError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from dicom_node import commitment, query
from dicom_node.outgoing import OutgoingAssociation, RequestError
from dicom_node.peer import Peer, check_ae_title
from dicom_node.scu import EchoError

_PLAIN: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
_PICTURES: Final = (*_PLAIN, str(RLELossless), str(JPEGBaseline8Bit))
#: What this software writes -> the syntaxes that are asked about.
STORAGE: Final[Mapping[str, tuple[str, ...]]] = {
    "1.2.840.10008.5.1.4.1.1.88.34": _PLAIN,  # Comprehensive 3D SR
    "1.2.840.10008.5.1.4.1.1.88.33": _PLAIN,  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.22": _PLAIN,  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.7": _PICTURES,  # Secondary Capture Image
    "1.2.840.10008.5.1.4.1.1.7.4": _PICTURES,  # Multi-frame True Color Secondary Capture Image
    "1.2.840.10008.5.1.4.1.1.88.59": _PLAIN,  # Key Object Selection Document
    "1.2.840.10008.5.1.4.1.1.11.1": _PLAIN,  # Grayscale Softcopy Presentation State
    "1.2.840.10008.5.1.4.1.1.11.2": _PLAIN,  # Color Softcopy Presentation State
    "1.2.840.10008.5.1.4.1.1.104.1": _PLAIN,  # Encapsulated PDF
}
#: Other services by the name they are shown under.
SERVICES: Final[Mapping[str, str]] = {
    "commitment": commitment.SOP_CLASS,
    "find": query.STUDY_ROOT_FIND,
    "move": query.STUDY_ROOT_MOVE,
    "get": query.STUDY_ROOT_GET,
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a peer accepted."""

    #: SOP class -> accepted transfer syntaxes; empty for a class that it refuses.
    storage: Mapping[str, tuple[str, ...]]
    #: Service (`SERVICES`) -> whether it is offered.
    services: Mapping[str, bool]

    def takes(self, sop_class_uid: str, transfer_syntax_uid: str = str(ExplicitVRLittleEndian)) -> bool:
        """Return whether an object of this class in this syntax can be sent."""
        return transfer_syntax_uid in self.storage.get(sop_class_uid, ())

    @property
    def refused(self) -> tuple[str, ...]:
        """The SOP classes of which nothing that this software writes can be sent."""
        return tuple(uid for uid, accepted in self.storage.items() if not set(accepted).intersection(_PLAIN))

    def to_json(self) -> dict[str, Any]:
        """Return names and UIDs for machines."""
        return {
            "storage": [
                {
                    "sop_class": UID(sop_class_uid).name,
                    "sop_class_uid": sop_class_uid,
                    "accepted": bool(accepted),
                    "transfer_syntaxes": [
                        {"name": UID(syntax).name, "uid": syntax, "accepted": syntax in accepted}
                        for syntax in STORAGE[sop_class_uid]
                    ],
                }
                for sop_class_uid, accepted in self.storage.items()
            ],
            **self.services,
        }


def probe(
    peer: Peer, *, calling_ae_title: str, connect_timeout_s: float = 10.0, timeout_s: float = 30.0
) -> Capabilities:
    """Ask `peer` what it takes. Raises `EchoError` where it does not answer, and `PeerError` for the title."""
    title = check_ae_title(calling_ae_title)
    pairs = [(sop_class_uid, syntax) for sop_class_uid, syntaxes in STORAGE.items() for syntax in syntaxes]
    services = [(sop_class_uid, syntax) for sop_class_uid in SERVICES.values() for syntax in _PLAIN]
    accepted: set[tuple[str, str]] = set()
    rejections: list[RequestError] = []
    # Some archives refuse a whole association over a service that they do not know: storage is asked about alone.
    for proposed in (pairs, services):
        try:
            with OutgoingAssociation(
                peer,
                title,
                proposed,
                connect_timeout_s=connect_timeout_s,
                timeout_s=timeout_s,
            ) as association:
                accepted |= {pair for pair in proposed if association.context_id(*pair) is not None}
        except RequestError as error:
            rejections.append(error)
            if not error.is_permanent or len(rejections) == 2:
                raise EchoError(str(error)) from error
    return Capabilities(
        storage={
            sop_class_uid: tuple(syntax for syntax in syntaxes if (sop_class_uid, syntax) in accepted)
            for sop_class_uid, syntaxes in STORAGE.items()
        },
        services={name: any((uid, syntax) in accepted for syntax in _PLAIN) for name, uid in SERVICES.items()},
    )
