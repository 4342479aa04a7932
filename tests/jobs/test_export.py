"""``jobs.export``: what comes out equals what the job had, whichever way it is asked for."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.dataset as ds
import pytest
import scipy.io
import trimesh
import webdataset as wds
from PIL import Image

from jobs import export
from tddfa3.assets.bundle import AssetBundle
from tddfa3.geometry.camera import from_pose_para
from tddfa3.geometry.crop import CropTransform
from tddfa3.images.rle import decode_rle
from tests.support.made_run import FACES, make_run


@pytest.fixture(scope="module")
def output(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(small_bundle, tmp_path_factory.getbasetemp() / "made-run")


@pytest.fixture(scope="module")
def faces(output: Path) -> dict[str, dict[str, Any]]:
    """Rows of faces by image id."""
    rows = ds.dataset(output / "annotations").to_table().to_pylist()
    return {row["image_id"]: row for row in rows if row["face_index"] is not None}


def run(output: Path, dest: Path, *options: str) -> None:
    assert export.main([str(output), str(dest), *options]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def labels_of(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


def read_mesh(path: Path) -> Any:
    """A file of one mesh; of a GLB older versions of trimesh would make a scene."""
    return trimesh.load(path, process=False, force="mesh")


def test_meshes_are_those_that_the_job_wrote(
    output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    for form in ("ply", "obj", "glb"):
        shard = "photos" if form == "ply" else "more.tar"
        options = ("--mesh-format", form, "--where", f"shard = '{shard}'")
        run(output, tmp_path, "--meshes", "both", *options)
        for row in (row for row in faces.values() if row["shard"] == shard):
            for source in ("pca", "extracted"):
                uri = row[f"mesh_{source}_uri"]
                job = read_mesh(output / uri)
                ours = read_mesh((tmp_path / uri).with_suffix(f".{form}"))
                np.testing.assert_allclose(ours.vertices, job.vertices, atol=1e-5)
                np.testing.assert_array_equal(ours.faces, job.faces)
                colors = ours.visual.vertex_colors.astype(int) - job.visual.vertex_colors
                assert np.abs(colors).max() <= 1


def test_a_mesh_in_the_photographs_camera(
    output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path, small_bundle: AssetBundle
) -> None:
    run(output, tmp_path, "--meshes", "pca", "--mesh-frame", "image")
    vertices = small_bundle.face_model().landmarks["68"]
    for row in faces.values():
        path = tmp_path / row["mesh_pca_uri"].replace("_pca.ply", ".ply")
        mesh = read_mesh(path)
        points = mesh.vertices @ np.reshape(row["camera_K"], (3, 3)).T
        points = points[:, :2] / points[:, 2:]
        np.testing.assert_allclose(points[vertices], np.reshape(row["ldm68"], (68, 2)), atol=0.01)


def test_pts(output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """300W's format, with pixels counted from 1."""
    run(output, tmp_path, "--landmarks", "pts", "--landmark-sets", "68,134")
    for kind, count in (("", 68), ("_134", 134)):
        text = (tmp_path / f"landmarks/photos/mirrored.jpg_0{kind}.pts").read_text().split("\n")
        assert text[:3] == ["version: 1", f"n_points: {count}", "{"]
        assert text[-2:] == ["}", ""]
        points = np.array([line.split() for line in text[3:-2]], float) - 1
        expected = np.reshape(faces["photos/mirrored.jpg"][f"ldm{count}"], (count, 2))
        np.testing.assert_allclose(points, expected, atol=1e-5)
    assert len(contents(tmp_path / "landmarks")) == 2 * FACES


