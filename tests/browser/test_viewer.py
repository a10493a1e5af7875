"""The image viewer as a person uses it: scroll, window, play, jump to what the model saw, and be told what is wrong."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, expect

from dicom_node.display import Window, header_shading, shade
from dicom_node.pixels import read_frame, read_image
from models.drawing import draw
from models.question import Question
from models.recipe import FrameOf, Picture, Plane
from tests.browser.chromium import faults, keep, opened
from tests.browser.entrance import log_in
from tests.people import PASSWORD, quick_hashes
from tests.phantoms.angiography import Detector, run, write_dsa
from tests.phantoms.ct import write_ct
from tests.phantoms.images import write_image
from tests.phantoms.pictures import ultrasound_frames, write_film_with_voi_luts, write_ultrasound_cine
from tests.phantoms.volume import axial_planes
from tests.services.process import wait_until
from tests.viewed_store import ViewedStore
from tests.web_server import WebServer, web_server, web_settings
from worker.demo.phantom_video import write_video
from worker.people import accounts
from worker.roles import Role

SOFT = Window(40, 400, "LINEAR", "test")
#: Of the 24 slices, what the model saw; the second is the key image.
SEEN = (5, 11, 17)


class Room:
    """The pages with some studies."""

    def __init__(self, server: WebServer, folder: Path) -> None:
        self.url, self.folder = server.url, folder
        self.store = ViewedStore(server.database)
        self.slices = write_ct(folder, axial_planes(24))
        self.ct = self.store.series([file.path for file in self.slices])
        planes = [Plane(FrameOf(self.slices[place].header.sop_instance_uid), SOFT) for place in SEEN]
        recipe = [Picture(planes=(plane,)) for plane in planes]
        self.ct_job = self.store.job(self.ct, recipe, key_images=[1])
        #: What the model saw.
        self.inputs = draw(recipe, self.slices).images

    def series(self, *paths: Path) -> str:
        """Return the address of a new series of these files."""
        return f"{self.url}/viewer/series/{self.store.series(paths)}"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """The pages on a port of this machine."""
    folder = tmp_path_factory.mktemp("room")
    with web_server(web_settings(folder)) as server:
        yield Room(server, folder)


@pytest.fixture
def ct(browser: Browser, room: Room) -> Iterator[Page]:
    """The viewer of the CT job, with its first picture."""
    with opened(browser, f"{room.url}/viewer/jobs/{room.ct_job}") as page:
        at(page, 12, 24)
        yield page


def at(page: Page, number: int, count: int) -> None:
    """Wait until the viewer shows this picture."""
    expect(page.locator(".viewer-number")).to_have_text(re.compile(rf"^{number} / {count}\b"))


def drawn(page: Page, where: str = ".viewer-canvas canvas") -> NDArray[np.uint8]:
    """Return what is on a canvas or in an image, (rows, columns, 3), once everything asked for is drawn."""
    size, pixels = page.evaluate(
        """async (where) => {
            for (let turn = 0; turn < 3; turn += 1) await new Promise(requestAnimationFrame);
            const shown = document.querySelector(where);
            let canvas = shown;
            if (shown.tagName === "IMG") {
                canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [shown.naturalWidth, shown.naturalHeight];
                canvas.getContext("2d").drawImage(shown, 0, 0);
            }
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            let text = "";
            for (let at = 0; at < data.length; at += 8192)
                text += String.fromCharCode(...data.subarray(at, at + 8192));
            return [[canvas.height, canvas.width], btoa(text)];
        }""",
        where,
    )
    picture = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(*size, 4)[..., :3]
    return np.ascontiguousarray(picture)


def drag(page: Page, dx: int, dy: int, button: Any = "left") -> None:
    box = page.locator(".viewer-pane").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up(button=button)


def at_its_own_size(page: Page, rows: int, columns: int) -> None:
    """Make the canvas as large as the picture, so that its pixels can be compared."""
    page.evaluate(
        """([rows, columns]) => {
            const { style } = document.querySelector(".viewer-canvas");
            Object.assign(style, { inset: "0 auto auto 0", width: `${columns}px`, height: `${rows}px` });
        }""",
        [rows, columns],
    )
    until(page, f"document.querySelector('.viewer-canvas canvas').width === {columns}")


def until(page: Page, condition: str) -> None:
    """Wait until a condition holds; Playwright's own way needs eval, which the pages' policy refuses."""
    wait_until(lambda: bool(page.evaluate(condition)), 10, condition)


def test_the_first_picture_is_the_key_image_in_its_files_window(ct: Page, room: Room) -> None:
    keep(ct, "viewer-ct")
    expect(ct.locator(".viewer-window")).to_have_text("W 400 L 50")
    expect(ct.locator(".viewer-place")).to_have_text("-2.5 mm")
    assert ct.locator(".viewer-edge").all_text_contents() == ["R", "A", "L", "P"]
    image = read_image(room.slices[11].path)
    at_its_own_size(ct, image.rows, image.columns)
    wanted = shade(image, read_frame(image), header_shading(image))
    difference = drawn(ct)[..., 0].astype(int) - wanted
    assert np.abs(difference).max() <= 1
    assert "Secret" not in ct.content()


def test_wheel_keys_slider_and_dragging_scroll(ct: Page) -> None:
    first = drawn(ct)
    ct.locator(".viewer-pane").hover()
    ct.mouse.wheel(0, 120)
    at(ct, 13, 24)
    assert (drawn(ct) != first).any()
    for key, number in (("k", 12), ("ArrowDown", 13), ("PageUp", 3), ("End", 24), ("Home", 1), (".", 6), (".", 12)):
        ct.keyboard.press(key)
        at(ct, number, 24)
    assert np.array_equal(drawn(ct), first)
    ct.get_by_role("button", name="Scroll").click()
    drag(ct, 0, 40)
    at(ct, 17, 24)
    ct.get_by_label("picture", exact=True).fill("1")
    at(ct, 2, 24)


def test_the_window_follows_the_mouse_and_the_number_keys(ct: Page) -> None:
    grey = drawn(ct)
    drag(ct, 60, 0)
    expect(ct.locator(".viewer-window")).to_have_text("W 480 L 50")
    drag(ct, 0, 30)
    expect(ct.locator(".viewer-window")).to_have_text("W 480 L 98")
    assert drawn(ct).mean() < grey.mean()
    ct.keyboard.press("3")
    expect(ct.locator(".viewer-window")).to_have_text("W 1500 L -600")
    assert drawn(ct).mean() > grey.mean()  # water is white in the lung's window
    ct.keyboard.press("0")
    assert np.array_equal(drawn(ct), grey)
    ct.get_by_label("window", exact=True).select_option(label="4  Bone")
    expect(ct.locator(".viewer-window")).to_have_text("W 1800 L 400")


def test_inverted_is_the_negative_of_the_picture(ct: Page) -> None:
    at_its_own_size(ct, 64, 64)
    before = drawn(ct)
    ct.keyboard.press("i")
    assert np.abs(drawn(ct).astype(int) + before - 255).max() <= 1
    ct.get_by_role("button", name="Invert").click()
    assert np.array_equal(drawn(ct), before)


def test_moving_and_sizing(ct: Page) -> None:
    before = drawn(ct)
    bright = np.argwhere(before[..., 0] == 255).mean(axis=0)
    drag(ct, 50, 20, button="middle")
    moved = np.argwhere(drawn(ct)[..., 0] == 255).mean(axis=0)
    assert np.abs(moved - bright - (20, 50)).max() < 1.5
    ct.keyboard.press("0")
    ct.keyboard.press("+")
    assert (drawn(ct) == 255).sum() == pytest.approx(1.25**2 * (before == 255).sum(), rel=0.2)
    ct.keyboard.press("0")
    assert np.array_equal(drawn(ct), before)


def test_marks_lead_to_what_the_model_saw(ct: Page, room: Room) -> None:
    assert ct.locator(".viewer-mark").count() == len(SEEN)
    assert ct.locator(".viewer-mark.is-key").get_attribute("aria-label") == "picture 12, a key image"
    expect(ct.locator(".viewer-sight")).to_have_text("key image: the model saw it")
    ct.locator(".viewer-mark").nth(2).click()
    at(ct, 18, 24)
    ct.locator(".viewer").focus()
    ct.keyboard.press(",")
    at(ct, 12, 24)
    ct.keyboard.press("m")
    expect(ct.locator(".viewer-seen figcaption")).to_have_text("Model input 2 of 3: this picture")
    until(ct, "document.querySelector('.viewer-seen img').naturalWidth === 64")
    assert np.array_equal(drawn(ct, ".viewer-seen img"), room.inputs[1])
    keep(ct, "viewer-model-input")
    assert faults(ct) == []
    ct.keyboard.press(".")
    expect(ct.locator(".viewer-seen figcaption")).to_have_text("Model input 3 of 3: this picture")
    assert np.array_equal(drawn(ct, ".viewer-seen img"), room.inputs[2])
    ct.keyboard.press("j")
    expect(ct.locator(".viewer-seen figcaption")).to_contain_text("did not see this picture")
    expect(ct.locator(".viewer-sight")).to_have_text("not seen by the model")


def test_a_model_input_that_cannot_be_drawn_says_why(browser: Browser, room: Room, tmp_path: Path) -> None:
    files = write_ct(tmp_path, axial_planes(3))
    series = room.store.series([file.path for file in files])
    planes = [Plane(FrameOf(files[1].header.sop_instance_uid), SOFT)]
    job = room.store.job(series, [Picture(planes=tuple(planes))])
    with files[1].path.open("r+b") as file:  # other pixels than those that were seen
        file.seek(-2000, 2)
        file.write(b"\1" * 2000)
    with opened(browser, f"{room.url}/viewer/jobs/{job}", troubles=[]) as page:
        at(page, 2, 3)
        page.keyboard.press("m")
        expect(page.locator(".viewer-seen figcaption")).to_contain_text(
            "differ from those the model saw", timeout=20_000
        )


def test_help_names_the_keys(ct: Page) -> None:
    ct.keyboard.press("?")
    expect(ct.get_by_role("dialog")).to_contain_text("space")
    keep(ct, "viewer-help")
    ct.keyboard.press("Escape")
    expect(ct.get_by_role("dialog")).to_have_count(0)
    ct.keyboard.press("j")
    at(ct, 13, 24)


def outlined(page: Page) -> list[float]:
    """Return where the model's box lies in the pane: left, top, width and height."""
    found: list[float] = page.evaluate(
        """() => {
            const { x, y, width, height } = document.querySelector(".viewer-box").getBBox();
            return [x, y, width, height];
        }"""
    )
    return found


