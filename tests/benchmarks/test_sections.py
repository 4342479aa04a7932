"""Every section of the benchmarks runs, on a small bundle and few pictures; no time is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from benchmarks import __main__ as program
from benchmarks.ceiling import operations_of
from benchmarks.decoding import SIZE
from benchmarks.inputs import Encoded, made_photographs
from benchmarks.jobs import ChildFailed, child, measure_jobs, measure_planning, measure_startup
from benchmarks.library import variants
from benchmarks.report import BEGIN, END, grids
from benchmarks.running import rate
from benchmarks.settings import Settings
from benchmarks.targets import targets
from benchmarks.yardstick import ORIGINAL, ORIGINAL_BACKBONE, expected_seconds
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError


@pytest.fixture(scope="module")
def photos() -> list[Encoded]:
    return made_photographs()[:2]


@pytest.fixture(scope="module")
def settings(small_bundle: AssetBundle) -> Settings:
    return Settings(
        assets=small_bundle.path.resolve(),
        photos=None,
        threads=1,
        seconds=0,
        rounds=1,
        job_images=48,
        planned_shards=2,
        planned_images=300,
        loop_images=600,
        quick=True,
        detectors=("mtcnn",),
        backbones=("mbnetv3",),
    )


@pytest.fixture(scope="module")
def measured(settings: Settings, photos: list[Encoded]) -> dict[str, Any]:
    """All that runs in this process."""
    names = ("yardstick", "ceiling", "decoding", "stages", "library", "drift")
    sections = {name: run for name, run in program.SECTIONS.items() if name in names}
    return {name: run(settings, photos) for name, run in sections.items()}


def test_stages_take_time_and_their_shares_are_the_whole(measured: dict[str, Any]) -> None:
    stages = {row["stage"]: row for row in measured["stages"]}
    wanted = ("decode", "detect", "align and crop", "backbone", "geometry", "rasterize", "segment",
              "texture", "publish")  # fmt: skip
    assert set(wanted) <= set(stages)
    assert all(row["wall_ms"] > 0 for row in stages.values())
    assert sum(row["share"] for row in stages.values()) == pytest.approx(1)


def test_library_variants(measured: dict[str, Any], settings: Settings) -> None:
    labels, everything, in_torch = measured["library"]
    assert labels["variant"] == "labels, MTCNN + MobileNetV3"
    assert labels["faces"] == everything["faces"] == in_torch["faces"] == 2
    assert everything["bytes_per_face"] > 10 * labels["bytes_per_face"]
    assert all(0 < row["networks_cpu_ms"] <= row["cpu_ms"] * 1.5 for row in measured["library"])
    both = {"detectors": ("retinaface", "mtcnn"), "backbones": ("resnet50", "mbnetv3")}
    every = variants(Settings(**{**vars(settings), **both, "quick": False}))
    assert len(every) == 7
    assert next(iter(every)) == "labels, RetinaFace + ResNet-50"


def test_engines_agree(measured: dict[str, Any]) -> None:
    first, onnx = measured["drift"]
    assert (first["engine"], onnx["engine"]) == ("torch fp32", "onnx")
    assert first["largest_px"] == 0
    assert 0 <= onnx["mean_px"] <= onnx["largest_px"] < 1e-2


def test_the_originals_speed_follows_its_networks() -> None:
    assert expected_seconds(ORIGINAL_BACKBONE) == pytest.approx(ORIGINAL)
    assert expected_seconds(2 * ORIGINAL_BACKBONE) == pytest.approx(ORIGINAL + 0.725)


def test_operations_are_counted_layer_by_layer() -> None:
    def network() -> nn.Module:
        strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        each_by_itself = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        return nn.Sequential(strided, each_by_itself, nn.Flatten(), nn.Linear(8 * 16, 5))

    assert operations_of(network, 8) == 2 * (16 * 8 * 27 + 16 * 8 * 9 + 5 * 128)


def test_the_ceiling_follows_from_operations_and_speed(measured: dict[str, Any]) -> None:
    found = measured["ceiling"]
    total = sum(found["operations"].values())
    assert found["images_per_second"] == pytest.approx(found["operations_per_second"] / total)
    # ResNet-50 on 224 pixels is known to take 4.1 G multiplications with as many additions.
    assert found["operations"]["ResNet-50"] == pytest.approx(8.2e9, rel=0.01)


def test_a_large_jpeg_is_decoded_whole_and_reduced(measured: dict[str, Any]) -> None:
    full, reduced = measured["decoding"]
    assert (full["width"], full["height"]) == SIZE
    assert (reduced["width"], reduced["height"]) == (SIZE[0] // 4, SIZE[1] // 4)


def test_a_jobs_rate_leaves_out_how_it_begins_and_how_it_ends() -> None:
    alone = [(10.0, 8), (14.0, 8), (18.0, 4)]  # 12 images in 8 seconds
    with_one_that_ends_sooner = [alone, [(11.0, 8), (15.0, 8)]]
    assert rate([alone]) == 1.5
    assert rate(with_one_that_ends_sooner) == 1.5 + 2


def test_start_up_in_a_process_of_its_own(settings: Settings) -> None:
    found = measure_startup(settings)
    assert found["first_photograph_seconds"] > 0
    assert found["unique_bytes"] <= found["proportional_bytes"] <= found["resident_bytes"]


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildFailed, match=r"(?s)planning: .*TypeError"):
        child("planning", folder="nowhere")


@pytest.mark.slow
def test_job(settings: Settings, photos: list[Encoded]) -> None:
    (row,) = measure_jobs(settings, photos)
    assert (row["outputs"], row["actors"]) == ("everything", 1)
    assert 0 < row["images"] <= settings.job_images
    assert set(row["idle"]) == {"read", "decode", "label", "encode", "publish"}
    assert all(0 <= share <= 1 for share in row["idle"].values())
    assert 0 < row["unique_bytes_per_actor"] <= row["resident_bytes_per_actor"]
    assert {"one actor: resident"} <= {t.name for t in targets({"jobs": [row]})}


@pytest.mark.slow
def test_planning(settings: Settings) -> None:
    found = measure_planning(settings)
    assert found["images"] == settings.planned_shards * settings.planned_images
    assert 0 < found["chunks_left"] < found["chunks"]
    assert found["loop_images"] > 0
    assert {"planning", "driver's time per image"} <= {t.name for t in targets({"planning": found})}


def test_the_program_writes_json_and_the_document(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, results = tmp_path / "performance.md", tmp_path / "results.json"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    options = ["--quick", "--only", "yardstick", "--seconds", "0.1", "--threads", "1"]
    options += ["--assets", str(settings.assets), "--json", str(results)]
    assert program.main([*options, "--write", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "### The original's speed" in text
    assert "the original here, by calculation" in text
    assert "load before" in text
    assert json.loads(results.read_text())["yardstick"]["plain_resnet50_seconds"] > 0
    assert program.main([*options, "--write", str(document), "--original", "4"]) == 0
    assert "| the original here, measured | 0.25 images/s |" in document.read_text()
    capsys.readouterr()
    document.write_text("no marks")
    assert program.main([*options, "--write", str(document)]) == 2
    assert "benchmarks: begin" in capsys.readouterr().err


def test_all_tables(measured: dict[str, Any]) -> None:
    made = grids(measured)
    assert [grid.title.split()[0] for grid in made[:2]] == ["Targets", "The"]
    for grid in made:
        assert all(len(row) == len(grid.columns) for row in grid.rows)
        assert grid.markdown().count("\n") == len(grid.rows) + 3


def test_a_bundle_without_known_networks_is_refused(small_bundle: AssetBundle) -> None:
    given = program.BenchmarkConfig(quick=True, assets=Path("x"))
    bare = AssetBundle(small_bundle.path, {**small_bundle.manifest, "backbones": []})
    with pytest.raises(UserError, match="no detector and backbone of retinaface"):
        program.settings_for(given, bare)
