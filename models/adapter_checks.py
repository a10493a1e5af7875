"""What can be wrong with an adapter's definition that types do not show.

Input: an `AdapterDefinition`. Output: every fault in words. It cannot fail.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dicom_node.regions import REGIONS
from models.generation import JsonAnswer, LabelAnswer

if TYPE_CHECKING:
    from models.acceptance import Acceptance
    from models.adapter import AdapterDefinition


def faults_of(definition: AdapterDefinition) -> list[str]:
    """Return what is wrong with names, ranges, thresholds, prompt and answer form; empty where nothing is."""
    return [*_identity_faults(definition), *_acceptance_faults(definition.acceptance), *_answer_faults(definition)]


def _identity_faults(definition: AdapterDefinition) -> list[str]:
    lora = definition.lora_configuration
    checks = {
        "the name must be lower case letters, digits and underscores": re.fullmatch(
            r"[a-z][a-z0-9_]*", definition.name
        ),
        "the title is empty": definition.title.strip(),
        "the version is empty": definition.version.strip(),
        "the prompt is empty": definition.prompt.user.strip(),
        "its language is not one of its languages": definition.language in definition.languages,
        "samples is negative": definition.samples >= 0,
        "it has tasks and names no default questions": not definition.tasks or definition.default_questions is not None,
        "it names no limitations; every adapter's card has some": definition.limitations,
        f"priority {definition.priority} is not in 0..9": 0 <= definition.priority <= 9,
        "the LoRA configuration needs r >= 1, lora_alpha >= 1, lora_dropout in [0, 1) and target modules": (
            lora.r >= 1 and lora.lora_alpha >= 1 and 0 <= lora.lora_dropout < 1 and lora.target_modules
        ),
        "base and lora need a hub id, a revision and a licence": all(
            part
            for reference in (definition.base, definition.lora)
            for part in (reference.hub_id, reference.revision, reference.licence)
        ),
    }
    return [fault for fault, sound in checks.items() if not sound]


def _acceptance_faults(acceptance: Acceptance) -> list[str]:
    checks = {
        "it accepts no SOP class": acceptance.sop_class_uids,
        "a SOP class UID has other characters than digits and dots": all(
            re.fullmatch(r"[0-9.]{1,64}", uid) for uid in acceptance.sop_class_uids
        ),
        "it accepts no modality": acceptance.modalities,
        f"body regions must be among {', '.join(sorted(REGIONS))}": acceptance.body_regions <= REGIONS,
        "a modality at the edge of its use is not among those it accepts": (
            set(acceptance.edge_modalities) <= acceptance.modalities
        ),
        "a SOP class at the edge of its use is not among those it accepts": (
            set(acceptance.edge_sop_class_uids) <= acceptance.sop_class_uids
        ),
        "min_instances must be at least 1": acceptance.min_instances >= 1,
        "min_age_years is negative": acceptance.min_age_years is None or acceptance.min_age_years >= 0,
    }
    return [fault for fault, sound in checks.items() if not sound]


def _answer_faults(definition: AdapterDefinition) -> list[str]:
    faults = []
    form, policy = definition.answer_form, definition.policy
    if isinstance(form, LabelAnswer):
        if len(set(form.labels)) < 2 or len(set(form.labels)) != len(form.labels):
            faults.append("a label answer needs at least two different labels")
    elif form.max_new_tokens < 1:
        faults.append("max_new_tokens must be at least 1")
    if isinstance(form, JsonAnswer) and form.json_schema.get("type") != "object":
        faults.append("the JSON schema must describe an object")
    if any(not 0 <= threshold <= 1.01 for threshold in policy.release_at.values()):
        faults.append("release thresholds are probabilities, or 1.01 for never")
    if not policy.rationale.strip():
        faults.append("the review policy gives no rationale")
    return faults