def test_boxes_lie_where_the_model_put_them(browser: Browser, room: Room) -> None:
    recipe = [Picture(planes=(Plane(FrameOf(room.slices[2].header.sop_instance_uid), SOFT),))]
    findings = {"objects": [{"box_2d": [250, 500, 750, 1000], "label": "nodule"}]}
    question = Question("detection", labels=("nodule",))
    job = room.store.job(room.ct, recipe, adapter="flare", question=question.to_json(), findings=findings)
    with opened(browser, f"{room.url}/viewer/jobs/{job}") as page:
        at(page, 3, 24)
        expect(page.locator(".viewer-label")).to_have_text("nodule")
        # The picture is square and fills the height of the pane.
        width, height = page.evaluate(
            "(({ clientWidth, clientHeight }) => [clientWidth, clientHeight])(document.querySelector('.viewer-pane'))"
        )
        middle, side = width / 2, height
        assert np.abs(np.subtract(outlined(page), (middle, side / 4, side / 2, side / 2))).max() < 2
        keep(page, "viewer-box")
        # It stays where it was put when the picture is made larger and moved.
        page.keyboard.press("+")
        larger = 1.25 * side / 2
        assert np.abs(np.subtract(outlined(page), (middle, (side - larger) / 2, larger, larger))).max() < 2
        drag(page, 50, 20, button="middle")
        assert np.abs(np.subtract(outlined(page), (middle + 50, (side - larger) / 2 + 20, larger, larger))).max() < 2


