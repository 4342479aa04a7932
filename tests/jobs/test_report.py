"""The page of an output: the numbers, pictures and data in it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from jobs import report
from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.storage.store import Store
from jobs.report_page import facts, gallery, render
from jobs.report_page.meshes import parse_face
from jobs.report_page.pictures import PictureMaker
from jobs.report_page.speed import Timeline
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tests.support.made_report import face_rows, many_faces, page_of, replaced, write_output
from tests.support.made_run import FACES, IMAGES, make_run


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


@pytest.fixture(scope="module")
def faces_table(output: Path) -> pa.Table:
    return face_rows(output)


@pytest.fixture(scope="module")
def many(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_faces(output, tmp_path_factory.getbasetemp() / "many-faces")


class TestNumbers:
    @pytest.mark.parametrize(
        "values",
        [[3.0], [0.0, 0.0], [-1e-6, 1e-6], [-90.0, 0.1, 90.0], list(np.linspace(0.93, 1, 999))],
    )
    def test_bins_hold_every_value(self, values: list[float]) -> None:
        low, step, count = facts.bins(values)
        assert low <= min(values) + 1e-9
        assert max(values) < low + step * count + 1e-9
        assert 1 <= count <= facts.MOST_BINS + 2

    def test_a_few_outliers_do_not_squeeze_the_rest(self) -> None:
        values = np.concatenate([np.linspace(0, 1, 9999), [1e6]]).astype(np.float32)
        low, step, count = facts.bins(values)
        assert low + step * count < 1.2
        histogram = facts.Histogram(facts.VARIABLES[0], low, step, count)
        found = histogram.bin_of(np.array([1e6, -1e6, np.nan], np.float32))
        assert found.tolist() == [count - 1, 0, -1]

    def test_a_sample_is_the_same_each_time(self, many: Path) -> None:
        with Database(LabelledRun(str(many))) as database:
            first, again = facts.sample(database, 500), facts.sample(database, 500)
            fewer = facts.sample(database, 100)
        assert first.names == again.names
        assert first.names[:100] == fewer.names
        assert len({image.split("/")[1] for image, _ in first.names}) == 5

    def test_every_bar_has_a_face_with_a_picture(self, many: Path) -> None:
        with Database(LabelledRun(str(many))) as database:
            faces = facts.sample(database, 2000)
        histograms = facts.histograms(faces)
        chosen = gallery.choose(faces, histograms, (), 400)
        rows = [faces.names.index(name) for name in chosen]
        assert len(chosen) == 400
        for histogram in histograms:
            column = faces.values[:, facts.VARIABLES.index(histogram.variable)]
            bins = histogram.bin_of(column)
            assert set(bins[rows]) == set(bins)

    def test_worst_and_best_are_those_of_all_faces(self, many: Path) -> None:
        with Database(LabelledRun(str(many))) as database:
            worst, best = facts.extremes(database, "quality_points", 5)
            ends = database.table("SELECT max(quality_points), min(quality_points) FROM faces")
        column = [v.name for v in facts.VARIABLES].index("quality_points")
        assert [worst.values[0, column], best.values[0, column]] == [
            c[0].as_py() for c in ends.columns
        ]

    def test_totals(self, output: Path) -> None:
        run = LabelledRun(str(output))
        with Database(run) as database:
            totals = facts.totals(run, database)
        assert (totals.images, totals.faces, totals.failed) == (IMAGES, FACES, 1)
        assert [(f.status, f.example) for f in totals.failures] == [
            ("decode_error", "photos/broken.jpg")
        ]


class TestThroughput:
    def chunk(self, second: int, images: int, pid: int = 1, **more: Any) -> str:
        record = {
            "time": f"2026-01-01T00:00:{second:02d}.000Z",
            "event": "chunk",
            "images": images,
            "pid": pid,
            "host": "here",
            "seconds": {"label": 2.0},
            "memory": 5,
            "already_done": False,
        }
        return json.dumps({**record, **more})

    def test_every_image_is_counted_once(self, tmp_path: Path) -> None:
        logs = tmp_path / "_run" / "logs"
        logs.mkdir(parents=True)
        first = [self.chunk(0, 0, event="start"), self.chunk(9, 10), self.chunk(20, 30, pid=2)]
        (logs / "a.jsonl").write_text("\n".join([*first, '{"half a li']))
        (logs / "a.0001.jsonl").write_text(self.chunk(25, 5) + "\n")
        again = [
            self.chunk(40, 0, event="start"),
            self.chunk(45, 7),
            self.chunk(46, 99, already_done=True),
            self.chunk(47, 0, event="end", stopped="disk full"),
        ]
        (logs / "b.jsonl").write_text("\n".join(again))
        timeline = Timeline(Store.open(str(tmp_path)))
        shown = timeline.described()
        assert shown is not None
        assert shown["images"] == 52
        assert timeline.images.sum() == pytest.approx(52)
        assert shown["seconds"] == 25 + 7
        assert [s["offset"] for s in shown["starts"]] == [0, 25]
        assert [s["stopped"] for s in shown["starts"]] == [None, "disk full"]
        assert sorted(actor["images"] for actor in shown["actors"]) == [7, 15, 30]
        assert shown["bad_lines"] == 1
        # A chunk of 10 images that took 2 seconds and ended at 9: 5 a second, from 7 on.
        assert timeline.images[[6, 7, 8]].tolist() == [0, 5, 5]

    def test_no_log(self, tmp_path: Path) -> None:
        assert Timeline(Store.open(str(tmp_path))).described() is None


class TestPictures:
    def overlaid(self, table: pa.Table, folder: Path) -> tuple[Path, dict[str, Any]]:
        uri = "overlays/made/a.jpg"
        path = write_output(folder, replaced(table[:1], overlay_uri=[uri]))
        row = decode_part((path / "annotations/made/000000.parquet").read_bytes()).to_pylist()[0]
        return path, {**row, "part": "annotations/made/000000.parquet"}

    def test_from_the_photograph(self, output: Path, faces_table: pa.Table) -> None:
        run = LabelledRun(str(output))
        with Database(run) as database:
            rows = database.table("SELECT * FROM faces").to_pylist()
        pictures = PictureMaker(run).all(rows)
        assert [picture.source for picture in pictures] == ["photo"] * FACES
        assert all(str(p.jpeg).startswith("data:image/jpeg;base64,") for p in pictures)

    def test_from_a_reduced_overlay(self, faces_table: pa.Table, tmp_path: Path) -> None:
        path, row = self.overlaid(faces_table, tmp_path)
        photo = np.random.default_rng(0).integers(0, 255, (2, 2, 3)).astype(np.uint8)
        size = np.array([row["image_width"], row["image_height"]])
        crops = []
        for whole in (size, size // 2):
            sink = io.BytesIO()
            Image.fromarray(photo).resize(whole.tolist(), Image.Resampling.BILINEAR).save(
                sink, "PNG"
            )
            Store.open(str(path)).publish(row["overlay_uri"], sink.getvalue())
            picture = PictureMaker(LabelledRun(str(path))).of(row)
            assert (picture.source, picture.missing) == ("overlay", None)
            assert picture.jpeg is not None
            data = np.frombuffer(base64.b64decode(picture.jpeg.split(",")[1]), np.uint8)
            crops.append(np.asarray(Image.open(io.BytesIO(data.tobytes())), np.float32))
        assert crops[0].shape == (224, 224, 3)
        assert np.abs(crops[0] - crops[1]).mean() < 4

    def test_a_missing_overlay_is_named(
        self, faces_table: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path, row = self.overlaid(faces_table, tmp_path / "out")
        out = tmp_path / "page.html"
        assert report.main([str(path), "--out", str(out)]) == 3
        assert row["overlay_uri"] in capsys.readouterr().err
        assert "<code><bdi>overlays/made/a.jpg</bdi></code>: no such file" in out.read_text()


class TestPage:
    def test_json_in_a_script_ends_nothing(self) -> None:
        data = {"a": "</script><!--", "b": "&amp;\u2028", "c": [1.5, None]}
        text = render.script_json(data)
        assert json.loads(text) == data
        assert not set("<>&\u2028") & set(text)

    def test_face_names(self) -> None:
        assert parse_face("a:b/c.jpg:12") == ("a:b/c.jpg", 12)
        for wrong in ("a.jpg", ":1", "a:", "a:-1", "a:\N{SUPERSCRIPT TWO}"):
            with pytest.raises(UserError, match="IMAGE_ID:FACE"):
                parse_face(wrong)

    def test_what_is_vendored_is_small_and_licensed(self, output: Path, tmp_path: Path) -> None:
        vendored = Path(render.__file__).parent / "vendor"
        bundles = list(vendored.glob("*.js"))
        assert sum(bundle.stat().st_size for bundle in bundles) < 1_500_000
        text = page_of(output, tmp_path / "page.html").read_text()
        assert "three.js authors" in text
        assert "Mike Bostock" in text

    def test_bad_usage(self, output: Path, tmp_path: Path, capsys: Any) -> None:
        out = ["--out", str(tmp_path / "page.html")]
        assert report.main([str(tmp_path / "nowhere"), *out]) == 2
        assert report.main([str(output), "--open-face", "photos/none.png:0", *out]) == 2
        assert report.main([str(output), "--sample", "0", *out]) == 2
        said = capsys.readouterr().err
        for named in ("nowhere", "photos/none.png:0", "--sample 0"):
            assert named in said
        assert not (tmp_path / "page.html").exists()
