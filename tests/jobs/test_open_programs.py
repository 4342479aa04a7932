"""The programs with the assets that come with tddfa3: nothing is named, from any folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import skimage.data
from PIL import Image

from jobs.label import OPEN_NOTE
from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.sample import rendered_faces
from tests.support.programs import call_module


@pytest.fixture(scope="module")
def folder(
    open_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory, local_ray: None
) -> Path:
    """Somewhere else than the repository: photographs in ``in``, labelled into ``out``."""
    folder = tmp_path_factory.mktemp("open")
    (folder / "in").mkdir()
    Image.fromarray(skimage.data.astronaut()).save(folder / "in" / "astronaut.png")
    for i, picture in enumerate(rendered_faces(open_bundle, 2)):
        Image.fromarray(picture).save(folder / "in" / f"{i}.png")
    done = call_module(folder, "jobs.label", "in", "out", "--overlays", "sheet", "--meshes", "both",
               "--textures", "png", "--masks", "seg,seg_visible,rle")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count(f"note: {OPEN_NOTE}\n") == 1
    return folder


def manifest(folder: Path) -> dict[str, object]:
    kept: dict[str, object] = json.loads((folder / "out/_run/manifest.json").read_text())
    return kept


def test_the_manifest_names_what_was_chosen(folder: Path, open_bundle: AssetBundle) -> None:
    config, fields = manifest(folder)["config"], manifest(folder)["fingerprint_fields"]
    assert isinstance(config, dict)
    assert isinstance(fields, dict)
    chosen = {"detector": "mtcnn", "backbone": "efficientlite", "lighting": "solve",
              "refine": "points"}  # fmt: skip
    assert {name: config[name] for name in chosen} == chosen
    assert {name: fields[name] for name in chosen} == chosen
    assert config["assets"] == "open"
    assert fields["assets"] == open_bundle.digest


def test_every_image_has_a_face_with_all_its_columns(
    folder: Path, open_bundle: AssetBundle
) -> None:
    rows = ds.dataset(folder / "out" / "annotations").to_table().to_pylist()
    assert sorted(row["image_id"] for row in rows) == ["root/0.png", "root/1.png",
                                                        "root/astronaut.png"]  # fmt: skip
    for row in rows:
        assert row["status"] == "ok"
        assert len(row["coef_id"]) == open_bundle.sizes.id
        assert len(row["coef_exp"]) == open_bundle.sizes.exp
        for name, count in {"68": 68, "106": 106, "106_2d": 106, "134": 134}.items():
            assert len(row[f"ldm{name}"]) == 2 * count
        for name in ("mesh_pca_uri", "mesh_extracted_uri", "texture_uri", "overlay_uri"):
            assert (folder / "out" / row[name]).stat().st_size > 1000
        assert row["quality_points"] < 1


@pytest.mark.parametrize(
    "words",
    [
        ["in", "out", "--detector", "mtcnn", "--backbone", "efficientlite", "--assets", "open"],
        ["--resume", "out"],
    ],
)
def test_the_run_goes_on_whether_or_not_the_choices_are_named(
    folder: Path, words: list[str]
) -> None:
    same = ["--overlays", "sheet", "--meshes", "both", "--textures", "png",
            "--masks", "seg,seg_visible,rle"]  # fmt: skip
    done = call_module(folder, "jobs.label", *words, *([] if "--resume" in words else same))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done before" in done.stdout


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--backbone", "resnet50"), r"no 'resnet50' \(they have: efficientlite\)"),
        (("--detector", "retinaface"), r"no 'retinaface' \(they have: mtcnn, none\)"),
        (("--detector", "none", "--refine", "points"), "choose a detector"),
        (("--assets", "nowhere"), r"no asset bundle at .*nowhere"),
    ],
)
def test_what_it_lacks_is_one_line(folder: Path, option: tuple[str, ...], says: str) -> None:
    done = call_module(folder, "jobs.label", "in", "other", *option)
    assert done.returncode == 2
    assert re.search(says, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (folder / "other").exists()


def test_a_damaged_copy_stops_the_run_with_one_line(folder: Path, open_bundle: AssetBundle) -> None:
    copy = folder / "damaged"
    shutil.copytree(open_bundle.path, copy, ignore=shutil.ignore_patterns("engines"))
    path = copy / "face_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = call_module(folder, "jobs.label", "in", "other2", "--assets", str(copy))
    # Digests are compared where the files are read: in the actors, when the run has begun.
    assert done.returncode == 4
    assert "face_model.safetensors was changed or damaged" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_other_programs_find_the_same_assets(folder: Path) -> None:
    done = call_module(
        folder, "jobs.export", "out", "meshes", "--meshes", "pca", "--mesh-format", "obj"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((folder / "meshes").rglob("*.obj"))) == 3
    done = call_module(
        folder, "jobs.report", "out", "--out", "report.html", "--open-face", "root/0.png:0"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report.html").stat().st_size > 100_000
    assert call_module(folder, "jobs.verify", "out").returncode == 0
    card = (folder / "out/_run/README.md").read_text()
    assert "| `--backbone` | efficientlite |" in card
    assert "Basel" not in card


def test_a_mesh_from_a_row_is_the_mesh_of_the_run(folder: Path) -> None:
    from tddfa3.from_row import FaceNumbers, FaceRebuilder
    from tddfa3.outputs import Outputs

    [row] = ds.dataset(folder / "out" / "annotations").to_table(
        filter=ds.field("image_id") == "root/0.png"
    ).to_pylist()  # fmt: skip
    rebuild = FaceRebuilder(AssetBundle.load("open"), Outputs(meshes=("pca",)))
    # The row holds the refined face, which is not refined again.
    [face] = rebuild([FaceNumbers.from_row(row)])
    np.testing.assert_allclose(face.landmarks["68"].ravel(), row["ldm68"], rtol=0, atol=1e-2)