def test_a_person_draws_a_box_and_sees_their_own(browser: Browser, tmp_path: Path) -> None:
    asked = Question("detection", labels=("mass",))
    about: dict[str, Any] = {"question": asked.to_json(), "question_key": asked.key, "findings": {"objects": []}}
    with quick_hashes(), web_server(web_settings(tmp_path, login="required")) as server:
        room = Room(server, tmp_path)
        recipe = [Picture(planes=(Plane(FrameOf(room.slices[2].header.sop_instance_uid), SOFT),))]
        job = room.store.job(room.ct, recipe, adapter="flare", **about)
        with server.database.writing() as session:
            accounts.add(session, "ada", Role.REVIEWER, person_name="Lovelace^Ada", password=PASSWORD)
        with opened(browser, f"{room.url}/cases/{job}") as page:
            log_in(page, "ada")
            at(page, 3, 24)
            page.keyboard.press("v")
            page.keyboard.press("End")
            at(page, 24, 24)
            page.keyboard.press("e")
            page.get_by_role("button", name="Add").click()
            page.get_by_role("button", name="Draw it on the picture").click()
            at(page, 3, 24)  # where the model looked
            expect(page.locator(".viewer-message")).to_contain_text("Press at one corner")
            scale = page.evaluate(
                "Math.min(...(({ clientWidth, clientHeight }) => [clientWidth, clientHeight])("
                "document.querySelector('.viewer-pane')))"
            )
            drag(page, scale // 4, scale // 8)
            corners = [page.get_by_label(side, exact=True).input_value() for side in ("top", "left", "bottom", "right")]
            assert np.abs(np.subtract(np.array(corners, float), (500, 500, 625, 750))).max() < 12
            expect(page.locator(".viewer-own")).to_have_count(1)
            page.get_by_label("label").select_option("mass")
            expect(page.locator(".viewer-label.is-own")).to_have_text("mass (yours)")
            keep(page, "viewer-own-box")
            page.get_by_label("top", exact=True).fill("400")
            page.keyboard.press("Escape")
            expect(page.locator(".viewer-own")).to_have_count(0)  # the form is closed
            page.keyboard.press("e")
            expect(page.locator(".viewer-own")).to_have_count(1)
            page.get_by_role("button", name="Remove").click()
            expect(page.locator(".viewer-own")).to_have_count(0)


def test_a_run_plays_by_itself_and_stops(browser: Browser, room: Room, tmp_path: Path) -> None:
    path = write_ultrasound_cine(tmp_path, ultrasound_frames(12))
    with opened(browser, room.series(path)) as page:
        at(page, 1, 12)
        at_its_own_size(page, 90, 120)
        assert np.array_equal(drawn(page), ultrasound_frames(12)[0])
        page.keyboard.press(" ")
        expect(page.locator(".viewer-number")).to_contain_text("25/s")
        until(page, "parseInt(document.querySelector('.viewer-number').textContent) >= 6")
        page.get_by_role("button", name="Stop").click()
        number = page.locator(".viewer-number").inner_text()
        page.wait_for_timeout(200)
        assert page.locator(".viewer-number").inner_text() == number


def test_a_video_is_shown_frame_by_frame(browser: Browser, room: Room, tmp_path: Path) -> None:
    red = np.arange(50, dtype=np.uint8)[:, None, None, None] * 5
    path = write_video(tmp_path, np.broadcast_to(red, (50, 96, 128, 3)).copy())
    with opened(browser, room.series(path)) as page:
        at(page, 1, 50)
        for key, number in (("PageDown", 11), ("End", 50)):
            page.keyboard.press(key)
            at(page, number, 50)
            assert drawn(page).max() == pytest.approx((number - 1) * 5, abs=4)


def test_a_film_is_shown_through_its_own_curve(browser: Browser, room: Room, tmp_path: Path) -> None:
    path = write_film_with_voi_luts(tmp_path, [min(1023, place * place // 4096) for place in range(4096)])
    image = read_image(path)
    with opened(browser, room.series(path)) as page:
        expect(page.locator(".viewer-window")).to_have_text("File's curve")
        at_its_own_size(page, image.rows, image.columns)
        assert np.array_equal(drawn(page)[..., 0], shade(image, read_frame(image), header_shading(image)))
        drag(page, 40, 0)
        expect(page.locator(".viewer-window")).to_contain_text("W ")


def test_a_run_is_seen_less_its_mask_and_without(browser: Browser, room: Room, tmp_path: Path) -> None:
    frames = run([0, 0.5, 1], Detector())
    path = write_dsa(tmp_path, frames, Detector(), {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": 1})
    with opened(browser, room.series(path)) as page:
        at(page, 1, 3)
        page.keyboard.press("End")
        at(page, 3, 3)
        expect(page.locator(".viewer-window")).to_contain_text("less its mask")
        subtracted = drawn(page)
        keep(page, "viewer-subtracted")
        page.get_by_role("button", name="Subtracted").click()
        expect(page.locator(".viewer-window")).not_to_contain_text("mask")
        assert (drawn(page) != subtracted).any()
        page.keyboard.press("d")
        expect(page.locator(".viewer-window")).to_contain_text("less its mask")
        assert np.array_equal(drawn(page), subtracted)


def test_another_study_of_the_patient_is_seen_beside_the_case_and_counts_for_nothing(
    browser: Browser, room: Room, tmp_path: Path
) -> None:
    before = room.store.other_study(accession_number="A0", study_date="20250102", patient_name="Other^Name")
    room.store.series([file.path for file in write_ct(tmp_path, axial_planes(7))], study_id=before)
    with opened(browser, f"{room.url}/cases/{room.ct_job}") as page:
        own, other = page.locator(".this-case"), page.locator(".other-study")
        expect(own.locator(".viewer-number")).to_have_text("12 / 24")
        page.evaluate(
            """document.addEventListener("viewer:frame", ({ detail: { seen, frames } }) => {
                document.body.dataset.counted = `${document.body.dataset.counted ?? ""} ${seen} of ${frames}`;
            })"""
        )
        expect(page.get_by_role("row", name="2025-01-02 A0")).to_contain_text("other name Name Other")
        page.keyboard.press("p")
        expect(other.locator(".viewer-number")).to_have_text("4 / 7")
        expect(other).to_contain_text("Another study 2025-01-02 · A0 · series 1 · other name: Name Other")
        expect(own).to_contain_text("This case")
        page.keyboard.press("ArrowDown")  # the keys go where the eyes went
        expect(other.locator(".viewer-number")).to_have_text("5 / 7")
        expect(own.locator(".viewer-number")).to_have_text("12 / 24")
        boxes = [one.locator(".viewer-pane").bounding_box() for one in (own, other)]
        left, right = [box for box in boxes if box]
        assert left["x"] + left["width"] <= right["x"]
        assert min(left["width"], left["height"], right["width"], right["height"]) > 300
        keep(page, "case-beside-another-study")
        page.keyboard.press("v")
        page.keyboard.press("ArrowDown")
        expect(own.locator(".viewer-number")).to_have_text("13 / 24")
        assert page.evaluate("document.body.dataset.counted") == " 2 of 24"
        page.keyboard.press("p")
        expect(other).to_be_hidden()
        expect(page.locator(".viewer")).to_have_count(1)
        with page.context.expect_page() as tab:
            page.get_by_role("link", name="series 1").click(modifiers=["Control"])
        expect(tab.value.locator(".viewer-number")).to_have_text("4 / 7")


def test_viewers_that_come_and_go_with_parts_of_a_page(browser: Browser, room: Room) -> None:
    with opened(browser, f"{room.url}/viewer/series/{room.ct}") as page:
        at(page, 13, 24)
        page.evaluate(
            """address => {
                const heard = [];
                document.addEventListener("viewer:frame", (event) => heard.push(event.detail));
                const prior = document.createElement("div");
                Object.assign(prior, { className: "viewer", id: "prior", heard });
                prior.dataset.viewer = address;
                document.querySelector("[data-viewer]").replaceWith(prior);
            }""",
            f"/viewer/jobs/{room.ct_job}/frames",
        )
        at(page, 12, 24)
        page.evaluate("document.querySelector('#prior').show(3)")
        at(page, 4, 24)
        heard = page.evaluate("document.querySelector('#prior').heard")
        assert heard[-1] == {"index": 3, "number": 4, "seen": 2, "broken": 0, "frames": 24}
        assert page.locator(".viewer-canvas canvas").count() == 1


def test_a_broken_file_shows_the_reason_and_the_next_one_its_picture(
    browser: Browser, room: Room, tmp_path: Path
) -> None:
    paths = [
        write_image(
            tmp_path / f"{number}.dcm",
            np.full((1, 8, 8), 9, np.uint8),
            InstanceNumber=number,
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.4",
        )
        for number in (1, 2)
    ]
    address = room.series(*paths)
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    troubles: list[str] = []
    with opened(browser, address, troubles=troubles) as page:
        message = page.locator(".viewer-message")
        expect(message).to_contain_text("Picture 1 cannot be shown")
        expect(message).to_contain_text("send the instance again")
        keep(page, "viewer-broken")
        page.keyboard.press("j")
        at(page, 2, 2)
        expect(message).to_have_text("")
    assert all("422" in trouble for trouble in troubles)


def test_a_tablet_scrolls_and_sizes_with_fingers(browser: Browser, room: Room) -> None:
    address = f"{room.url}/viewer/jobs/{room.ct_job}"
    tablet = {"viewport": {"width": 820, "height": 1100}, "has_touch": True, "is_mobile": True}
    with opened(browser, address, **tablet) as page:
        at(page, 12, 24)
        keep(page, "viewer-tablet")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        before = drawn(page)
        touch(page, [[(400, 500)], [(400, 540)]])
        at(page, 17, 24)
        page.keyboard.press(".")
        touch(page, [[(350, 500), (450, 500)], [(300, 500), (500, 500)]])
        assert (drawn(page)[..., 0] > 0).sum() > 1.5 * (before[..., 0] > 0).sum()


def touch(page: Page, moments: list[list[tuple[int, int]]]) -> None:
    """Put fingers down, move them, and lift them."""
    hand = page.context.new_cdp_session(page)
    kinds = ["touchStart"] + ["touchMove"] * (len(moments) - 1)
    for kind, places in zip(kinds, moments, strict=True):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
