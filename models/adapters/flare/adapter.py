"""General reading of 2D images (FLARE 2025): what it accepts, which weights, what it is asked, why nothing is released.

The card gives two LoRA shapes: r 16, alpha 32, dropout 0.1 as the adapter's configuration, and r 64, alpha 16, dropout
0.1 among the training notes. The adapter's own `adapter_config.json` decides when it is loaded; the first reading, the
one that the card prints as a configuration, stands here. The card also wishes for eager attention: an engine has one
implementation of attention for all its adapters (`EngineConfig.attention`, sdpa), which differs in rounding only.
"""

from __future__ import annotations

from typing import Final

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    NuclearMedicineImageStorage,
    OphthalmicPhotography8BitImageStorage,
    OphthalmicPhotography16BitImageStorage,
    PositronEmissionTomographyImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    VideoEndoscopicImageStorage,
    VLEndoscopicImageStorage,
    VLMicroscopicImageStorage,
    VLSlideCoordinatesMicroscopicImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from dicom_node.headers import InstanceHeader
from models.acceptance import Acceptance
from models.adapter import AdapterDefinition, HubReference, LoraConfiguration, Unit
from models.adapters.flare.render import render
from models.adapters.flare.report import LIMITATIONS, TITLE
from models.adapters.flare.tasks import REPORT, TASKS, free_report
from models.confidence import ReviewPolicy
from models.question import Question

#: Retired, and still sent (PS3.4 B.5): ultrasound multi-frame and single-frame.
_RETIRED_ULTRASOUND: Final = frozenset({"1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.6"})
_UNASKED: Final = frozenset({"CR", "DX", "MG", "MR", "US", "OP", "SM", "GM", "ES", "PT", "NM"})
#: PET and scintigraphy; the last is retired, and still sent (PS3.4 B.5).
_NUCLEAR: Final = frozenset(
    {
        PositronEmissionTomographyImageStorage,
        EnhancedPETImageStorage,
        LegacyConvertedEnhancedPETImageStorage,
        NuclearMedicineImageStorage,
        "1.2.840.10008.5.1.4.1.1.5",
    }
)
_DEFAULT: Final = Question(REPORT)
_FREE: Final = free_report(_DEFAULT)


def _default_questions(_header: InstanceHeader) -> tuple[Question, ...]:
    return (_DEFAULT,)


_ATTENTION_AND_MLP: Final = ("gate_proj", "up_proj", "o_proj", "down_proj", "v_proj", "q_proj", "k_proj")

ADAPTER = AdapterDefinition(
    name="flare",
    title=TITLE,
    version="1",
    base=HubReference(
        "google/medgemma-4b-it",
        "main",
        "Health AI Developer Foundations terms of use",
        # "Eager attention for stability", says the card.
        attention="eager",
    ),
    lora=HubReference("leoyinn/flare25-medgemma", "main", "follows the base model's terms"),
    # The card gives two: this one under its configuration, the other under its procedure. The adapter's file decides.
    lora_configuration=LoraConfiguration(
        r=16,
        lora_alpha=32,
        lora_dropout=0.1,
        target_modules=_ATTENTION_AND_MLP,
        or_else=LoraConfiguration(r=64, lora_alpha=16, lora_dropout=0.1, target_modules=_ATTENTION_AND_MLP),
    ),
    unit=Unit.SERIES,
    acceptance=Acceptance(
        # The card's seven modalities; mammography is X-ray. Angiography and tomography of the eye are not among them.
        # PET, scintigraphy and video of an endoscope (of which the card knows stills) are neither; but for surgery of
        # the eye nothing else looks at them, so they are taken, and always doubted.
        # Secondary Capture is left out, because dose screens and screen shots come so too: where stills of a fundus or
        # a slide arrive as such, a site rule sends them, and the answer says that they are outside the intended use.
        sop_class_uids=frozenset(
            {
                CTImageStorage,
                EnhancedCTImageStorage,
                LegacyConvertedEnhancedCTImageStorage,
                MRImageStorage,
                EnhancedMRImageStorage,
                LegacyConvertedEnhancedMRImageStorage,
                ComputedRadiographyImageStorage,
                DigitalXRayImageStorageForPresentation,
                DigitalMammographyXRayImageStorageForPresentation,
                *_NUCLEAR,
                UltrasoundImageStorage,
                UltrasoundMultiFrameImageStorage,
                *_RETIRED_ULTRASOUND,
                OphthalmicPhotography8BitImageStorage,
                OphthalmicPhotography16BitImageStorage,
                VLMicroscopicImageStorage,
                VLSlideCoordinatesMicroscopicImageStorage,
                VLWholeSlideMicroscopyImageStorage,
                VLEndoscopicImageStorage,
                VideoEndoscopicImageStorage,
            }
        ),
        modalities=frozenset({"CT", *_UNASKED}),
        edge_modalities={
            "PT": "PET is not among the modalities that the adapter's author names",
            "NM": "scintigraphy is not among the modalities that the adapter's author names",
        },
        edge_sop_class_uids={
            VideoEndoscopicImageStorage: (
                "of endoscopy the adapter's author names images; of a video only a few frames are shown"
            )
        },
        # A slide's label and overview show what is written on the glass, often a name (PS3.3 C.8.12.4.1.1).
        excluded_image_types=frozenset({"LOCALIZER", "LABEL", "OVERVIEW", "SCREEN SAVE"}),
        # The card says that performance varies across populations and names none that it was measured on; children's
        # anatomy differs most, so that a site must ask for them by a rule, and their answers say so.
        min_age_years=18,
    ),
    prompt=_FREE.prompt,
    answer_form=_FREE.answer_form,
    findings=_FREE.findings,
    render=render,
    parse=_FREE.parse,
    answer_class=_FREE.answer_class,
    confidence=_FREE.confidence,
    policy=ReviewPolicy(
        rationale=(
            "The author has not validated the model in any clinical setting and publishes no figure for any of the "
            "seven modalities or kinds of question, so every answer is reviewed, whatever its probability. A site that "
            "has compared reviewed cases may set a threshold for a kind of question (adapters: flare: release_at)."
        ),
    ),
    report=_FREE.report,
    limitations=LIMITATIONS,
    general=True,
    # Abdominal CT belongs to the trauma adapter, and one slice of any other is little: CT where a site asks for it.
    unasked_modalities=_UNASKED,
    tasks=TASKS,
    default_questions=_default_questions,
)
