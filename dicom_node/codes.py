"""Coded concepts (PS3.3 section 8) that the project reads or writes, each verified against a published dictionary.

Input: none. Output: constants of `Code`. A concept that no public dictionary offers stands in the private scheme
`99DCMWORKER`, which every object that uses it declares (CodingSchemeIdentificationSequence, PS3.3 C.12.1.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: code value, coding scheme designator and code meaning (PS3.3 8.1-8.3)."""

    value: str
    scheme: str
    meaning: str


#: Designator and name of the project's own scheme; private designators begin with 99 (PS3.3 8.2).
PRIVATE_SCHEME: Final = "99DCMWORKER"
PRIVATE_SCHEME_NAME: Final = "dicom-worker private concepts"


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# Presence (CID 240) --------------------------------------------------------------------------------------------------
PRESENCE_OF_PROPERTY: Final = _dcm("121052", "Presence of property")
PRESENT: Final = _sct("52101004", "Present")
ABSENT: Final = _sct("272519000", "Absent")
UNDETERMINED: Final = _sct("373068000", "Undetermined")

# Vessels. "Patent" has no usable code: it is an occlusion whose presence is "Absent". ---------------------------------
OCCLUSION: Final = _sct("26036001", "Occlusion")
STENOSIS: Final = _sct("415582006", "Stenosis")
TIMI_0: Final = _sct("371867000", "0: No Perfusion")
TIMI_1: Final = _sct("371866009", "1: Penetration without Perfusion")
TIMI_2: Final = _sct("371864007", "2: Partial Perfusion")
TIMI_3: Final = _sct("371865008", "3: Complete Perfusion")
BLOOD_VESSEL: Final = _sct("59820001", "Blood Vessel")
ARTERY: Final = _sct("51114001", "Artery")
AORTA: Final = _sct("15825003", "Aorta")
MESENTERIC_ARTERY: Final = _sct("86570000", "Mesenteric artery")

# Organs and regions --------------------------------------------------------------------------------------------------
ABDOMEN: Final = _sct("818981001", "Abdomen")
LIVER: Final = _sct("10200004", "Liver")
SPLEEN: Final = _sct("78961009", "Spleen")
KIDNEY: Final = _sct("64033007", "Kidney")
PANCREAS: Final = _sct("15776009", "Pancreas")
STOMACH: Final = _sct("69695003", "Stomach")
DUODENUM: Final = _sct("38848004", "Duodenum")
SMALL_INTESTINE: Final = _sct("30315005", "Small intestine")
LARGE_INTESTINE: Final = _sct("14742008", "Large intestine")
COLON: Final = _sct("71854001", "Colon")
GALLBLADDER: Final = _sct("28231008", "Gallbladder")
URINARY_BLADDER: Final = _sct("89837001", "Bladder")
ADRENAL_GLAND: Final = _sct("23451007", "Adrenal gland")
RETROPERITONEUM: Final = _sct("82849001", "Retroperitoneum")
RETINA: Final = _sct("5665001", "Retina")
EYE: Final = _sct("81745001", "Eye")

# Injury. 111428 and 113568 "Extravasation" belong to breast imaging and to adverse events: not used here. -------------
TRAUMATIC_INJURY: Final = _sct("417746004", "Traumatic Abnormality")
HEMORRHAGE: Final = _sct("50960005", "Hemorrhage")
HEMATOMA: Final = _sct("35566002", "Hematoma")
PSEUDOANEURYSM: Final = _sct("22036004", "Pseudoaneurysm")
LACERATION: Final = _private("LACERATION", "Laceration")
CONTUSION: Final = _private("CONTUSION", "Contusion")
ACTIVE_EXTRAVASATION: Final = _private("EXTRAVASATION", "Active contrast extravasation")
BOWEL_PERFORATION: Final = _private("BOWELPERF", "Bowel perforation")
BOWEL_INJURY: Final = _private("BOWELINJURY", "Bowel injury")
HEMOPERITONEUM: Final = _private("HEMOPERITONEUM", "Hemoperitoneum")
DEVASCULARISATION: Final = _private("DEVASCULAR", "Devascularisation")
VASCULAR_INJURY: Final = _private("VASCINJURY", "Vascular injury")
INJURY_PATTERN: Final = _private("INJURYPATTERN", "Injury pattern")
INJURY_GRADE: Final = _private("INJURYGRADE", "Injury grade")
#: Where an adapter names an organ or injury in words that no code here covers, the words go into a narrative.
OTHER_INJURY: Final = _private("OTHERINJURY", "Other injury")

# Severity (CID 3716) -------------------------------------------------------------------------------------------------
SEVERITY: Final = _sct("246112005", "Severity")
NONE: Final = _sct("260413007", "None")
MILD: Final = _sct("255604002", "Mild")
MODERATE: Final = _sct("6736007", "Moderate")
SEVERE: Final = _sct("24484000", "Severe")

# Certainty and probability -------------------------------------------------------------------------------------------
PROBABILITY: Final = _dcm("122157", "Probability")
CERTAINTY_OF_FINDING: Final = _dcm("111012", "Certainty of Finding")
CERTAINTY_OF_IMPRESSION: Final = _dcm("111013", "Certainty of Impression")
NO_UNITS: Final = Code("1", "UCUM", "no units")

