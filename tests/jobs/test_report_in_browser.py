"""The page of an output in a real browser: Chromium, headless, without a network."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tddfa3.assets.bundle import AssetBundle
from tests.support.made_report import MANY, face_rows, many_faces, page_of, replaced, write_output
from tests.support.made_run import FACES, make_run

Show = Callable[..., Any]

HOSTILE = "\"'><img src=x onerror=hurt=1></script><script>hurt=1</script>{{7*7}}<b>"
SAMPLE = 20_000
PHONE = 360
LOCAL = re.compile("file:|data:|blob:")
MINUS = "\N{MINUS SIGN}"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
# --no-sandbox, because root in a container has none; software rendering for the 3D view.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def few(output: Path, folder: Path) -> Path:
    """The page of a run with its photographs, a failure, and a face in 3D."""
    return page_of(output, folder / "few.html", "--open-face", "photos/astronaut.png:0")


@pytest.fixture(scope="module")
def many(output: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 100,000 faces without photographs or assets."""
    large = many_faces(output, tmp_path_factory.getbasetemp() / "many-faces")
    return page_of(large, folder / "many.html", "--sample", str(SAMPLE))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Show]:
    """Opens a page; the test fails on any error of its scripts and on any request it makes."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(file: Path, width: int = 1200, **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.extend([m.text] if m.type == "error" else []))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda r: complaints.extend([] if LOCAL.match(r.url) else [r.url]))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def matching(page: Any) -> int:
    """Faces that match, as the page says."""
    return int(page.locator("#matching").inner_text().split(" ")[0].replace(",", ""))


def bars(page: Any, variable: str) -> str:
    return page.locator(f"[data-variable={variable}] path.matching").get_attribute("d")


def drag(page: Any, variable: str, start: float, end: float) -> None:
    """Brushes over a histogram between two shares of its width."""
    histogram = page.locator(f"[data-variable={variable}] svg")
    histogram.scroll_into_view_if_needed()
    box = histogram.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


def pixels(locator: Any) -> np.ndarray:
    """(H, W, 3) of what is seen of an element."""
    picture = Image.open(io.BytesIO(locator.screenshot()))
    return np.asarray(picture.convert("RGB"), np.int16)


class TestManyFaces:
    def test_says_that_it_is_a_sample(self, show: Show, many: Path) -> None:
        page = show(many)
        assert f"{MANY:,}" in page.locator("#totals").inner_text()
        assert f"A sample of {SAMPLE:,} of the {MANY:,}" in page.locator("#sampled").inner_text()
        assert matching(page) == SAMPLE

    def test_a_brush_filters_all_that_is_linked(self, show: Show, many: Path) -> None:
        page = show(many)
        before, gallery = bars(page, "pitch"), page.locator("#shown").inner_text()
        drag(page, "yaw", 0.7, 0.9)
        low, high = (
            float(page.locator("[data-variable=yaw] input").nth(i).input_value()) for i in (0, 1)
        )
        yaw = page.evaluate("Array.from(Report.filter.columns[0])")
        assert 0 < matching(page) == sum(low <= value <= high for value in yaw) < SAMPLE
        assert bars(page, "pitch") != before
        assert page.locator("#shown").inner_text() != gallery
        texts = page.locator(".tile .caption span:first-child").all_inner_texts()
        shown = [float(t.removeprefix("yaw ").rstrip("°").replace(MINUS, "-")) for t in texts]
        assert shown
        assert all(low - 0.1 <= value <= high + 0.1 for value in shown)

    def test_a_brush_can_be_moved_widened_and_cleared(self, show: Show, many: Path) -> None:
        page = show(many)
        inputs = page.locator("[data-variable=yaw] input")

        def limits() -> list[float]:
            return [float(inputs.nth(i).input_value()) for i in (0, 1)]

        drag(page, "yaw", 0.4, 0.5)
        low, high = limits()
        drag(page, "yaw", 0.45, 0.55)
        moved = limits()
        assert moved[0] > low
        assert moved[1] - moved[0] == pytest.approx(high - low)
        edge = page.evaluate(
            "document.querySelector('[data-variable=yaw] .chosen').x.baseVal.value"
        )
        drag(page, "yaw", (edge + 1) / 320, 0.3)
        assert limits()[0] < moved[0]
        assert limits()[1] == pytest.approx(moved[1])
        drag(page, "yaw", 0.95, 0.95)
        assert matching(page) == SAMPLE

    def test_limits_can_be_typed_and_written_down(self, show: Show, many: Path) -> None:
        page = show(many)
        page.get_by_label("Yaw, from (°)").fill("-10")
        page.get_by_label("Misfit, five points, to (iod)").fill("0.05")
        page.locator("#elsewhere summary").click()
        condition = "yaw >= -10 AND quality_points <= 0.05"
        assert condition in page.locator("#condition").inner_text()
        values = page.evaluate("Report.filter.columns.map((c) => Array.from(c))")
        names = page.evaluate("Report.data.variables.map((v) => v.name)")
        yaw, misfit = (np.array(values[names.index(n)]) for n in ("yaw", "quality_points"))
        assert matching(page) == np.count_nonzero((yaw >= -10) & (misfit <= 0.05))
        page.get_by_role("button", name="Clear the filter on Yaw").click()
        assert matching(page) == np.count_nonzero(misfit <= 0.05)
        page.get_by_role("button", name="Clear filters").click()
        assert matching(page) == SAMPLE

    def test_faces_without_photographs_are_drawn(self, show: Show, many: Path) -> None:
        page = show(many)
        tile = page.locator(".tile").first
        tile.scroll_into_view_if_needed()
        assert tile.locator("[data-source=drawing]").count() == 1
        assert len(tile.locator("path.points").get_attribute("d")) > 200
        assert pixels(tile).std() > 5

    def test_why_there_is_no_3d_view(self, show: Show, many: Path) -> None:
        assert "--assets" in show(many).locator("#viewer").inner_text()


class TestFaces:
    def test_keyboard(self, show: Show, few: Path) -> None:
        page = show(few)

        def focused() -> int:
            return page.evaluate(
                "[...document.querySelectorAll('.tile')].indexOf(document.activeElement)"
            )

        page.locator("#tint").focus()
        page.keyboard.press("Tab")
        visited = [focused()]
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home"):
            page.keyboard.press(key)
            visited.append(focused())
        assert visited == [0, 1, 2, 1, FACES - 1, FACES - 1, 0]
        page.keyboard.press("Enter")
        title = page.locator("#detail-title")
        first = title.inner_text()
        page.keyboard.press("ArrowRight")
        assert title.inner_text() != first
        page.keyboard.press("ArrowLeft")
        assert title.inner_text() == first
        page.keyboard.press("Escape")
        assert not page.locator("#detail").is_visible()
        assert focused() == 0

    def test_every_control_can_be_reached_and_is_named(self, show: Show, few: Path) -> None:
        page = show(few)
        page.locator("#viewer").scroll_into_view_if_needed()
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, select, input, summary, svg[role=img]')]"
            ".filter((e) => !(e.ariaLabel || e.innerText?.trim() || e.labels?.length)).length"
        )
        assert nameless == 0
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
        seen = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("document.activeElement.closest('section')?.id"))
        assert {"distributions", "faces", "solid"} <= seen

    def test_part_names_on_hover(self, show: Show, few: Path) -> None:
        page = show(few)
        picture = page.locator(".tile .picture").first
        picture.scroll_into_view_if_needed()
        box = picture.bounding_box()
        names = set()
        for y in np.linspace(0.05, 0.95, 25):
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + y * box["height"])
            names.add(picture.locator(".partname").inner_text())
        assert {"", "nose", "skin"} <= names

    def test_parts_and_landmarks(self, show: Show, few: Path) -> None:
        page = show(few)
        page.locator(".tile").first.click()
        dialog = page.locator("#detail")
        plain = pixels(dialog.locator(".picture"))
        dialog.get_by_role("button", name="nose").focus()
        assert dialog.locator(".partname").inner_text() == "nose"
        assert np.abs(pixels(dialog.locator(".picture")) - plain).max() > 40
        for name in ("106", "134"):
            dialog.get_by_label("Landmarks").select_option(name)
            points = dialog.locator("path.points").get_attribute("d")
            assert points.count("M") == int(name)

    def test_order(self, show: Show, few: Path) -> None:
        page = show(few)

        def misfits() -> list[float]:
            texts = page.locator(".tile .caption span:last-child").all_inner_texts()
            return [float(text.removeprefix("misfit ")) for text in texts]

        worst_first = misfits()
        page.locator("#order").select_option(label="best fit first")
        assert misfits() == sorted(worst_first)
        assert worst_first == sorted(worst_first, reverse=True)


class TestSolid:
    @pytest.fixture
    def canvas(self, show: Show, few: Path) -> Any:
        page = show(few, reduced_motion="reduce")
        canvas = page.locator("#viewer canvas")
        canvas.scroll_into_view_if_needed()
        page.locator("#viewer p", has_text="vertices").wait_for()
        return canvas

    def test_a_face_is_drawn(self, canvas: Any) -> None:
        picture = pixels(canvas)
        height, width, _ = picture.shape
        drawn = np.abs(picture - picture[height // 2, 20]).max(axis=2) > 12
        assert 0.05 < drawn.mean() < 0.6
        assert drawn[height // 2, width // 2]
        assert "photos/astronaut.png" in canvas.page.locator("#viewer").inner_text()

    def test_it_turns_by_keys_and_buttons(self, canvas: Any) -> None:
        front = pixels(canvas)
        canvas.focus()
        for _ in range(5):
            canvas.page.keyboard.press("ArrowLeft")
        turned = pixels(canvas)
        assert np.abs(turned - front).mean() > 1
        canvas.page.keyboard.press("0")
        assert np.abs(pixels(canvas) - front).mean() < 0.5
        canvas.page.get_by_role("button", name="Shape only").click()
        assert np.abs(pixels(canvas) - front).mean() > 1

    def test_it_can_be_saved(self, canvas: Any, tmp_path: Path) -> None:
        with canvas.page.expect_download() as download:
            canvas.page.get_by_role("button", name="Save as GLB").click()
        assert download.value.suggested_filename == "astronaut.png_0.glb"
        download.value.save_as(tmp_path / "face.glb")
        assert (tmp_path / "face.glb").read_bytes()[:4] == b"glTF"


class TestWholePage:
    @pytest.mark.parametrize("which", ["few", "many"])
    def test_a_phone_needs_no_sideways_scrolling(
        self, show: Show, which: str, request: pytest.FixtureRequest
    ) -> None:
        page = show(request.getfixturevalue(which), PHONE, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        page.locator(".tile").first.tap()
        dialog = page.locator("#detail").bounding_box()
        assert dialog["x"] >= 0
        assert dialog["x"] + dialog["width"] <= PHONE
        assert page.evaluate("document.querySelector('#detail').scrollWidth") <= PHONE

    def test_dark_and_light(self, show: Show, few: Path) -> None:
        grounds = []
        for scheme in ("light", "dark"):
            page = show(few, color_scheme=scheme)
            picture = pixels(page.locator("#totals"))
            grounds.append(float(np.median(picture)))
            # Text stands out from its ground as much in one as in the other.
            assert np.abs(picture - np.median(picture)).max() > 150
        assert grounds[0] > 230
        assert grounds[1] < 50

    def test_reduced_motion(self, show: Show, few: Path) -> None:
        behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
        assert show(few).evaluate(behaviour) == "smooth"
        assert show(few, reduced_motion="reduce").evaluate(behaviour) == "auto"

    def test_names_of_images_are_text(self, show: Show, output: Path, folder: Path) -> None:
        faces = face_rows(output)[:2]
        ids = {"shard": [HOSTILE] * 2, "key": ["a", HOSTILE], "image_id": ["a", HOSTILE]}
        faces = replaced(faces, **ids, overlay_uri=[HOSTILE, None])
        failed = replaced(
            faces[1:],
            image_id=[f"failed {HOSTILE}"],
            face_index=[None],
            status=["decode_error"],
            error=[HOSTILE],
        )
        hostile = write_output(folder / "hostile", faces, failed)
        record = {"time": "2026-01-01T00:00:01Z", "event": "chunk", "images": 2, "pid": 1}
        record |= {"host": HOSTILE, "seconds": {HOSTILE: 1.0}}
        logs = hostile / "_run" / "logs"
        logs.mkdir(parents=True)
        (logs / "a.jsonl").write_text(json.dumps(record) + "\n")
        page = show(page_of(hostile, folder / "hostile.html", code=3))
        page.locator("#order").select_option(label="by name")
        page.locator(".tile").first.click()
        texts = [
            page.locator(where).inner_text()
            for where in ("#detail-title", "#failures", "#missing", "#throughput")
        ]
        assert all(HOSTILE in text for text in texts)
        assert page.evaluate("window.hurt") is None
        assert page.locator("img[src=x], main b").count() == 0

    def test_a_run_that_is_still_written(self, show: Show, output: Path, folder: Path) -> None:
        unfinished = folder / "unfinished"
        shutil.copytree(output, unfinished)
        parts = sorted(unfinished.glob("annotations/**/*.parquet"))
        parts[0].unlink()
        page = show(page_of(unfinished, folder / "unfinished.html"))
        said = page.locator("#unfinished").inner_text()
        assert f"{len(parts) - 1} of {len(parts)} part files" in said
        assert page.locator(".tile").count() > 0

    def test_no_faces(self, show: Show, output: Path, folder: Path) -> None:
        empty = folder / "empty"
        shutil.copytree(output, empty)
        shutil.rmtree(empty / "annotations")
        page = show(page_of(empty, folder / "empty.html"))
        assert "no labelled faces" in page.locator("#no-faces").inner_text()
        assert page.locator("#unfinished").is_visible()
        assert page.locator("#histograms").count() == 0
