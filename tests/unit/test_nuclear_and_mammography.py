"""Mammography as X-ray, PET and scintigraphy at the edge of the intended use: who takes them, and what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.headers import InstanceFile
from models.adapter import adapters
from models.drawing import replay
from models.series_pictures import series_pictures
from tests.dicom_validators import dciodvfy
from tests.phantoms.ct import write_ct
from tests.phantoms.mammography import write_mammogram
from tests.phantoms.nuclear import SIZE, write_pet, write_scintigram
from tests.phantoms.volume import axial_planes
from worker.routing import RouteDecision, SeriesSummary, route

FLARE, CAPTION = adapters()["flare"], adapters()["clinical_caption"]


def decide(files: Sequence[InstanceFile]) -> RouteDecision:
    return route(SeriesSummary(tuple(one.header for one in files)), [], adapters())


def spot(activity: float) -> NDArray[np.float32]:
    """Return a slice of 100 Bq/ml with a quarter of it at `activity`."""
    values = np.full((SIZE, SIZE), 100, dtype=np.float32)
    values[: SIZE // 2, : SIZE // 2] = activity
    return values


def counts(*frames: int, rows: int = SIZE) -> NDArray[np.uint16]:
    return np.stack([np.full((rows, SIZE), count, dtype=np.uint16) for count in frames])


@pytest.fixture
def pet(tmp_path: Path) -> list[InstanceFile]:
    return write_pet(tmp_path, [spot(100), spot(5_000), spot(20_000)])


def test_the_phantoms_are_valid(tmp_path: Path, pet: list[InstanceFile]) -> None:
    files = [
        pet[0],
        write_scintigram(tmp_path, counts(5, 6, rows=64), "WHOLE BODY"),
        write_scintigram(tmp_path, counts(5, 6), "DYNAMIC"),
        write_scintigram(tmp_path, counts(5, 6), "STATIC"),
        write_mammogram(tmp_path, "L", "CC"),
        write_mammogram(tmp_path, "R", "MLO", 2, for_processing=True),
    ]
    assert [dciodvfy(one.path).errors for one in files] == [()] * len(files)


# Mammography ---------------------------------------------------------------------------------------------------------


def test_a_mammogram_is_taken_as_the_x_ray_it_is(tmp_path: Path) -> None:
    views = [("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO")]
    files = [write_mammogram(tmp_path, side, view, n, PatientAge="052Y") for n, (side, view) in enumerate(views, 1)]
    decision = decide(files)
    assert (decision.adapters, decision.doubts) == (("clinical_caption", "flare"), ())
    seen = FLARE.render(files)
    assert len(seen.images) == 4 and seen.incomplete == ()
    assert seen.record["views"] == ["R CC", "L CC", "R MLO", "L MLO"]
    # The right breast lies at the right edge: it is not turned over.
    right, left = (image.astype(int) for image in seen.images[:2])
    assert right[:, -100:].mean() > 2 * right[:, :100].mean() and left[:, :100].mean() > 2 * left[:, -100:].mean()
    one = CAPTION.render(files)
    assert one.record["views"] == ["R CC"] and "only 1 of 4 images" in one.incomplete[0]


def test_raw_detector_values_are_set_aside_with_the_remedy_and_doubted_where_a_site_insists(tmp_path: Path) -> None:
    raw = write_mammogram(tmp_path, "L", "CC", for_processing=True)
    decision = decide([raw])
    assert decision.adapters == ()
    assert "For Processing is not accepted (raw detector values; let the modality send" in decision.reason
    assert "1 of the images shown are raw detector values" in FLARE.render([raw]).incomplete[0]


# PET -----------------------------------------------------------------------------------------------------------------


def test_pet_is_taken_at_the_edge_of_the_intended_use_and_held(pet: list[InstanceFile]) -> None:
    decision = decide(pet)
    assert decision.adapters == ("flare",)
    assert any(doubt.startswith("at the edge of the intended use: PET is not among") for doubt in decision.doubts)


def test_the_middle_pet_slice_is_seen_on_the_scale_of_the_whole_acquisition(pet: list[InstanceFile]) -> None:
    seen = FLARE.render(pet)
    assert "only slice 2 of 3" in seen.incomplete[0]
    # 5,000 of the 20,000 Bq/ml in the next slice, though each slice's stored values reach as high as the others'.
    assert int(seen.images[0][40, 40, 0]) == pytest.approx(255 * 5_000 / 20_000, abs=2)
    assert int(seen.images[0][400, 400, 0]) == pytest.approx(255 * 100 / 20_000, abs=2)
    assert seen.record["units"] == "BQML"
    assert [image.tobytes() for image in replay(seen.input_record(), pet)] == [seen.images[0].tobytes()]


def test_pet_without_attenuation_correction_is_doubted(tmp_path: Path) -> None:
    files = write_pet(tmp_path, [spot(300), spot(300)], CorrectedImage=["DECY", "RADL"])
    assert any("not corrected for attenuation" in sentence for sentence in FLARE.render(files).incomplete)


# Scintigraphy --------------------------------------------------------------------------------------------------------


def test_a_whole_body_scintigram_is_seen_from_before_and_behind(tmp_path: Path) -> None:
    scan = write_scintigram(tmp_path, counts(400, 100, rows=64), "WHOLE BODY")
    assert decide([scan]).adapters == ("flare",)
    assert any("scintigraphy is not among" in doubt for doubt in decide([scan]).doubts)
    seen = FLARE.render([scan])
    assert [source.frame_numbers for source in seen.image_sources] == [(1,), (2,)]
    assert seen.incomplete == ()
    assert [int(image[9, 9, 0]) for image in seen.images] == [255, pytest.approx(64, abs=1)]


def test_a_dynamic_scintigram_is_seen_over_its_time_on_one_scale(tmp_path: Path) -> None:
    scan = write_scintigram(tmp_path, counts(*range(0, 240, 20)), "DYNAMIC")
    seen = FLARE.render([scan])
    assert [source.frame_numbers for source in seen.image_sources] == [(2,), (5,), (8,), (11,)]
    assert seen.incomplete == ("only 4 of 12 frames of a dynamic scintigram were shown",)
    shades = [int(image[9, 9, 0]) for image in seen.images]
    assert shades == [pytest.approx(255 * activity / 220, abs=1) for activity in (20, 80, 140, 200)]


def test_views_of_a_static_scintigram_have_a_scale_each(tmp_path: Path) -> None:
    frames = np.stack([spot(50), spot(5_000)]).astype(np.uint16)
    seen = FLARE.render([write_scintigram(tmp_path, frames, "STATIC")])
    assert [int(image.max()) for image in seen.images] == [255, 255]


def test_a_reconstructed_scintigram_is_a_stack_of_slices(tmp_path: Path) -> None:
    volume = write_scintigram(tmp_path, counts(10, 20, 30, 40, 50), "RECON TOMO")
    shown = series_pictures([volume])
    assert [picture.shown.frame for picture in shown.pictures] == [3]
    assert "only slice 3 of 5" in shown.incomplete[0]


def test_a_scintigram_without_any_count_is_still_a_picture(tmp_path: Path) -> None:
    assert not FLARE.render([write_scintigram(tmp_path, counts(0, 0), "DYNAMIC")]).images[0].any()


# The CT of a PET/CT --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("described", ["CT WB CTAC", "AC CT 3.0 HD_FoV", "WB CT_AC 5.0", "CT Attenuation Corr."])
def test_the_ct_that_corrects_for_attenuation_is_taken_by_nobody(tmp_path: Path, described: str) -> None:
    decision = decide(write_ct(tmp_path, axial_planes(12), SeriesDescription=described))
    assert decision.adapters == ()
    assert f"attenuation correction of a PET or SPECT (series description {described!r})" in decision.reason


def test_another_ct_of_a_pet_study_is_held(tmp_path: Path) -> None:
    study = "PET^PETCT_WholeBody (Adult)"
    decision = decide(write_ct(tmp_path, axial_planes(12), StudyDescription=study, SeriesDescription="CT WB 5.0 B30f"))
    assert decision.adapters == ("abdominal_trauma",)
    assert any("belongs to a PET or SPECT study (study description" in doubt for doubt in decision.doubts)


@pytest.mark.parametrize("described", ["Abdomen AC 5.0", "PETERSEN abdomen", "CT ACUTE abdomen", "spectral 70 keV"])
def test_words_that_only_look_alike_say_nothing(tmp_path: Path, described: str) -> None:
    decision = decide(write_ct(tmp_path, axial_planes(12), SeriesDescription=described))
    assert (decision.adapters, decision.doubts) == (("abdominal_trauma",), ())