# Headings of text ----------------------------------------------------------------------------------------------------
FINDING: Final = _dcm("121071", "Finding")
IMPRESSION: Final = _dcm("121073", "Impression")
CONCLUSION: Final = _dcm("121077", "Conclusion")
COMMENT: Final = _dcm("121106", "Comment")
SUMMARY: Final = _dcm("121111", "Summary")
DIFFERENTIAL_DIAGNOSIS: Final = _dcm("111023", "Differential Diagnosis/Impression")
NARRATIVE_SUMMARY: Final = _dcm("111412", "Narrative Summary")
INJURY_DESCRIPTION: Final = _private("INJURYDESC", "Injury description")
BLEEDING_DESCRIPTION: Final = _private("BLEEDINGDESC", "Bleeding description")

#: What a group says (TID 1501) where the whole answer is free text that nothing turned into codes.
FORM_OF_ANSWER: Final = _private("FORMOFANSWER", "Form of answer")
FREE_TEXT: Final = _private("FREETEXT", "Free text, not coded")

# Findings that a site names in its own words, which no code covers: the words stand in the tracking identifier. -------
NAMED_IN_TEXT: Final = _private("NAMEDINTEXT", "Finding named in the tracking identifier")
VALUE_NAMED_IN_TEXT: Final = _private("VALUEINTEXT", "Value named in the tracking identifier")
NUMBER_OF_OCCURRENCES: Final = _sct("246432004", "Number of occurrences")

# Triage (CID 7035) ---------------------------------------------------------------------------------------------------
PRIORITY: Final = _sct("260870009", "Priority")
ACTIONABLE_WITHIN_MINUTES: Final = Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding")
ACTIONABLE_WITHIN_HOURS: Final = Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding")
ACTIONABLE_WITHIN_DAYS: Final = Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding")

# Cataract surgery ----------------------------------------------------------------------------------------------------
CATARACT: Final = _sct("193570009", "Cataract")
PROCEDURE_PHASE: Final = _sct("128954007", "Procedure phase")
INSTRUMENT: Final = _sct("57134006", "Instrument, device")
#: The phases of Cataract-1K (Ghamsarian et al., Scientific Data 2024); no public dictionary has them.
CATARACT_PHASES: Final = (
    _private("PHINCISION", "Incision"),
    _private("PHVISCOELASTIC", "Viscoelastic"),
    _private("PHCAPSULORHEXIS", "Capsulorhexis"),
    _private("PHHYDRODISSECT", "Hydrodissection"),
    _private("PHPHACO", "Phacoemulsification"),
    _private("PHIRRIGASPIR", "Irrigation/aspiration"),
    _private("PHPOLISHING", "Capsule polishing"),
    _private("PHIMPLANTATION", "Lens implantation"),
    _private("PHPOSITIONING", "Lens positioning"),
    _private("PHVISCOSUCTION", "Viscoelastic suction"),
    _private("PHFLUSHING", "Anterior chamber flushing"),
    _private("PHTONIFYING", "Tonifying/antibiotics"),
)
MODEL_REASONING: Final = _private("MODELREASONING", "Reasoning of the model")

# The structure of a measurement report (TID 1500, 1600) and of derived images -----------------------------------------
IMAGING_PROCEDURE: Final = _sct("363679005", "Imaging procedure")
IMAGE_LIBRARY: Final = _dcm("111028", "Image Library")
SOURCE: Final = _sct("260753009", "Source")
IMAGE_LIBRARY_GROUP: Final = _dcm("126200", "Image Library Group")
ARTIFICIAL_INTELLIGENCE: Final = _dcm("123110", "Artificial Intelligence")
#: TID 1500 row 12; pydicom's dictionary lacks this UMLS concept, PS3.16 has it.
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
PROCESSING_EQUIPMENT: Final = _dcm("109102", "Processing Equipment")
REPLACED_REPORT: Final = _dcm("121360", "Replaced report")
SOURCE_IMAGE: Final = _dcm("121322", "Source image for image processing operation")

# Key Object Selection (TID 2010, titles of CID 7010) and its observers (TID 1002-1004) --------------------------------
OF_INTEREST: Final = _dcm("113000", "Of Interest")
REJECTED_FOR_QUALITY: Final = _dcm("113001", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY: Final = _dcm("113037", "Rejected for Patient Safety Reasons")
KEY_OBJECT_DESCRIPTION: Final = _dcm("113012", "Key Object Description")
OBSERVER_TYPE: Final = _dcm("121005", "Observer Type")
PERSON: Final = _dcm("121006", "Person")
DEVICE: Final = _dcm("121007", "Device")
PERSON_OBSERVER_NAME: Final = _dcm("121008", "Person Observer Name")
PERSON_OBSERVER_ORGANIZATION: Final = _dcm("121009", "Person Observer's Organization Name")
DEVICE_OBSERVER_UID: Final = _dcm("121012", "Device Observer UID")
DEVICE_OBSERVER_NAME: Final = _dcm("121013", "Device Observer Name")
DEVICE_OBSERVER_MANUFACTURER: Final = _dcm("121014", "Device Observer Manufacturer")
DEVICE_OBSERVER_MODEL_NAME: Final = _dcm("121015", "Device Observer Model Name")

# Encapsulated documents (PS3.3 C.24.2) -------------------------------------------------------------------
IMAGING_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")
