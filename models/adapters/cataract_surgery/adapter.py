"""Cataract surgery scenes: what it accepts, which weights, that a person always looks."""

from __future__ import annotations

from pathlib import Path

from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    VideoEndoscopicImageStorage,
    VideoMicroscopicImageStorage,
    VideoPhotographicImageStorage,
    VLEndoscopicImageStorage,
    VLMicroscopicImageStorage,
    VLPhotographicImageStorage,
)

from models.acceptance import Acceptance
from models.adapter import AdapterDefinition, HubReference, LoraConfiguration, Unit, load_prompt
from models.adapters.cataract_surgery.findings import CataractFindings, answer_class, confidence, parse
from models.adapters.cataract_surgery.render import render
from models.adapters.cataract_surgery.report import LIMITATIONS, TITLE, report
from models.confidence import ReviewPolicy
from models.generation import TextAnswer

ADAPTER = AdapterDefinition(
    name="cataract_surgery",
    title=TITLE,
    version="1",
    base=HubReference("google/medgemma-1.5-4b-it", "main", "Health AI Developer Foundations terms of use"),
    lora=HubReference("mehti/medgemma-cataract-surgical-analysis-peft-lora", "main", "follows the base model's terms"),
    lora_configuration=LoraConfiguration(r=16, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear"),
    unit=Unit.INSTANCE,
    acceptance=Acceptance(
        # Ophthalmic photography and single secondary captures are mostly of the fundus, which is no surgery: a site
        # that keeps surgical stills in them says so by a rule. Video seldom names its region: it needs a rule as well.
        sop_class_uids=frozenset(
            {
                VideoEndoscopicImageStorage,
                VideoMicroscopicImageStorage,
                VideoPhotographicImageStorage,
                VLEndoscopicImageStorage,
                VLMicroscopicImageStorage,
                VLPhotographicImageStorage,
                MultiFrameTrueColorSecondaryCaptureImageStorage,
            }
        ),
        modalities=frozenset({"ES", "GM", "XC", "OP", "OT"}),  # codespell:ignore ot
        body_regions=frozenset({"eye"}),
        # The card names no age; the cataract surgery of children is another operation.
        min_age_years=18,
    ),
    prompt=load_prompt(Path(__file__).parent),
    answer_form=TextAnswer(max_new_tokens=512),
    findings=CataractFindings,
    render=render,
    parse=parse,
    answer_class=answer_class,
    confidence=confidence,
    policy=ReviewPolicy(
        release_at={"instruction": 1.01},
        rationale=(
            "The author made the adapter for research and education and not for decisions about patients, so no answer "
            "leaves without a person having read it, however likely its wording is."
        ),
    ),
    report=report,
    limitations=LIMITATIONS,
    priority=1,
)
