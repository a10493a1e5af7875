"""Clinical captions of X-ray and MR images: what it accepts, which weights, which languages, and never unreviewed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import BaseModel
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    MRImageStorage,
)

from dicom_node.headers import InstanceHeader
from models.acceptance import Acceptance
from models.adapter import AdapterDefinition, HubReference, LoraConfiguration, Unit, load_prompt
from models.adapters.clinical_caption.findings import CaptionFindings, answer_class, parse
from models.adapters.clinical_caption.languages import LANGUAGES, language_sentence
from models.adapters.clinical_caption.render import render
from models.adapters.clinical_caption.report import LIMITATIONS, TITLE, report
from models.confidence import Confidence, ReviewPolicy, text_confidence
from models.generation import Generation, TextAnswer
from models.question import Prompt, Question, Task

#: The author publishes none: these are this project's words.
PROMPT = load_prompt(Path(__file__).parent)
#: Three sentences take 60 to 100 tokens, in German or French up to half as many more. An answer that is longer is no
#: caption; it is held as cut off.
ANSWER_FORM = TextAnswer(max_new_tokens=200)


def caption_task(question: Question) -> Task:
    """Return how a caption is asked for in the question's language, English where it names none."""
    language = question.language or "en"
    sentence = language_sentence(language)
    return Task(
        prompt=Prompt(user=f"{PROMPT.user} {sentence}".strip()),
        answer_form=ANSWER_FORM,
        findings=CaptionFindings,
        parse=partial(parse, language=language, question=question.text or PROMPT.user),
        answer_class=answer_class,
        confidence=confidence,
        report=report,
        postscript=sentence,
    )


def caption_questions(header: InstanceHeader) -> tuple[Question, ...]:
    """Return what is asked of every series alike."""
    return (Question("caption"),)


def confidence(generation: Generation, findings: BaseModel) -> Confidence:
    """Return how likely the words are, and how far repeated answers agree with them."""
    return text_confidence(generation)


ADAPTER = AdapterDefinition(
    name="clinical_caption",
    title=TITLE,
    version="1",
    base=HubReference("google/medgemma-1.5-4b-it", "main", "Health AI Developer Foundations terms of use"),
    # The author's script writes it to outputs/medgemma-lora; it is on no hub.
    lora=HubReference("local/medgemma-lora", "local", "follows the base model's terms", published=False),
    lora_configuration=LoraConfiguration(
        r=16,
        # The card gives neither; these are the ones of Google's own fine-tuning notebook for MedGemma. What is loaded
        # has its own adapter_config.json, which counts.
        lora_alpha=16,
        lora_dropout=0.05,
        unstated=frozenset({"lora_alpha", "lora_dropout"}),
        target_modules=("q_proj", "v_proj"),
    ),
    unit=Unit.SERIES,
    acceptance=Acceptance(
        # Enhanced MR and CT, and DX and MG for processing (raw detector values), are left out: their pictures need
        # choices that only a site can make. Mammography is X-ray.
        sop_class_uids=frozenset(
            {
                ComputedRadiographyImageStorage,
                DigitalXRayImageStorageForPresentation,
                DigitalMammographyXRayImageStorageForPresentation,
                MRImageStorage,
                CTImageStorage,
            }
        ),
        modalities=frozenset({"CR", "DX", "MG", "MR", "CT"}),
        excluded_image_types=frozenset({"LOCALIZER", "SCREEN SAVE"}),
        min_age_years=18,
    ),
    prompt=PROMPT,
    answer_form=ANSWER_FORM,
    findings=CaptionFindings,
    render=render,
    parse=partial(parse, question=PROMPT.user),
    answer_class=answer_class,
    confidence=confidence,
    policy=ReviewPolicy(
        release_at={"caption": 1.01},
        rationale=(
            "Free text, and no validation is published: how likely words are says little about whether they are true, "
            "so no caption leaves without a person having read it."
        ),
    ),
    report=report,
    limitations=LIMITATIONS,
    general=True,
    # One slice says little about a CT volume; a site that wants it asks for it.
    unasked_modalities=frozenset({"CR", "DX", "MG", "MR"}),
    tasks={"caption": caption_task},
    default_questions=caption_questions,
    languages=frozenset(LANGUAGES),
)
