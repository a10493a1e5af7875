"""The viewer over HTTP: lists in order, frames of every kind, marks of a job, and why something cannot be shown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.data import get_testdata_file

from dicom_node.display import Window, colours, modality_values
from dicom_node.headers import InstanceFile
from dicom_node.picture_areas import Box
from dicom_node.pixels import read_frame, read_image
from models.drawing import draw
from models.question import Question
from models.recipe import FrameOf, Percentiles, Picture, Plane
from tests.audit_schema import messages, told
from tests.phantoms.ct import write_ct
from tests.phantoms.enhanced import write_enhanced_ct
from tests.phantoms.images import write_image
from tests.phantoms.pictures import ultrasound_frames, write_palette_picture, write_ultrasound_cine
from tests.phantoms.volume import axial_planes
from tests.viewed_store import STUDY_UID, ViewedStore
from tests.web_server import web_settings
from worker.db.records import Instance
from worker.db.sessions import Database
from worker.demo.phantom_video import write_video
from worker.web.app import create_app
from worker.web.viewer.store import FrameStore

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "worker/web/static/viewer"
SOFT = Window(40, 400, "LINEAR", "test")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of the pages, with a store to put files into; one for all tests, for its sandbox takes long to start."""
    settings = web_settings(tmp_path_factory.mktemp("viewer"))
    database = Database(settings.resolved_database_url)
    with TestClient(create_app(settings), base_url="http://localhost:8080") as client:
        client.app.state.viewed = ViewedStore(database)  # type: ignore[attr-defined]
        yield client
    database.close()


def viewed(browser: TestClient) -> ViewedStore:
    store: ViewedStore = browser.app.state.viewed  # type: ignore[attr-defined]
    return store


def listed(browser: TestClient, address: str) -> dict[str, Any]:
    answer = browser.get(f"{address}/frames")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def frame(browser: TestClient, listing: dict[str, Any], index: int) -> httpx.Response:
    instance, number, *_ = listing["frames"][index]
    return browser.get(listing["frame_url"].format(instance=instance, number=number))


def files_of_every_kind(folder: Path) -> dict[str, Path]:
    palette = np.stack([np.arange(256) * 257] * 3, axis=1).astype(np.uint16)
    samples = {
        "JPEG 2000": "JPEG2000.dcm",
        "RLE": "MR_small_RLE.dcm",
        "JPEG-LS": "MR_small_jpeg_ls_lossless.dcm",
        "JPEG lossy": "JPGExtended.dcm",
        "YBR": "examples_ybr_color.dcm",
        "XA run": "examples_jpeg2k.dcm",
    }
    drawn = {
        "ultrasound": write_ultrasound_cine(folder / "us", ultrasound_frames(3)),
        "palette": write_palette_picture(folder / "palette", np.arange(64, dtype=np.uint8).reshape(8, 8), palette),
    }
    return {kind: Path(str(get_testdata_file(name, download=False))) for kind, name in samples.items()} | drawn


def test_every_syntax_gives_the_projects_own_values(browser: TestClient, tmp_path: Path) -> None:
    for kind, path in files_of_every_kind(tmp_path).items():
        listing = listed(browser, f"/viewer/series/{viewed(browser).series([path])}")
        image = read_image(path)
        assert len(listing["frames"]) == image.frames, kind
        last = image.frames - 1
        answer = frame(browser, listing, last)
        assert answer.status_code == 200, (kind, answer.text)
        about = json.loads(answer.headers["frame-values"])
        stored = read_frame(image, last)
        if about["kind"] == "rgb":
            assert answer.content == colours(image, stored).tobytes(), kind
        else:
            values = np.frombuffer(answer.content, about["kind"]).reshape(stored.shape)
            wanted = modality_values(image, stored, last)
            assert np.array_equal(values * about["slope"] + about["intercept"], wanted), kind


def test_an_enhanced_ct_is_a_stack_in_the_order_of_space(browser: TestClient, tmp_path: Path) -> None:
    planes = axial_planes(4)
    (file,) = write_enhanced_ct(tmp_path, [planes[place] for place in (2, 0, 3, 1)])
    listing = listed(browser, f"/viewer/series/{viewed(browser).series([file.path])}")
    assert [number for _, number, *_ in listing["frames"]] == [2, 4, 1, 3]
    assert listing["in_stack"] == 4
    assert listing["edges"] == [["R", "A", "L", "P"]]
    answer = frame(browser, listing, 0)
    about = json.loads(answer.headers["frame-values"])
    values = np.frombuffer(answer.content, about["kind"]) * about["slope"] + about["intercept"]
    assert np.array_equal(values.reshape(64, 64), planes[0].hounsfield())


