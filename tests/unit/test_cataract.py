"""Cataract surgery from a DICOM file to the documents: what is accepted, shown, parsed and reported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom.sr as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import (
    MPEG2MPML,
    MPEG4HP41,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    OphthalmicPhotography8BitImageStorage,
    VLMicroscopicImageStorage,
)

from dicom_node import codes
from dicom_node.headers import InstanceFile, read_header
from dicom_node.marking import RESEARCH_STATEMENT
from models.adapter import Unit
from models.adapters.cataract_surgery.adapter import ADAPTER
from models.adapters.cataract_surgery.phases import named_phase
from models.confidence import Confidence, Outcome, decide
from models.generation import Generation, ModelProvenance, TextAnswer, TokenLogprob
from models.parsing import ParseFailure
from models.rendering import RenderError
from tests import dicom_validators
from worker.demo.phantom_studies import new_image, save_image
from worker.demo.phantom_video import write_video
from worker.documents import Answer, Document, build_documents
from worker.routing import RouteDecision, SeriesSummary, route
from worker.settings import RouteRule

THINKING = "The frame shows the capsulorhexis phase. The flap is held at its edge."
INSTRUCTION = "Regrasp the flap near the tear and direct it towards the centre."
PROVENANCE = ModelProvenance(
    *("google/medgemma-1.5-4b-it", "main", "b" * 64, "mehti/medgemma-cataract-surgical-analysis-peft-lora", "main"),
    *("a" * 64, "transformers", "float32", "cpu", "transformers 5", False),
)


def surgery(frames: int = 50) -> NDArray[np.uint8]:
    """Return frames whose red value is five times their index, with a bright pupil."""
    pictures = np.empty((frames, 64, 96, 3), dtype=np.uint8)
    pictures[..., 0] = np.arange(frames, dtype=np.uint8)[:, None, None] * 5
    pictures[..., 1:] = 90
    return pictures


def still(folder: Path, sop_class: str, modality: str, *, frames: int = 1, **changes: Any) -> Path:
    ds = new_image(sop_class, modality, None, {"body_part": "EYE"})
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    pixels = surgery(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[1:3]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    if frames > 1:
        ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = frames, "500", 0x00181063
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return save_image(ds, folder, {})


def file_of(path: Path) -> InstanceFile:
    return InstanceFile(read_header(path), path)


def routed(path: Path, *rules: RouteRule) -> RouteDecision:
    header = read_header(path)
    summary = SeriesSummary((header,))
    return route(summary, rules, {ADAPTER.name: ADAPTER})


# What it takes -------------------------------------------------------------------------------------------------------


def test_the_definition_is_the_cards() -> None:
    assert ADAPTER.prompt.user == (
        "You are an expert ophthalmic surgeon reviewing a frame from a cataract surgery video. "
        "Analyze the surgical scene and provide a chain-of-thought reasoning followed by a "
        "clear instruction for a surgical resident.\n\n"
        "Format your response as:\nThinking Process:\n<your reasoning>\n\nFinal Answer:\n<your instruction>"
    )
    lora = ADAPTER.lora_configuration
    assert (lora.r, lora.lora_alpha, lora.lora_dropout, lora.target_modules) == (16, 16, 0.05, "all-linear")
    assert (ADAPTER.answer_form, ADAPTER.unit) == (TextAnswer(512), Unit.INSTANCE)


def test_a_video_of_the_eye_is_taken_and_one_of_no_known_region_is_not(tmp_path: Path) -> None:
    video = surgery(8)
    assert routed(write_video(tmp_path, video)).adapters == (ADAPTER.name,)
    unknown = routed(write_video(tmp_path, video, body_part="", study_description="Theatre 2"))
    assert unknown.adapters == ()
    assert "body region unknown" in unknown.reason
    assert routed(write_video(tmp_path, video, body_part="", study_description="Phaco + IOL OS")).adapters


def test_a_site_rule_is_the_usual_way_and_is_followed_with_the_doubt_said(tmp_path: Path) -> None:
    rule = RouteRule.model_validate(
        {"name": "eye theatre", "when": {"station_name": "OPMI*"}, "adapter": "cataract_surgery"}
    )
    path = write_video(tmp_path, surgery(8), body_part="", study_description="", station_name="OPMI3")
    (assignment,) = routed(path, rule).assignments
    assert assignment.adapter == ADAPTER.name
    assert any("body region unknown" in doubt for doubt in assignment.doubts)


def test_photographs_of_the_retina_are_left_to_others(tmp_path: Path) -> None:
    assert routed(still(tmp_path, OphthalmicPhotography8BitImageStorage, "OP")).adapters == ()


# What the model sees -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [MPEG4HP41, MPEG2MPML], ids=["h264", "mpeg2"])
def test_four_frames_spread_over_the_video_with_their_times(coding: str, tmp_path: Path) -> None:
    file = file_of(write_video(tmp_path, surgery(), coding=coding))
    rendered = ADAPTER.render([file])
    assert [image.shape for image in rendered.images] == [(896, 896, 3)] * 4
    assert [round(float(image[..., 0].mean()) / 5 + 0.1) for image in rendered.images] == [6, 18, 31, 43]
    assert rendered.record["frames_shown"] == [7, 19, 32, 44]
    assert rendered.record["times_s"] == [0.24, 0.72, 1.24, 1.72]
    assert [source.frame_numbers for source in rendered.image_sources] == [(7,), (19,), (32,), (44,)]
    assert rendered.sources[0].frame_numbers == (7, 19, 32, 44)
    assert rendered.incomplete == ()
    assert ADAPTER.render([file]).digest() == rendered.digest(), "reporting renders again and must see the same"


def test_a_still_is_one_image_without_frame_numbers(tmp_path: Path) -> None:
    rendered = ADAPTER.render([file_of(still(tmp_path, VLMicroscopicImageStorage, "GM"))])
    assert len(rendered.images) == 1
    assert rendered.sources[0].frame_numbers == ()
    assert rendered.record["times_s"] == []


def test_colour_frames_of_their_own_are_sampled_alike(tmp_path: Path) -> None:
    path = still(tmp_path, MultiFrameTrueColorSecondaryCaptureImageStorage, "OT", frames=12)
    rendered = ADAPTER.render([file_of(path)])
    assert [round(float(image[..., 0].mean()) / 5) for image in rendered.images] == [1, 4, 7, 10]
    assert rendered.record["times_s"] == [0.5, 2.0, 3.5, 5.0]


def test_a_header_that_disagrees_with_its_stream_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path, surgery())
    ds = dcmread(path)
    ds.NumberOfFrames, ds.Rows = 40, 72
    ds.save_as(path)
    assert ADAPTER.render([file_of(path)]).incomplete == (
        "the header claims 40 frames, the stream holds 50",
        "the header claims 72 x 96 pixels, the stream has 64 x 96",
    )


def test_what_is_no_single_colour_instance_is_refused(tmp_path: Path) -> None:
    file = file_of(still(tmp_path, VLMicroscopicImageStorage, "GM"))
    with pytest.raises(RenderError, match="2 were given; make one job of each"):
        ADAPTER.render([file, file])
    grey = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    with pytest.raises(RenderError, match="MONOCHROME2 of 8 bits, not RGB"):
        ADAPTER.render([file_of(still(tmp_path, VLMicroscopicImageStorage, "GM", **grey))])
    broken = write_video(tmp_path, surgery())
    broken.write_bytes(broken.read_bytes()[:-700])
    with pytest.raises(RenderError, match="truncated; send the instance again"):
        ADAPTER.render([file_of(broken)])


# What it says --------------------------------------------------------------------------------------------------------


def generation(text: str, *logprobs: tuple[str, float]) -> Generation:
    return Generation(text, tuple(TokenLogprob(*pair) for pair in logprobs), None, "stop", 1100, 1.0)


def test_confidence_is_of_the_instruction_whatever_the_reasoning_was_worth() -> None:
    tokens = [("Thinking Process:\n", -0.01), ("Doubtful.", -5.0), ("\n\nFinal Answer:\n", -0.01), ("Hold", -0.1)]
    answer = generation("Thinking Process:\nDoubtful.\n\nFinal Answer:\nHold on.", *tokens, (" on.", -0.3))
    findings = ADAPTER.parse(answer)
    assert not isinstance(findings, ParseFailure)
    assert ADAPTER.confidence(answer, findings).probability == pytest.approx(np.exp(-0.2))


def test_nothing_is_ever_released_without_a_person() -> None:
    text = f"Thinking Process:\n{THINKING}\n\nFinal Answer:\n{INSTRUCTION}"
    sure = generation(text, (text, 0.0))
    decision = decide(ADAPTER, ADAPTER.parse(sure), sure)
    assert decision.confidence is not None
    assert decision.confidence.probability == 1.0
    assert decision.outcome is Outcome.REVIEW


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("The frame shows the phacoemulsification phase with the tip in the nucleus.", "Phacoemulsification"),
        ("This is the irrigation and aspiration stage.", "Irrigation/aspiration"),
        ("We see the viscoelastic suction phase.", "Viscoelastic suction"),
        ("The IOL implantation phase is under way; the IOL insertion phase needs care.", "Lens implantation"),
        ("The capsulorhexis phase has not begun.", "Capsulorhexis"),
        ("This is not the hydrodissection phase.", None),
        ("The incision is closed before the lens implantation phase.", None),
        ("Either the incision phase or the capsulorhexis phase.", None),
        ("The capsulorhexis phase; then the hydrodissection phase.", None),
        ("The phaco tip is in the eye.", None),
        ("", None),
    ],
)
def test_a_phase_is_coded_only_where_it_is_plainly_named(text: str, phase: str | None) -> None:
    found = named_phase(text)
    assert (found and found.meaning) == phase


def answered(path: Path) -> Answer:
    file = file_of(path)
    return Answer(
        adapter=ADAPTER,
        findings=ADAPTER.findings.model_validate({"thinking_process": THINKING, "final_answer": INSTRUCTION}),
        input_record=ADAPTER.render([file]).input_record(),
        provenance=PROVENANCE,
        confidence=Confidence(0.87, calibrated=False, method="length-normalised likelihood of the text"),
        answered_at=datetime(2026, 3, 2, 10, 30, tzinfo=UTC),
        revision=1,
        files=(file,),
        digests=("d" * 64,),
    )


def texts(node: Any) -> list[tuple[str, str]]:
    own = [(node.ConceptNameCodeSequence[0].CodeMeaning, node.TextValue)] if "TextValue" in node else []
    return own + [pair for child in node.get("ContentSequence", ()) for pair in texts(child)]


def written(documents: list[Document], folder: Path) -> list[Path]:
    paths = [folder / f"result{number}.dcm" for number in range(len(documents))]
    for path, document in zip(paths, documents, strict=True):
        path.write_bytes(document.data)
    return paths


def test_a_video_becomes_an_sr_and_a_capture_of_each_frame(tmp_path: Path) -> None:
    documents = build_documents(answered(write_video(tmp_path, surgery(), patient_name="Müller^Äda")))
    assert [document.kind for document in documents] == ["sr", "sc", "sc", "sc", "sc"]
    sr = dcmread(BytesIO(documents[0].data))
    said = texts(sr)
    assert ("Conclusion", INSTRUCTION) in said
    assert ("Reasoning of the model", THINKING) in said
    impression = next(text for heading, text in said if heading == "Impression")
    assert "frames 7 (0.2 s), 19 (0.7 s), 32 (1.2 s), 44 (1.7 s) of the video" in impression
    assert INSTRUCTION.rstrip(".") in impression
    assert THINKING not in impression
    assert RESEARCH_STATEMENT in {text for _, text in said}
    (group,) = hd.Comprehensive3DSR.from_dataset(sr).content.get_image_measurement_groups()
    evaluations = {entry.name.value: entry.value.meaning for entry in group.get_qualitative_evaluations()}
    assert evaluations[codes.PROCEDURE_PHASE.value] == "Capsulorhexis"
    assert group.finding_sites[0].value.value == codes.EYE.value
    assert group.source_images[0].referenced_frame_numbers == [7, 19, 32, 44]
    frames = [dcmread(BytesIO(d.data)).SourceImageSequence[0].ReferencedFrameNumber for d in documents[1:]]
    assert frames == [7, 19, 32, 44]


@pytest.mark.parametrize("kind", ["h264", "mpeg2", "still"])
def test_dciodvfy_and_dcentvfy_pass_what_is_written(kind: str, tmp_path: Path) -> None:
    if kind == "still":
        source = still(tmp_path, VLMicroscopicImageStorage, "GM", Laterality="L")
    else:
        source = write_video(tmp_path, surgery(), coding=MPEG4HP41 if kind == "h264" else MPEG2MPML)
    paths = written(build_documents(answered(source)), tmp_path)
    assert len(paths) == (2 if kind == "still" else 5)
    assert {path.name: dicom_validators.dciodvfy(path).errors for path in paths} == {path.name: () for path in paths}
    assert dicom_validators.dcentvfy([source, *paths]).errors == ()


def test_a_long_instruction_is_cut_in_the_headline_only(tmp_path: Path) -> None:
    answer = answered(still(tmp_path, VLMicroscopicImageStorage, "GM"))
    long = "Keep the tip in view and move slowly. " * 20
    findings = ADAPTER.findings.model_validate({"thinking_process": "No phase.", "final_answer": long.strip()})
    sr = dcmread(BytesIO(build_documents(replace(answer, findings=findings))[0].data))
    said = dict(texts(sr))
    assert said["Conclusion"] == long.strip()
    assert len(said["Summary"]) < 200
    assert "..." in said["Summary"]
    assert "likelihood of the words 0.87 (uncalibrated)" in said["Summary"], "no probability that it is right"


def test_the_phases_are_private_concepts_that_fit_their_value_representations() -> None:
    phases = codes.CATARACT_PHASES
    assert len({code.value for code in phases}) == len(phases) == 12
    assert all(code.scheme == codes.PRIVATE_SCHEME and len(code.value) <= 16 for code in phases)
