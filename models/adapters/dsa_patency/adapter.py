"""Vessel patency triage on digital subtraction angiography: what it accepts, which weights, when it may be released."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import EnhancedXAImageStorage, XRayAngiographicImageStorage

from models.acceptance import Acceptance
from models.adapter import AdapterDefinition, HubReference, LoraConfiguration, Unit, load_prompt
from models.adapters.dsa_patency.findings import LABELS, PatencyFindings, answer_class, confidence, parse
from models.adapters.dsa_patency.render import render
from models.adapters.dsa_patency.report import LIMITATIONS, TITLE, report
from models.confidence import ReviewPolicy
from models.generation import LabelAnswer

ADAPTER = AdapterDefinition(
    name="dsa_patency",
    title=TITLE,
    version="1",
    base=HubReference("google/medgemma-1.5-4b-it", "main", "Health AI Developer Foundations terms of use"),
    lora=HubReference("s0close/medgemma-dsa-lora", "main", "follows the base model's terms"),
    lora_configuration=LoraConfiguration(r=8, lora_alpha=16, lora_dropout=0.1, target_modules="all-linear"),
    unit=Unit.INSTANCE,
    acceptance=Acceptance(
        # An enhanced run holds the same projections over time; a 3D reconstruction is none.
        sop_class_uids=frozenset({XRayAngiographicImageStorage, EnhancedXAImageStorage}),
        # "DSA" is not a defined term, but some consoles write it.
        modalities=frozenset({"XA", "DSA"}),
        excluded_image_types=frozenset({"LOCALIZER", "SCOUT", "SCREEN SAVE"}),
        min_age_years=18,
    ),
    prompt=load_prompt(Path(__file__).parent),
    answer_form=LabelAnswer(LABELS),
    findings=PatencyFindings,
    render=render,
    parse=parse,
    answer_class=answer_class,
    confidence=confidence,
    policy=ReviewPolicy(
        release_at={"patent": 0.95, "blocked": 0.80},
        rationale=(
            "A blocked vessel called patent is the high-risk error, so 'patent' is released only at 0.95 and above; "
            "a false alarm costs a second look, so 'blocked' is released at 0.80 and above. The probabilities are not "
            "calibrated: revise the thresholds once reviewed cases are at hand."
        ),
    ),
    report=report,
    limitations=LIMITATIONS,
    priority=6,
)
