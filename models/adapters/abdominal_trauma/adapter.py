"""Trauma reading of abdominal CT angiograms: what it accepts, which weights, when it may be released."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from models.acceptance import Acceptance
from models.adapter import AdapterDefinition, HubReference, LoraConfiguration, Unit, load_prompt
from models.adapters.abdominal_trauma.findings import TraumaFindings, answer_class, confidence, json_schema, parse
from models.adapters.abdominal_trauma.render import render
from models.adapters.abdominal_trauma.report import LIMITATIONS, TITLE, report
from models.confidence import ReviewPolicy
from models.generation import JsonAnswer

ADAPTER = AdapterDefinition(
    name="abdominal_trauma",
    title=TITLE,
    version="1",
    base=HubReference("google/medgemma-1.5-4b-it", "main", "Health AI Developer Foundations terms of use"),
    lora=HubReference(
        "jayantsom/medgemma-1v5-4b-it-rsna23-abd-ct-peft-lora-r16-a32-ep3-lr2e4-v1",
        "main",
        "MIT, on a base under Health AI Developer Foundations terms of use",
    ),
    lora_configuration=LoraConfiguration(
        r=16,
        lora_alpha=32,
        # The card gives no dropout; it matters in training only.
        lora_dropout=0.05,
        unstated=frozenset({"lora_dropout"}),
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
    unit=Unit.SERIES,
    best_series_only=True,
    acceptance=Acceptance(
        sop_class_uids=frozenset({CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}),
        modalities=frozenset({"CT"}),
        body_regions=frozenset({"abdomen"}),
        # Topograms, MPRs and projections (DERIVED\\SECONDARY), pictures of the screen.
        excluded_image_types=frozenset(
            {"LOCALIZER", "SECONDARY", "MPR", "REFORMATTED", "MIP", "PROJECTION IMAGE", "SCREEN SAVE", "DOSE_INFO"}
            # The words of enhanced images (VolumeBasedCalculationTechnique, PS3.3 C.8.16.2.1.5).
            | {"CURVED_MPR", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER"}
        ),
        min_instances=10,
        min_age_years=18,
    ),
    prompt=load_prompt(Path(__file__).parent),
    answer_form=JsonAnswer(json_schema(), max_new_tokens=800),
    findings=TraumaFindings,
    render=render,
    parse=parse,
    answer_class=answer_class,
    confidence=confidence,
    policy=ReviewPolicy(
        release_at={"no injury": 0.95, "injury": 0.80},
        rationale=(
            "A missed injury is worse than a false alarm, so 'no injury' is released only at 0.95 and above, 'injury' "
            "at 0.80 and above, always unverified and for a radiologist to read; an answer whose severity and organs "
            "contradict each other is always reviewed. The author reports 88 % right organs and 82 % right severities "
            "on 20 cases: revise the thresholds once reviewed cases are at hand."
        ),
    ),
    report=report,
    limitations=LIMITATIONS,
    priority=5,
)