def test_a_video_is_played_at_its_own_rate(browser: TestClient, tmp_path: Path) -> None:
    red = np.arange(30, dtype=np.uint8)[:, None, None, None] * 8
    path = write_video(tmp_path, np.broadcast_to(red, (30, 64, 64, 3)).copy(), fps=30)
    listing = listed(browser, f"/viewer/series/{viewed(browser).series([path])}")
    assert (len(listing["frames"]), listing["rate"]) == (30, 30)
    answer = frame(browser, listing, 10)
    assert answer.content[0] == pytest.approx(80, abs=3)
    assert json.loads(answer.headers["frame-values"]) == {
        "kind": "rgb",
        "rows": 64,
        "columns": 64,
        "stretch": [1.0, 1.0],
        "spacing_mm": None,
        "edges": None,
        "view": "left",
    }


def test_a_jobs_list_marks_what_its_model_saw(browser: TestClient, tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(6))
    series = viewed(browser).series([file.path for file in files])
    uids = [file.header.sop_instance_uid for file in files]
    recipe = [
        Picture(planes=(Plane(FrameOf(uids[1]), SOFT),)),
        Picture(planes=tuple(Plane(FrameOf(uid), Percentiles()) for uid in uids[3:6]), only=Box(4, 8, 40, 60)),
    ]
    job = viewed(browser).job(series, recipe, key_images=[1])
    listing = listed(browser, f"/viewer/jobs/{job}")
    assert listing["inputs"] == [
        {"input": 1, "at": [1], "shown": 1, "is_key": False, "area": None},
        {"input": 2, "at": [3, 4, 5], "shown": 4, "is_key": True, "area": [8, 4, 60, 40]},
    ]
    assert listing["first"] == 4
    answers = [browser.get(listing["input_url"].format(input=number)) for number in (1, 2)]
    assert {answer.headers["content-type"] for answer in answers} == {"image/png"}
    seen = [np.asarray(Image.open(BytesIO(answer.content))) for answer in answers]
    assert len({image.tobytes() for image in seen}) == 2
    for image, made in zip(seen, draw(recipe, files).images, strict=True):
        assert np.array_equal(image, made)


def test_boxes_of_an_answer_lie_on_the_frame_that_was_shown(browser: TestClient, tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(3))
    series = viewed(browser).series([file.path for file in files])
    recipe = [Picture(planes=(Plane(FrameOf(files[2].header.sop_instance_uid), SOFT),))]
    question = Question("detection", labels=("nodule",))
    job = viewed(browser).job(
        series,
        recipe,
        adapter="flare",
        question=question.to_json(),
        findings={"objects": [{"box_2d": [250, 500, 750, 1000], "label": "nodule"}]},
    )
    (box,) = listed(browser, f"/viewer/jobs/{job}")["boxes"]
    assert box == {"at": 2, "outline": [[32, 16], [64, 16], [64, 48], [32, 48]], "label": "nodule"}


def test_a_run_is_shown_alone_where_it_is_the_unit(browser: TestClient, tmp_path: Path) -> None:
    paths = [
        write_image(
            tmp_path / f"{number}.dcm",
            np.full((3, 8, 8), number, np.uint8),
            Modality="XA",
            InstanceNumber=number,
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.4",
        )
        for number in (2, 1)
    ]
    series = viewed(browser).series(paths)
    numbers = [frame(browser, listed(browser, f"/viewer/series/{series}"), place).content[0] for place in (0, 3)]
    assert numbers == [1, 2]
    with viewed(browser).database.reading() as session:
        uid = session.query(Instance).filter_by(series_id=series).order_by(Instance.id).all()[0].sop_instance_uid
    job = viewed(browser).job(series, [Picture(planes=(Plane(FrameOf(uid, 2), Percentiles()),))], unit_uid=uid)
    listing = listed(browser, f"/viewer/jobs/{job}")
    assert (len(listing["frames"]), listing["inputs"][0]["at"]) == (3, [1])


