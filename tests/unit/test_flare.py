"""FLARE's adapter: what it is asked, what it sees, what it says, and where its boxes lie on the source."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, VideoEndoscopicImageStorage, VLWholeSlideMicroscopyImageStorage

from dicom_node import codes
from dicom_node.headers import InstanceFile, read_header
from dicom_node.report import Algorithm, Person, Report, SourceFrames
from models.adapter import AdapterDefinition, AdapterError, ReportContext, adapters, validate_adapter
from models.confidence import Confidence, Outcome, decide
from models.drawing import replay
from models.generation import Generation, JsonAnswer, LabelAnswer, TextAnswer, TokenLogprob
from models.parsing import ParseFailure
from models.prompting import build_request
from models.question import Question
from models.rendering import InputRecord, RenderError
from tests.phantoms.slide import CENTRE, TISSUE, write_slide
from tests.sample_reports import DATA_STORE, TEST_FILES
from worker.demo.phantom_video import write_video
from worker.routing import SeriesSummary, route

FLARE = adapters()["flare"]
SOURCE = SourceFrames("1.2.840.10008.5.1.4.1.1.1", "1.2.3", "1.2.4")
QUESTIONS = {
    "classification": Question("classification", labels=("normal", "pneumonia", "pleural effusion")),
    "multi_label": Question("multi_label", labels=("cardiomegaly", "pleural effusion")),
    "detection": Question("detection", labels=("nodule", "mass")),
    "counting": Question("counting", labels=("white blood cell",)),
    "regression": Question("regression", labels=("vertical cup-disc ratio",), unit="1"),
    "report": Question("report"),
}
every_kind = pytest.mark.parametrize("kind", sorted(QUESTIONS))


def asked(kind: str, **changes: Any) -> AdapterDefinition:
    return FLARE.asked(replace(QUESTIONS[kind], **changes))


def context(**changes: Any) -> ReportContext:
    plain = ReportContext(
        sources=(SOURCE,),
        key_sources=(SOURCE,),
        incomplete=(),
        algorithm=Algorithm("flare", "1", "leoyinn", "1.2.5"),
        confidence=Confidence(0.93, False, "label likelihood"),
        answered_at=datetime(2026, 1, 1, tzinfo=UTC),
        record={"pictures": [{"rows": 1000, "columns": 500}]},
    )
    return replace(plain, **changes)


def answer(text: str, **scores: float) -> Generation:
    tokens = () if scores else tuple(TokenLogprob(character, -0.01) for character in text)
    return Generation(text, tokens, scores or None, "stop", 300, 0.1)


def report_of(adapter: AdapterDefinition, findings: dict[str, Any], **changes: Any) -> Report:
    return adapter.report(adapter.findings.model_validate(findings), context(**changes))


# What is asked -------------------------------------------------------------------------------------------------------


def test_the_published_question_and_system_prompt_are_the_cards_to_the_letter() -> None:
    prompt = asked("report").prompt
    assert prompt.user == "Describe the medical findings in this image and provide a diagnostic assessment."
    assert prompt.system == (
        "You are an expert medical AI assistant specialized in analyzing medical images and providing accurate "
        "diagnostic insights."
    )
    assert asked("report").answer_form == TextAnswer(300)


@every_kind
def test_each_kind_names_its_labels_and_is_sound_by_itself(kind: str) -> None:
    adapter = asked(kind)
    validate_adapter(adapter)
    assert set(FLARE.tasks) == set(QUESTIONS)
    assert all(label in adapter.prompt.user for label in QUESTIONS[kind].labels)
    assert "{" not in adapter.prompt.user
    assert adapter.prompt.system == FLARE.prompt.system


@pytest.mark.parametrize("kind", ["multi_label", "detection", "counting", "regression"])
def test_a_sites_own_words_keep_the_form_of_the_answer(kind: str) -> None:
    user = asked(kind, text="What do you see in the left lung?").prompt.user
    assert user.startswith("What do you see in the left lung? Answer in JSON with the key ")


@every_kind
def test_the_answer_form_has_room_for_the_longest_answer_and_takes_only_findings(kind: str) -> None:
    adapter = asked(kind)
    form = adapter.answer_form
    if isinstance(form, JsonAnswer):
        longest = json.dumps(longest_answer(form.json_schema), separators=(",", ":"))
        assert len(longest) < form.max_new_tokens, "even at one token a character"
        assert "$ref" not in json.dumps(form.json_schema)
        assert form.json_schema["additionalProperties"] is False
        assert list(form.json_schema["required"]) == list(adapter.findings.model_fields)
    if isinstance(form, LabelAnswer):
        assert form.labels == QUESTIONS[kind].labels


def longest_answer(schema: Any) -> Any:
    if "enum" in schema:
        return max(schema["enum"], key=len)
    if schema["type"] == "array":
        return [longest_answer(schema["items"])] * schema["maxItems"]
    if schema["type"] in ("integer", "number"):
        return min(schema["minimum"], -schema["maximum"]) if schema["minimum"] < 0 else schema["maximum"]
    return {name: longest_answer(part) for name, part in schema["properties"].items()}


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (Question("classification"), r"needs at least two labels, 0 given; name them in the rule \(ask: labels\)"),
        (Question("classification", labels=("normal",)), "at least two labels, 1 given"),
        (Question("classification", labels=("Normal", "normal")), "has a label twice"),
        (Question("multi_label", labels=("a\nb",)), "cannot use the label"),
        (Question("multi_label", labels=tuple(f"label {n}" for n in range(65))), "at most 64 labels"),
        (Question("detection"), "at least one label"),
        (Question("counting", labels=("a", "b")), "one label that names what is meant, 2 given"),
        (Question("regression", unit="mm"), "one label that names what is meant, 0 given"),
        (Question("regression", labels=("length",)), "a unit in UCUM"),
        (Question("segmentation"), "no task 'segmentation'"),
        (Question("report", language="de"), "does not answer in 'de'"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_the_remedy(question: Question, why: str) -> None:
    with pytest.raises(AdapterError, match=why):
        FLARE.asked(question)


# What is answered ----------------------------------------------------------------------------------------------------


@every_kind
@budget(max_examples=60, deadline=None)
@given(
    text=st.one_of(st.text(max_size=80), st.from_regex(r'(\[|\{"(labels|objects|count|value)":)[\]\[0-9e,."a{}:-]*'))
)
def test_no_answer_whatever_raises(kind: str, text: str) -> None:
    adapter = asked(kind)
    generation = answer(text)
    findings = adapter.parse(generation)
    if isinstance(findings, ParseFailure):
        assert findings.raw_text == text
    else:
        assert 0 <= adapter.confidence(generation, findings).probability <= 1


def test_a_label_of_several_words_does_not_count_for_the_shorter_one_in_it() -> None:
    adapter = asked("classification", labels=("effusion", "pleural effusion"))
    found = adapter.parse(answer("A Pleural Effusion."))
    assert isinstance(found, BaseModel)
    assert found.model_dump()["label"] == "pleural effusion"


def test_a_person_cannot_sign_a_label_that_was_not_asked_for() -> None:
    with pytest.raises(ValidationError, match="none of normal, pneumonia, pleural effusion"):
        asked("classification").findings.model_validate({"label": "fracture"})


def test_confidence_is_that_of_the_label_or_of_every_token_that_decides() -> None:
    scored = answer("pneumonia", normal=0.2, pneumonia=0.7, **{"pleural effusion": 0.1})
    classifier = asked("classification")
    found = classifier.parse(scored)
    assert isinstance(found, BaseModel)
    assert str(classifier.confidence(scored, found)) == "0.70 (uncalibrated label likelihood)"
    counter, counted = asked("counting"), answer('{"count":12}')
    found = counter.parse(counted)
    assert isinstance(found, BaseModel)
    assert counter.confidence(counted, found).probability == pytest.approx(np.exp(-0.02))
    untold = replace(counted, tokens=())
    assert str(counter.confidence(untold, found)) == "0.00 (uncalibrated no likelihood reported by the engine)"


# What is reported ----------------------------------------------------------------------------------------------------


ANSWERS: dict[str, dict[str, Any]] = {
    "classification": {"label": "pneumonia", "probabilities": {"normal": 0.3, "pneumonia": 0.7}},
    "multi_label": {"labels": ["cardiomegaly"]},
    "detection": {"objects": [{"box_2d": [100, 200, 300, 450], "label": "nodule"}]},
    "counting": {"count": 12},
    "regression": {"value": 0.62},
    "report": {"report": "No pleural effusion."},
}


def test_a_likelihood_of_words_is_no_probability_of_what_a_report_says() -> None:
    confidence = Confidence(0.93, False, "length-normalised likelihood of the text")
    report = report_of(asked("report"), ANSWERS["report"], confidence=confidence)
    assert report.headline.endswith(", likelihood of the words 0.93 (uncalibrated)")
    assert [finding.measurements for finding in report.findings] == [()]


@every_kind
def test_a_report_says_the_answer_how_sure_it_is_and_its_limits(kind: str) -> None:
    report = report_of(asked(kind), ANSWERS[kind], incomplete=("only slice 3 of 5 was shown",))
    assert report.headline.endswith(", probability 0.93 (uncalibrated)")
    assert set(FLARE.limitations) <= set(report.statements)
    assert any("only slice 3 of 5" in statement for statement in report.statements)
    assert [n.text for n in report.narratives if n.heading == codes.IMPRESSION]
    for finding in report.findings:
        assert finding.evaluations or len(finding.measurements) > 1
        assert finding.measurements[-1].name == codes.PROBABILITY
        assert finding.sources == (SOURCE,)
    signed = report_of(asked(kind), ANSWERS[kind], reviewer=Person("Reader^Rita", "Phantom Hospital"))
    assert all(m.name != codes.PROBABILITY for finding in signed.findings for m in finding.measurements)
    assert "edited" in signed.headline


def test_a_count_and_a_measurement_are_numbers_with_units() -> None:
    (counted,) = report_of(asked("counting"), {"count": 12}).findings
    assert (counted.measurements[0].value, counted.measurements[0].unit) == (12, codes.NO_UNITS)
    (measured,) = report_of(asked("regression", labels=("nodule",), unit="mm"), {"value": 7.25}).findings
    assert (measured.measurements[0].value, measured.measurements[0].unit.value) == (7.25, "mm")
    assert measured.tracking_id == "regression: nodule"
    (none,) = report_of(asked("counting"), {"count": 0}).findings
    assert none.evaluations[0].value == codes.ABSENT


def test_labels_stay_words_and_those_not_named_are_not_coded_as_absent() -> None:
    report = report_of(asked("multi_label"), ANSWERS["multi_label"])
    assert [finding.tracking_id for finding in report.findings] == ["multi_label: cardiomegaly"]
    assert {finding.finding_type for finding in report.findings} == {codes.NAMED_IN_TEXT}
    assert any(narrative.text == "Not named: pleural effusion" for narrative in report.narratives)
    (none,) = report_of(asked("multi_label"), {"labels": []}).findings
    assert (none.tracking_id, none.evaluations[0].value) == (
        "multi_label: none of cardiomegaly, pleural effusion",
        codes.ABSENT,
    )


def test_a_box_is_mapped_back_to_the_pixels_of_the_source_whatever_its_shape() -> None:
    (finding,) = report_of(asked("detection"), ANSWERS["detection"]).findings
    assert finding.region is not None
    # 1000 rows and 500 columns: rows 100 to 300, columns 100 to 225.
    assert finding.region.outline == ((100, 100), (225, 100), (225, 300), (100, 300))
    assert (finding.region.source, finding.region.label) == (SOURCE, "nodule")


def test_boxes_on_several_pictures_are_told_in_words_only() -> None:
    size = {"rows": 10, "columns": 10}
    several = {"key_sources": (SOURCE, SOURCE), "record": {"pictures": [size, size]}}
    report = report_of(asked("detection"), ANSWERS["detection"], **several)
    assert report.findings[0].region is None
    assert any("does not say on which" in narrative.text for narrative in report.narratives)


# What the model sees -------------------------------------------------------------------------------------------------


def stored(path: Path, **changes: Any) -> InstanceFile:
    return InstanceFile(replace(read_header(path), **changes), path)


@pytest.mark.parametrize(
    "path",
    [
        TEST_FILES / "MR_small.dcm",
        DATA_STORE / "RG1_UNCR.dcm",
        TEST_FILES / "examples_ybr_color.dcm",
        TEST_FILES / "examples_palette.dcm",
    ],
    ids=["MR", "CR", "US multi-frame in colour", "palette"],
)
def test_whatever_comes_is_seen_at_448_and_its_own_size_is_on_record(path: Path) -> None:
    seen = FLARE.render([stored(path)])
    assert [image.shape for image in seen.images] == [(448, 448, 3)]
    header = read_header(path)
    (instance,) = seen.record["instances"]
    assert (instance["rows"], instance["columns"]) == (header.rows, header.columns)
    assert seen.images[0].std() > 5
    if (header.number_of_frames or 1) > 1:
        (frame,) = seen.image_sources[0].frame_numbers
        assert any(f"frame {frame} of" in sentence for sentence in seen.incomplete)
    request = build_request(asked("report"), seen)
    assert [message["role"] for message in request.messages] == ["system", "user"]


def test_a_slide_is_seen_as_a_whole_and_in_patches_of_its_tissue_never_its_label(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)
    seen = FLARE.render(slide)
    assert [image.shape for image in seen.images] == [(448, 448, 3)] * len(seen.images)
    assert "of a slide of 1200 x 900 pixels little was shown" in seen.incomplete[0]
    labels = {one.header.sop_instance_uid for one in slide if {"LABEL", "OVERVIEW"} & set(one.header.image_type)}
    assert len(labels) == 2 and not labels & {source.sop_instance_uid for source in seen.sources}
    # The whole has mostly glass; what it shows of tissue lies where the phantom has it.
    tissue = np.abs(seen.images[0].astype(int) - TISSUE).max(axis=2) < 30
    row, column = (float(places.mean()) for places in np.nonzero(tissue))
    assert (column / 448 * 1200, row / 448 * 900) == pytest.approx(CENTRE, abs=25)
    again = replay(InputRecord.from_json(seen.to_json()), slide)
    assert all(np.array_equal(one, other) for one, other in zip(seen.images, again, strict=True))


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("fault", ["pixels", "size", "matrix"])
def test_a_slide_with_one_broken_level_is_seen_by_the_others(tmp_path: Path, level: int, fault: str) -> None:
    slide = write_slide(tmp_path)
    broken = next(one for one in slide if one.path.name == f"level-{level}.dcm")
    ds = dcmread(broken.path)
    if fault == "pixels":
        ds.PixelData = ds.PixelData[:1000]
    elif fault == "size":
        ds.TotalPixelMatrixColumns = 0
    else:
        del ds.SharedFunctionalGroupsSequence
    ds.save_as(broken.path)
    seen = FLARE.render(slide)
    said = [sentence for sentence in seen.incomplete if sentence.startswith("1 of 5 images was left out")]
    assert broken.header.sop_instance_uid not in {source.sop_instance_uid for source in seen.sources}
    # Only the largest level is small enough here to be decoded: broken pixels of the others do no harm.
    if level == 0 or fault != "pixels":
        assert broken.header.sop_instance_uid in said[0] or broken.path.name in said[0]
    assert [image.shape for image in replay(seen.input_record(), slide)] == [(448, 448, 3)] * len(seen.images)


def test_what_calls_itself_a_slide_and_is_none_is_refused() -> None:
    still = TEST_FILES / "examples_palette.dcm"
    slide = {"sop_class_uid": str(VLWholeSlideMicroscopyImageStorage), "modality": "SM"}
    with pytest.raises(RenderError, match=r"a level of 0 x 0 pixels .* is not possible; check the original"):
        FLARE.render([stored(still, **slide)])


# Endoscopy in motion ------------------------------------------------------------------------------------------------


def endoscopy(folder: Path, frames: NDArray[np.uint8], region: str = "COLON", *, as_video: bool = True) -> InstanceFile:
    """Write a run of an endoscope: one stream, or frames of their own."""
    path = write_video(folder, frames, body_part=region, study_description="Endoscopy")
    ds = dcmread(path)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = VideoEndoscopicImageStorage
    ds.Modality = "ES"
    if not as_video:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.PhotometricInterpretation = "RGB"
        ds.PixelData = frames.tobytes()
        ds["PixelData"].is_undefined_length = False
    ds.save_as(path, enforce_file_format=True)
    return InstanceFile(read_header(path), path)


def views(*lengths: int) -> NDArray[np.uint8]:
    """Return scenes of so many frames, each of one colour with a pattern of its own."""
    rng = np.random.default_rng(3)
    shown = [np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in lengths]
    return np.concatenate([np.repeat(view[None], length, axis=0) for view, length in zip(shown, lengths, strict=True)])


def test_a_video_of_an_endoscope_is_taken_held_and_left_to_the_surgeons_where_it_is_of_the_eye(tmp_path: Path) -> None:
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    decision = route(SeriesSummary((endoscopy(tmp_path, frames).header,)), [], adapters())
    assert decision.adapters == ("flare",)
    (assignment,) = decision.assignments
    (doubt,) = assignment.doubts
    assert doubt.startswith("at the edge of the intended use: of endoscopy the adapter's author names images")
    why = {step.rule: "; ".join(step.reasons) for step in decision.trace}
    assert "body region" in why["adapter: cataract_surgery"]
    assert "SOP class and modality ES accepted" in why["adapter: flare"]
    of_the_eye = route(SeriesSummary((endoscopy(tmp_path, frames, "EYE").header,)), [], adapters())
    assert of_the_eye.adapters == ("cataract_surgery",)


def test_even_a_sure_answer_about_a_video_of_an_endoscope_is_held(tmp_path: Path) -> None:
    (assignment,) = route(
        SeriesSummary((endoscopy(tmp_path, np.zeros((8, 64, 96, 3), np.uint8)).header,)), [], adapters()
    ).assignments
    trusting = replace(FLARE, policy=replace(FLARE.policy, release_at={"report": 0.1}))
    generation = answer("A polyp.")
    findings = trusting.parse(generation)
    assert decide(trusting, findings, generation).outcome == Outcome.RELEASE
    decision = decide(trusting, findings, generation, doubts=assignment.doubts)
    assert decision.outcome == Outcome.REVIEW
    assert "at the edge of the intended use" in decision.reason


def test_of_a_video_of_an_endoscope_a_frame_of_each_scene_is_seen_with_its_time(tmp_path: Path) -> None:
    file = endoscopy(tmp_path, views(75, 75, 25, 125))
    seen = FLARE.render([file])
    shown = [source.frame_numbers[0] for source in seen.image_sources]
    # Four parts of 75 frames; most of the third shows the view of the fourth already.
    assert [image.shape for image in seen.images] == [(448, 448, 3)] * 4
    assert shown[0] <= 75 < shown[1] <= 150 and 175 < shown[2] <= 225 < shown[3]
    assert seen.record["times_s"] == [round((number - 1) / 25, 3) for number in shown]
    named = ", ".join(f"{number} ({(number - 1) / 25:.1f} s)" for number in shown)
    assert seen.incomplete == (f"only frames {named} of 300 were shown",)
    assert seen.sources[0].frame_numbers == tuple(shown)
    again = replay(InputRecord.from_json(seen.to_json()), [file])
    assert all(np.array_equal(one, other) for one, other in zip(seen.images, again, strict=True))


def test_of_an_endoscopy_in_frames_of_their_own_the_sharpest_of_each_part_is_seen(tmp_path: Path) -> None:
    frames = np.full((12, 64, 96, 3), 120, np.uint8)
    for number in (1, 5, 6, 11):
        frames[number, :, ::8] = 200
    seen = FLARE.render([endoscopy(tmp_path, frames, as_video=False)])
    assert [source.frame_numbers for source in seen.image_sources] == [(2,), (6,), (7,), (12,)]
    assert seen.record["times_s"] == [0.04, 0.2, 0.24, 0.44]
    assert "of each of 4 equal parts, the sharpest frame" in seen.record["chosen_by"]


def test_several_videos_of_a_series_share_the_places(tmp_path: Path) -> None:
    series = [endoscopy(tmp_path, views(20, 20)), endoscopy(tmp_path, views(20, 20))]
    seen = FLARE.render(series)
    assert len(seen.images) == 4
    assert [len(source.frame_numbers) for source in seen.sources] == [2, 2]


def test_what_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    ds = dcmread(DATA_STORE / "RG1_UNCR.dcm")
    ds.PixelData = ds.PixelData[:100]
    ds.save_as(tmp_path / "short.dcm")
    with pytest.raises(RenderError, match="truncated"):
        FLARE.render([stored(tmp_path / "short.dcm")])
