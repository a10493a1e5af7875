"""Captions: the right picture of a series, the question in the language asked for, a report that says what it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from dicom_node import codes
from dicom_node.display import Window
from dicom_node.headers import InstanceFile, read_header
from dicom_node.report import Algorithm, Report, SourceFrames
from dicom_node.sr import SrError, build_sr
from models.adapter import AdapterError, ReportContext, with_prompt
from models.adapters.clinical_caption.adapter import ADAPTER as CAPTION
from models.confidence import Confidence
from models.drawing import drawn_input
from models.engines import WeightsReference
from models.generation import Generation
from models.parsing import ParseFailure
from models.question import Question
from models.rendering import ModelInput, RenderError
from models.series_pictures import series_pictures
from models.weights import WeightsError, find_weights
from tests.instance_files import stored
from tests.sample_reports import DATA_STORE, TEST_FILES
from worker.demo.phantom_studies import write_mr_series

CR = DATA_STORE / "RG1_UNCR.dcm"
GOOD = "The chest X-ray shows no focal consolidation, pleural effusion, or pneumothorax."


def said(text: str, finish_reason: str = "stop") -> Generation:
    return Generation(text, (), None, finish_reason, 320, 0.5)


def changed(path: Path, to: Path, change: Callable[[Dataset], object]) -> Path:
    ds = dcmread(path)
    change(ds)
    ds.save_as(to)
    return to


# The picture ---------------------------------------------------------------------------------------------------------


def drawn(instances: list[InstanceFile]) -> ModelInput:
    shown = series_pictures(instances)
    return drawn_input(shown.pictures, shown.instances, record=shown.record, incomplete=shown.incomplete)


def test_a_volume_shows_its_middle_slice_by_position_and_says_so(tmp_path: Path) -> None:
    paths = write_mr_series(tmp_path, slices=5)
    for number, path in zip((1, 4, 2, 5, 3), paths, strict=True):  # InstanceNumbers that tell nothing of the order
        ds = dcmread(path)
        ds.InstanceNumber = number
        ds.save_as(path)
    seen = CAPTION.render(stored(*reversed(paths)))
    assert [source.sop_instance_uid for source in seen.image_sources] == [paths[2].stem]
    assert seen.incomplete == ("only slice 3 of 5, the middle one, was shown",)
    assert seen.record["chosen_by"] == "middle slice by position"


def test_a_single_slice_leaves_nothing_to_say(tmp_path: Path) -> None:
    assert CAPTION.render(stored(*write_mr_series(tmp_path, slices=1))).incomplete == ()


def test_one_x_ray_is_shown_and_four_where_an_adapter_takes_them(tmp_path: Path) -> None:
    def renumbered(number: int) -> Path:
        def renumber(ds: Dataset) -> None:
            ds.InstanceNumber, ds.SOPInstanceUID = number, generate_uid()
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID

        return changed(TEST_FILES / "examples_palette.dcm", tmp_path / f"{number}.dcm", renumber)

    series = stored(*(renumbered(number) for number in range(9, 0, -1)))
    one, four = CAPTION.render(series), drawn(series)
    by_number = sorted(series, key=lambda instance: instance.header.instance_number or 0)
    assert one.image_sources[0].sop_instance_uid == by_number[0].header.sop_instance_uid
    assert one.incomplete == ("only 1 of 9 images of the series was shown",)
    assert [source.sop_instance_uid for source in four.sources] == [
        by_number[index].header.sop_instance_uid for index in (0, 2, 4, 6)
    ]
    assert four.incomplete == ("only 4 of 9 images of the series were shown",)
    assert four.key_images == (0, 1, 2, 3)


def test_monochrome1_is_shown_as_a_viewer_does() -> None:
    seen = CAPTION.render(stored(CR))
    ds = dcmread(CR)
    assert (ds.PhotometricInterpretation, seen.images[0].shape) == ("MONOCHROME1", (*ds.pixel_array.shape, 3))
    lowest, highest = (np.unravel_index(find(ds.pixel_array), ds.pixel_array.shape) for find in (np.argmin, np.argmax))
    assert int(seen.images[0][lowest].mean()) > int(seen.images[0][highest].mean())
    (plane,) = seen.recipe[0].planes
    assert isinstance(plane.shading, Window) and plane.shading.source == "header"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_voi_lut_is_used_where_there_is_no_window(tmp_path: Path, photometric: str) -> None:
    def with_lut(ds: Dataset) -> None:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
        ds.Modality, ds.PhotometricInterpretation, ds.PixelRepresentation = "DX", photometric, 0
        ds.BitsStored, ds.HighBit = 12, 11
        pixels = np.zeros((ds.Rows, ds.Columns), dtype=np.uint16)
        pixels[0, :3] = 0, 1, 2
        ds.PixelData = pixels.tobytes()
        lut = Dataset()
        lut.add_new("LUTDescriptor", "US", [3, 0, 12])
        lut.add_new("LUTData", "US", [0, 4095, 819])
        ds.VOILUTSequence = [lut]

    (path,) = write_mr_series(tmp_path, slices=1)
    (image,) = CAPTION.render(stored(changed(path, path, with_lut))).images
    expected = [0, 255, 51] if photometric == "MONOCHROME2" else [255, 0, 204]
    assert image[0, :3, 0].tolist() == expected


def test_colour_and_frames_of_a_clip_are_kept_and_said() -> None:
    shown = drawn(stored(TEST_FILES / "examples_ybr_color.dcm"))
    assert shown.images[0].shape == (240, 320, 3)
    (frame,) = shown.sources[0].frame_numbers
    assert shown.incomplete == (f"only frame {frame} of 30 of a multi-frame image was shown",)
    palette = drawn(stored(TEST_FILES / "examples_palette.dcm")).images[0]
    assert (str(palette.dtype), palette.shape) == ("uint8", (350, 800, 3))
    assert (palette[..., 0] != palette[..., 2]).any(), "colours of the palette, not shades of its indices"


def test_what_cannot_be_shown_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="no instance"):
        CAPTION.render([])
    (path,) = write_mr_series(tmp_path, slices=1)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RenderError, match=f"{path.stem}: its pixel data are truncated"):
        CAPTION.render(stored(path))


# The question --------------------------------------------------------------------------------------------------------


def test_the_language_is_asked_for_and_english_needs_no_words() -> None:
    plain = CAPTION.asked(Question("caption")).prompt.user
    assert plain == CAPTION.prompt.user
    assert "English" not in plain
    for language, name in {"de": "German", "fr": "French", "es": "Spanish"}.items():
        asked = CAPTION.asked(Question("caption", language=language))
        assert asked.prompt.user == f"{plain} Write it in {name}."
    with pytest.raises(AdapterError, match="does not answer in 'pt'; it does in de, en, es, fr"):
        CAPTION.asked(Question("caption", language="pt"))


def test_a_sites_own_words_are_still_asked_in_its_language() -> None:
    own = with_prompt(CAPTION, "What does the image show?")
    assert own.asked(Question("caption")).prompt.user == "What does the image show?"
    german = own.asked(Question("caption", language="de"))
    assert german.prompt.user == "What does the image show? Write it in German."


def test_every_series_is_asked_for_a_caption_and_ct_only_by_a_site_rule() -> None:
    header = read_header(CR)
    assert CAPTION.questions(header) == (Question("caption"),)
    assert CAPTION.acceptance.obstacle(header) is None
    assert "CT" in CAPTION.acceptance.modalities
    assert CAPTION.unasked_modalities == frozenset({"CR", "DX", "MG", "MR"})


def test_missing_weights_tell_to_name_a_folder_and_not_to_download() -> None:
    lora = CAPTION.lora
    with pytest.raises(WeightsError) as refusal:
        find_weights(WeightsReference(lora.hub_id, published=lora.published), adapter=True)
    assert "engine.adapters" in str(refusal.value)
    assert "hf download" not in str(refusal.value)
    assert "huggingface.co" not in str(refusal.value)


# The answer ----------------------------------------------------------------------------------------------------------

IN_LANGUAGES = {
    "de": "Die Röntgenaufnahme des Thorax zeigt keinen Pleuraerguss und keine Verdichtung. Das Herz ist normal groß.",
    "fr": "La radiographie du thorax ne montre pas d'épanchement pleural et le cœur est de taille normale.",
    "es": "La radiografía de tórax no muestra derrame pleural y el corazón es de tamaño normal.",
    "en": GOOD + " The heart is normal in size.",
}


@pytest.mark.parametrize("asked", IN_LANGUAGES)
@pytest.mark.parametrize("answered", IN_LANGUAGES)
def test_a_caption_in_another_language_than_asked_for_goes_to_a_person(asked: str, answered: str) -> None:
    found = CAPTION.asked(Question("caption", language=asked)).parse(said(IN_LANGUAGES[answered]))
    if asked == answered:
        assert found == CAPTION.findings(caption=IN_LANGUAGES[answered], language=asked)
    else:
        assert isinstance(found, ParseFailure)
        assert "was asked for" in found.reason


@pytest.mark.parametrize(
    "kept",
    [
        "Sure signs of a pneumothorax are absent.",
        "Here is a chest radiograph: no effusion, no consolidation.",
        "Caption-sized nodule in the left upper lobe.",
        '"Ground glass" opacities in both lungs, no "tree in bud"',
        "Lungs clear * no effusion * no pneumothorax",
        "No focal consolidation\nor pleural effusion is seen.",
    ],
)
def test_what_may_be_part_of_the_caption_stays(kept: str) -> None:
    found = CAPTION.parse(said(kept))
    assert not isinstance(found, ParseFailure), found
    assert found.model_dump()["caption"] == " ".join(kept.split())


# The report ----------------------------------------------------------------------------------------------------------


def reported(language: str = "en", **changes: Any) -> Report:
    header = read_header(CR)
    source = SourceFrames(header.sop_class_uid, header.sop_instance_uid, header.series_instance_uid)
    context: dict[str, Any] = {
        "sources": (source,),
        "key_sources": (source,),
        "incomplete": (),
        "algorithm": Algorithm("clinical_caption", "1", "local", "2.25.9"),
        "confidence": Confidence(0.614, False, "likelihood"),
        "answered_at": datetime(2026, 3, 1, tzinfo=UTC),
    }
    caption = CAPTION.findings(caption=IN_LANGUAGES[language], language=language)
    return CAPTION.report(caption, ReportContext(**{**context, **changes}))


def languages_in(report: Report) -> dict[str, list[str]]:
    """Heading of each text, or the document -> the languages it names."""
    root = build_sr(report, [CR], sop_instance_uid="2.25.1", series_instance_uid="2.25.2", series_number=1)
    found: dict[str, list[str]] = {}

    def walk(node: Dataset) -> None:
        for child in node.get("ContentSequence", []):
            if child.ConceptNameCodeSequence[0].CodeValue == "121049":
                code = child.ConceptCodeSequence[0]
                found.setdefault(node.ConceptNameCodeSequence[0].CodeMeaning, []).append(
                    f"{code.CodeValue} {code.CodingSchemeDesignator} {code.CodeMeaning}"
                )
            walk(child)

    walk(root)
    return found


def test_the_document_is_english_and_a_german_caption_says_that_it_is_german() -> None:
    document = {"Imaging Measurement Report": ["en-US RFC5646 English (United States)"]}
    assert languages_in(reported()) == document
    assert languages_in(reported("de")) == {**document, "Impression": ["de RFC5646 German"]}


def test_a_text_in_a_language_without_a_code_is_refused() -> None:
    report = reported("de")
    object.__setattr__(report.narratives[0], "language", "xx")
    with pytest.raises(SrError, match="'xx'"):
        languages_in(report)


def test_a_likelihood_of_words_is_no_coded_probability_until_it_is_calibrated() -> None:
    plain, calibrated = reported(), reported(confidence=Confidence(0.8, True, "calibrated"))
    assert plain.headline.startswith("Caption, likelihood of the words 0.61 (uncalibrated): ")
    assert [finding.measurements for finding in plain.findings] == [()]
    (measurement,) = calibrated.findings[0].measurements
    assert (measurement.name, measurement.value) == (codes.PROBABILITY, 0.8)
    assert "probability 0.80 (calibrated)" in calibrated.headline
    assert plain.narratives[0].text == IN_LANGUAGES["en"]
