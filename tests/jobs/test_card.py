"""The dataset card says what is there."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from jobs.card import main as card_again
from jobs.pipeline.output import card
from jobs.pipeline.output.reading import LabelledRun
from tddfa3.assets.bundle import AssetBundle
from tests.support.made_run import COUNTS, FACES, IMAGES, make_run


@pytest.fixture
def output(
    small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> Path:
    made = make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def front_matter(text: str) -> dict[str, str]:
    _, head, _ = text.split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)


def test_what_it_says(output: Path, small_bundle: AssetBundle) -> None:
    path = card.write_card(str(output))
    assert path == str(output / "_run/README.md")
    text = Path(path).read_text()
    assert f"{FACES} faces in {IMAGES} images" in text
    for status, number in COUNTS.items():
        assert f"| images with status `{status}` | {number} |" in text
    schema = LabelledRun(str(output)).schema
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [name for name in rows if name in schema.names and name not in ("yaw", "pitch", "roll",
            "score", "quality_points", "quality_visible", "quality_coverage")] == [
        name for name in schema.names if name not in ("yaw", "pitch", "roll", "score",
        "quality_points", "quality_visible", "quality_coverage")]  # fmt: skip
    assert "| `ldm68` | float32 [136] | x, y of 68 landmarks | px | image pixels |" in text
    assert "| 5 | 16 | nose |" in text
    assert "| `--faces` | all |" in text
    for name, about in small_bundle.files.items():
        assert f"| `{name}` | {about['licence']} |" in text
    assert "Basel" not in text  # the synthetic face model is not derived from it
    assert "&lt;shard>" in text
    assert front_matter(text)["size_categories"] == "[n<1K]"
    assert front_matter(text)["license_name"] == '"MIT"'
    assert "Not finished" not in text


def test_the_basel_face_model_is_named_where_it_may_be_in_the_assets(output: Path) -> None:
    run = LabelledRun(str(output))
    for licence in ("non-commercial research only (Basel Face Model)", ""):
        facts = dataclasses.replace(run.facts, licence=licence)
        run.__dict__["facts"] = facts
        run.__dict__["about"] = {**run.about, "assets": {**run.about["assets"], "licence": licence}}
        text = card.card(run)
        assert "**Basel Face Model (BFM): non-commercial research only" in text
        assert "paysan2009face" in text


def test_the_rasterizer_is_named_with_its_licence(output: Path) -> None:
    assert "| rasterizer | cpu |" in card.card(LabelledRun(str(output)))
    counts = card.CardCounts(computed_with={"rasterizer": "cpu"})
    assert card._rasterizer_licence(counts).startswith("Triangles were drawn by tddfa3's own")
    part = {"counts": {"images": 1, "faces": 1, "shard_errors": 0, "status": {"ok": 1}}}
    counts.add(part | {"computed_with": {"rasterizer": "nvdiffrast"}})
    assert counts.computed_with == {"rasterizer": "cpu, nvdiffrast"}
    assert card._rasterizer_licence(counts).startswith("Triangles were drawn by **nvdiffrast**")


def test_distributions(output: Path) -> None:
    import pyarrow.dataset as ds

    yaw = ds.dataset(output / "annotations").to_table(columns=["yaw"])["yaw"].drop_null()
    [line] = [x for x in card.card(LabelledRun(str(output))).splitlines() if "`yaw` | degrees" in x]
    cells = [float(cell) for cell in line.strip("| ").split(" | ")[2:]]
    assert cells == sorted(cells)
    assert min(yaw.to_pylist()) - 0.01 <= cells[0]
    assert cells[-1] <= max(yaw.to_pylist()) + 0.01


def test_nothing_private_is_in_it(output: Path) -> None:
    """No paths of the machine, no endpoint: a card is made to be passed on."""
    manifest = output / "_run/manifest.json"
    content = json.loads(manifest.read_text())
    content["config"]["s3_endpoint"] = "http://storage.internal:9000"
    manifest.write_text(json.dumps(content))
    text = card.card(LabelledRun(str(output)))
    assert "storage.internal" not in text
    assert str(output.parent) not in text
    assert content["config"]["paths"][0] not in text
    assert content["config"]["assets"] not in text


def test_an_unfinished_and_an_empty_run(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sorted((output / "annotations").rglob("*.parquet"))[0].unlink()
    assert card_again([str(output)]) == 0
    assert "**Not finished**: 3 of 4 part files" in (output / "_run/README.md").read_text()
    shutil.rmtree(output / "annotations")
    assert card_again([str(output)]) == 0
    assert "0 faces in 0 images" in (output / "_run/README.md").read_text()
    shutil.rmtree(output)
    assert card_again([str(output)]) == 2
    assert "not an output" in capsys.readouterr().err