def test_what_cannot_be_shown_is_said(browser: TestClient, tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(3))
    series = viewed(browser).series([file.path for file in files])
    files[0].path.write_bytes(files[0].path.read_bytes()[:-500])
    files[1].path.unlink()
    listing = listed(browser, f"/viewer/series/{series}")
    broken = frame(browser, listing, 0)
    assert broken.status_code == 422
    assert re.search("truncated.*send the instance again", broken.json()["detail"])
    gone = frame(browser, listing, 1)
    assert (gone.status_code, "send the image again" in gone.json()["detail"]) == (404, True)
    assert frame(browser, listing, 2).status_code == 200
    address = listing["frame_url"]
    assert browser.get(address.format(instance=999, number=1)).status_code == 404
    # An address that names another series than the image's would be put down to the wrong patient.
    other = address.replace(f"/series/{series}/", f"/series/{series + 1}/")
    assert browser.get(other.format(instance=listing["frames"][2][0], number=1)).status_code == 404
    beyond = browser.get(address.format(instance=listing["frames"][2][0], number=2))
    assert (beyond.status_code, "only 1" in beyond.json()["detail"]) == (422, True)
    for nothing in ("/viewer/series/999", "/viewer/jobs/none"):
        assert browser.get(nothing).status_code == browser.get(f"{nothing}/frames").status_code == 404


def test_every_look_at_images_is_told(browser: TestClient, tmp_path: Path) -> None:
    store, folder = viewed(browser), browser.app.state.audit.folder  # type: ignore[attr-defined]
    for number, address in enumerate(
        (
            *("/viewer/series/{series}", "/viewer/series/{series}/frames"),
            *(
                "/viewer/series/{series}/instances/{instance}/frames/1",
                "/viewer/jobs/{job}",
                "/viewer/jobs/{job}/frames",
            ),
            *("/viewer/jobs/{job}/inputs/1.png", "/jobs/{job}/inputs/1.png"),
        )
    ):
        (file,) = write_ct(tmp_path, axial_planes(1), series=f"1{number}")
        series = store.series([file.path])
        job = store.job(series, [Picture(planes=(Plane(FrameOf(file.header.sop_instance_uid), SOFT),))])
        with store.database.reading() as session:
            instance = session.query(Instance.id).filter_by(series_id=series).scalar()
        before = len(messages(folder))
        answer = browser.get(address.format(series=series, instance=instance, job=job))
        assert answer.status_code == 200, (address, answer.text)
        (message,) = messages(folder)[before:]
        assert told(message) == f"DICOM Instances Accessed by anybody about {STUDY_UID},SECRET-1", address


def test_the_page_names_no_patient_and_nothing_stays_in_the_browser(browser: TestClient, tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(3))
    series = viewed(browser).series([file.path for file in files])
    page = browser.get(f"/viewer/series/{series}")
    assert f'data-viewer="/viewer/series/{series}/frames"' in page.text
    listing = browser.get(f"/viewer/series/{series}/frames")
    for text in (page.text, listing.text):
        assert not re.search(r"Secret|Phantom\^Rod|\b1\.2\.826|\bROD\b", text)
    assert {answer.headers["cache-control"] for answer in (page, listing, frame(browser, listing.json(), 0))} == {
        "no-store"
    }


def test_the_cache_is_bounded_by_bytes(tmp_path: Path) -> None:
    settings = web_settings(tmp_path)
    store = FrameStore(settings.rendering, cache_bytes=2 * 64 * 64 * 2)
    files: list[InstanceFile] = write_ct(tmp_path, axial_planes(3))
    frames = [store.frame(file, 0) for file in files]
    assert store.frame(files[2], 0) is frames[2]
    assert store.frame(files[0], 0) is not frames[0]
    store.close()


def test_the_bundle_is_the_one_of_its_sources() -> None:
    manifest = json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))
    sources = ROOT / "browser/viewer"
    there = ["package.json", "package-lock.json", "build.mjs"]
    there += [f"src/{path.name}" for path in sorted((sources / "src").iterdir())]
    digests = {name: hashlib.sha256((sources / name).read_bytes()).hexdigest() for name in there}
    made = {name: hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest() for name in manifest["made"]}
    assert (manifest["sources"], manifest["made"]) == (digests, made), "run: make viewer"
    assert '"resolved"' not in (sources / "package-lock.json").read_text(encoding="utf-8")
    notices = (BUNDLE / "LICENSES.txt").read_text(encoding="utf-8")
    assert all(package["name"] in notices for package in manifest["packages"])
    assert not re.search(r"new Function\(|[^\w.]eval\(", (BUNDLE / "viewer.js").read_text(encoding="utf-8"))