def test_landmark_json(output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    run(output, tmp_path, "--landmarks", "json")
    about = json.loads((tmp_path / "landmarks/photos/astronaut.png_0.json").read_text())
    row = faces["photos/astronaut.png"]
    assert about["image_id"] == "photos/astronaut.png"
    assert about["landmarks"].keys() == about["visible"].keys() == {"68", "106", "106_2d", "134"}
    assert np.ravel(about["landmarks"]["106_2d"]).tolist() == row["ldm106_2d"]
    assert about["visible"]["68"] == row["ldm68_visible"]
    assert np.ravel(about["points5"]).tolist() == row["points5"]
    assert about["box"] == row["box"]


def test_poses(output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    run(output, tmp_path, "--poses")
    row = faces["photos/astronaut.png"]
    mat = scipy.io.loadmat(tmp_path / "poses/photos/astronaut.png_0.mat")
    crop = CropTransform.from_params(row["crop_params"])
    angle, trans = from_pose_para(mat["Pose_Para"][0], crop)
    np.testing.assert_allclose(angle, row["coef_angle"], atol=1e-6)
    np.testing.assert_allclose(trans, row["coef_trans"], atol=1e-6)
    assert mat["Shape_Para"].shape == (80, 1)
    assert mat["Exp_Para"].shape == (64, 1)
    assert mat["Illum_Para"].shape == (1, 27)
    np.testing.assert_allclose(mat["Tex_Para"][:, 0], row["coef_alb"])
    np.testing.assert_allclose(mat["pt2d"].T - 1, np.reshape(row["ldm68"], (68, 2)), atol=1e-4)
    np.testing.assert_allclose(mat["roi"][0] - 1, row["box"], atol=1e-4)


def test_masks(output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """PNG, COCO and the job's own RLE say the same."""
    run(output, tmp_path / "image", "--masks", "png,coco")
    run(output, tmp_path / "crop", "--masks", "png", "--mask-frame", "crop")
    coco = json.loads((tmp_path / "image/masks.coco.json").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    images = {image["id"]: image for image in coco["images"]}
    ids = [a["id"] for a in coco["annotations"]]
    assert len(set(ids)) == len(ids)
    assert {image["file_name"] for image in images.values()} == faces.keys()
    for image_id, row in faces.items():
        name = row["mesh_pca_uri"].removeprefix("meshes/").replace("_pca.ply", ".png")
        labels = labels_of((tmp_path / "image/masks" / name).read_bytes())
        assert labels.shape == (row["image_height"], row["image_width"])
        small = labels_of((tmp_path / "crop/masks" / name).read_bytes())
        np.testing.assert_array_equal(small, labels_of(row["seg_visible"]))
        rle = json.loads(row["masks_rle"])
        of_image = {
            names[a["category_id"]]: a
            for a in coco["annotations"]
            if images[a["image_id"]]["file_name"] == image_id
        }
        for label, part in names.items():
            mask = labels == label
            np.testing.assert_array_equal(decode_rle(rle[part]), mask)
            if not mask.any():
                assert part not in of_image
                continue
            about = of_image[part]
            np.testing.assert_array_equal(decode_rle(about["segmentation"]), mask)
            assert about["area"] == mask.sum()
            x, y, width, height = about["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
            assert mask[y].any()
            assert mask[y + height - 1].any()
            assert mask[:, x].any()
            assert mask[:, x + width - 1].any()


@pytest.mark.parametrize("images", ["photo", "crop"])
def test_webdataset(
    output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path, images: str
) -> None:
    run(output, tmp_path, "--layout", "webdataset", "--samples-per-shard", "3",
        "--images", images)  # fmt: skip
    shards = sorted(str(p) for p in tmp_path.glob("*.tar"))
    assert [Path(p).name for p in shards] == ["faces-000000.tar", "faces-000001.tar"]
    samples = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert len({sample["__key__"] for sample in samples}) == len(samples) == FACES
    for sample in samples:
        row = faces[sample["json"]["image_id"]]
        numbers = [row[f"coef_{n}"] for n in ("id", "exp", "alb", "angle", "sh", "trans")]
        np.testing.assert_array_equal(
            sample["coefficients.npy"], np.concatenate(numbers).astype(np.float32)
        )
        points = sample["ldm68.npy"]
        if images == "crop":
            assert sample["crop.png"].shape == (224, 224, 3)
            points = CropTransform.from_params(row["crop_params"]).to_image(points)
        else:
            [photo] = [v for k, v in sample.items() if k in ("png", "jpg")]
            assert photo.shape == (row["image_height"], row["image_width"], 3)
        np.testing.assert_allclose(points, np.reshape(row["ldm68"], (68, 2)), atol=1e-3)
        visible = sample["seg_visible.png"]
        np.testing.assert_array_equal(visible[..., 0], labels_of(row["seg_visible"]))


def test_a_webdataset_photo_is_the_one_that_was_labelled(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path, "--layout", "webdataset", "--where", "key = 'mirrored.jpg'")
    with tarfile.open(tmp_path / "faces-000000.tar") as tar:
        [name] = [n for n in tar.getnames() if n.endswith(".jpg")]
        data = tar.extractfile(name).read()
    assert data == (output.parent / "in/photos/mirrored.jpg").read_bytes()


def test_upstream_layout(output: Path, faces: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """The files that 3DDFA-V3's demo writes, with the arrays in its types."""
    run(output, tmp_path, "--layout", "upstream", "--where", "key = 'mirrored.jpg'")
    files = contents(tmp_path)
    stem = "mirrored/mirrored"
    assert {name for name in files if not name.startswith("_export")} == {
        f"{stem}.png", f"{stem}.npy", f"{stem}_pcaTex.obj", f"{stem}_extractTex.obj",
    }  # fmt: skip
    row = faces["photos/mirrored.jpg"]
    content = np.load(io.BytesIO(files[f"{stem}.npy"]), allow_pickle=True).item()
    assert list(content) == ["ldm68", "ldm106", "ldm106_2d", "ldm134", "seg_visible", "seg"]
    for name in ("68", "106", "106_2d", "134"):
        points = content[f"ldm{name}"]
        assert points.dtype == np.float32
        np.testing.assert_allclose(points.ravel(), row[f"ldm{name}"], atol=1e-3)
    assert content["seg_visible"].shape == (512, 512, 1)
    assert content["seg"].shape == (512, 512, 8)
    assert content["seg"].dtype == content["seg_visible"].dtype == np.float64
    crop = CropTransform.from_params(row["crop_params"])
    visible, full = labels_of(row["seg_visible"]), labels_of(row["seg"])
    np.testing.assert_array_equal(content["seg_visible"][..., 0], crop.labels_to_image(visible))
    for i in range(8):
        mask = crop.labels_to_image(((full >> i) & 1).astype(np.uint8)) * 255.0
        np.testing.assert_array_equal(content["seg"][..., i], mask)
    for source, name in (("pca", "pcaTex"), ("extracted", "extractTex")):
        lines = files[f"{stem}_{name}.obj"].decode().splitlines()
        vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
        job = read_mesh(output / row[f"mesh_{source}_uri"])
        assert vertices.shape == (len(job.vertices), 6)
        np.testing.assert_allclose(vertices[:, :3], job.vertices, atol=1e-5)
        assert vertices[:, 3:].min() >= 0
        assert vertices[:, 3:].max() <= 1
        corners = [line.split()[1:] for line in lines if line.startswith("f ")]
        np.testing.assert_array_equal(np.array(corners, int) - 1, job.faces)
    with Image.open(io.BytesIO(files[f"{stem}.png"])) as picture:
        assert picture.width > 512


def test_photographs_of_one_name_do_not_overwrite_each_other(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path, "--layout", "upstream", "--where", "key LIKE '%astronaut%'")
    folders = [p for p in tmp_path.iterdir() if p.name != "_export"]
    assert len(folders) == 3
    for folder in folders:
        assert (folder / f"{folder.name}.npy").is_file()


def test_a_second_time_nothing_is_done(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is gone or cut is made again, byte by byte as it was."""
    options = ("--meshes", "pca", "--poses", "--masks", "coco")
    run(output, tmp_path, *options)
    before = contents(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "meshes").rglob("*.ply")}
    capsys.readouterr()
    run(output, tmp_path, *options)
    assert f"0 faces, 0 files, 0.0 MB: {tmp_path} ({FACES} faces were there" in (
        capsys.readouterr().out
    )
    assert {p: p.stat().st_mtime_ns for p in times} == times
    (tmp_path / "poses/photos/astronaut.png_0.mat").unlink()
    (tmp_path / "meshes/photos/mirrored.jpg_0.ply").write_bytes(b"ply")
    run(output, tmp_path, *options)
    assert contents(tmp_path) == before


def test_other_options_do_not_take_files_for_done(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path, "--meshes", "pca")
    crop = contents(tmp_path / "meshes")
    run(output, tmp_path, "--meshes", "pca", "--mesh-frame", "image")
    image = contents(tmp_path / "meshes")
    assert image.keys() == crop.keys()
    assert all(image[name] != crop[name] for name in image)


def test_workers_write_the_same_files(output: Path, tmp_path: Path, local_ray: None) -> None:
    options = ("--meshes", "extracted", "--masks", "coco", "--landmarks", "pts")
    run(output, tmp_path / "here", *options)
    run(output, tmp_path / "ray", *options, "--workers", "2")
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_errors_of_workers_are_told_as_here(
    output: Path, tmp_path: Path, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "poses").write_text("a file in the way of a folder")
    messages = []
    for workers in ("0", "1"):
        code = export.main([str(output), str(dest), "--poses", "--workers", workers])
        assert code == 2
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"error: {dest}/poses/")


def test_limit_takes_the_first(output: Path, tmp_path: Path) -> None:
    run(output, tmp_path, "--poses", "--limit", "3")
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.mat"))
    assert len(names) == 3
    assert sum("photos" in name for name in names) == 1
