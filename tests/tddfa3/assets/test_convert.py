"""Upstream's own files become the same bundle that was made directly, or a clear error."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from tddfa3.assets import mtcnn_weights
from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.convert import convert, read_pth
from tddfa3.assets.topology import load_correspondences
from tddfa3.assets.upstream import check_heads, network_from_upstream
from tddfa3.errors import AssetError, UnavailableError

WriteFolder = Callable[..., Path]


@pytest.fixture
def upstream_copy(upstream_files: Path, tmp_path: Path) -> Path:
    """Upstream's files of a small face and one backbone, which a test may change."""
    return Path(shutil.copytree(upstream_files, tmp_path / "copy"))


def test_conversion_equals_the_bundle_made_directly(
    upstream_files: Path, small_bundle: AssetBundle, tmp_path: Path
) -> None:
    converted = convert(upstream_files, tmp_path / "bundle")
    assert converted.digests == small_bundle.digests
    assert converted.backbones == ("mbnetv3",)
    assert converted.detectors == ("mtcnn",)
    for key in ("topology", "coefficients", "landmarks", "parts", "crop"):
        assert converted.manifest[key] == small_bundle.manifest[key]


def test_licence_and_inputs_are_recorded(upstream_files: Path, tmp_path: Path) -> None:
    converted = convert(upstream_files, tmp_path / "bundle")
    assert "non-commercial" in converted.licence
    assert "Basel Face Model" in converted.notice
    assert converted.files["mtcnn.safetensors"]["licence"].startswith("MIT")
    assert set(converted.manifest["recipe"]["inputs"]) == {
        "face_model.npy",
        "similarity_Lm3D_all.mat",
        "net_recon_mbnet.pth",
    }


def test_converting_again_returns_the_bundle_that_is_there(
    upstream_folder: WriteFolder, tmp_path: Path
) -> None:
    first = convert(upstream_folder(), tmp_path / "bundle")
    inode = (first.path / "bundle.json").stat().st_ino
    second = convert(upstream_folder(), tmp_path / "bundle")
    assert (second.path / "bundle.json").stat().st_ino == inode


def test_the_older_pth_format_and_its_prefix(upstream_copy: Path, tmp_path: Path) -> None:
    path = upstream_copy / "net_recon_mbnet.pth"
    content = read_pth(path)
    prefixed = {f"module.{key}": tensor for key, tensor in content["net_recon"].items()}
    torch.save({"net_recon": prefixed}, path, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")
    tensors = convert(upstream_copy, tmp_path / "bundle").tensors("backbone_mbnetv3")
    assert tensors.keys() == content["net_recon"].keys()
    assert all(torch.equal(tensors[key], value) for key, value in content["net_recon"].items())


def test_missing_networks_are_left_out_with_a_warning(
    upstream_folder: WriteFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        converted = convert(upstream_folder(), tmp_path / "bundle")
    assert converted.backbones == ()
    missing = [record.message for record in caplog.records if "is missing" in record.message]
    assert len(missing) == 4


def test_without_the_mtcnn_package(
    upstream_folder: WriteFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtcnn_weights, "PACKAGE", "a-package-that-is-not-there")
    with pytest.raises(UnavailableError, match="pip install"):
        mtcnn_weights.package_version()
    assert convert(upstream_folder(), tmp_path / "bundle").detectors == ()


@pytest.mark.parametrize("name", ["face_model.npy", "similarity_Lm3D_all.mat"])
def test_required_files(upstream_folder: WriteFolder, tmp_path: Path, name: str) -> None:
    folder = upstream_folder()
    (folder / name).unlink()
    with pytest.raises(AssetError, match=f"{name} is missing"):
        convert(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_no_folder_and_a_bundle_in_place_of_one(small_bundle: AssetBundle, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="there is no folder"):
        convert(tmp_path / "absent", tmp_path / "bundle")
    with pytest.raises(AssetError, match="is a bundle already"):
        convert(small_bundle.path, tmp_path / "bundle")


@pytest.mark.parametrize("columns", [2, 3])
def test_uv_may_have_a_third_column(
    upstream_folder: WriteFolder, face: dict[str, Any], tmp_path: Path, columns: int
) -> None:
    uv = np.pad(face["uv_coords"], ((0, 0), (0, columns - 2)))
    data = convert(upstream_folder({"uv_coords": uv}), tmp_path / "bundle").face_model()
    np.testing.assert_array_equal(data.uv, face["uv_coords"])


def test_index_columns_floats_and_python_lists_are_taken(
    upstream_folder: WriteFolder, face: dict[str, Any], tmp_path: Path
) -> None:
    """Files that went through MATLAB or through lists hold the same indices in other forms."""
    changes = {
        "ldm68": face["ldm68"].reshape(-1, 1).astype(np.float64),
        "tri": face["tri"].astype(np.uint32),
        "parallel": [row.tolist() for row in face["parallel"]],
    }
    data = convert(upstream_folder(changes), tmp_path / "bundle").face_model()
    np.testing.assert_array_equal(data.landmarks["68"], face["ldm68"])
    np.testing.assert_array_equal(data.triangles, face["tri"])
    np.testing.assert_array_equal(data.parallel[3], face["parallel"][3])


def wrong_faces() -> list[tuple[str, Callable[[dict[str, Any]], Any], str]]:
    """Key, its wrong value made from a right face, and what the message must say."""

    def with_value(key: str, place: Any, value: Any) -> Callable[[dict[str, Any]], Any]:
        def change(face: dict[str, Any]) -> Any:
            array = face[key].copy()
            array[place] = value
            return array

        return change

    return [
        ("u", with_value("u", 5, np.nan), "mean_shape has values that are not finite"),
        ("id", with_value("id", (0, 0), np.inf), "id_basis has values that are not finite"),
        ("exp", lambda face: face["exp"][:-3], r"exp_basis has shape \(999, 3, 64\)"),
        ("alb", lambda face: face["alb"][:-1], r"alb has shape \(2999, 80\), not \(3 V, n\)"),
        ("u_alb", lambda face: np.array(["x"] * 3000), "face_model.npy"),
        ("uv_coords", lambda face: face["uv_coords"] * 3, r"outside 0\.\.1"),
        ("uv_coords", lambda face: face["uv_coords"][:, :1], r"\(1000, 1\), not \(V, 2\)"),
        ("tri", with_value("tri", (0, 0), 1000), r"triangles has indices 0\.\.1000; .*0\.\.999"),
        ("tri", with_value("tri", (0, 0), -1), r"tri has indices -1\.\."),
        ("point_buf", with_value("point_buf", (0, 0), 10**6), "vertex_triangles has indices"),
        ("ldm68", lambda face: face["ldm68"][:-1], r"shape \(67,\), not \(68\)"),
        ("ldm106", with_value("ldm106", 3, 5000), "landmarks.*106.*5000"),
        ("ldm134", lambda face: face["ldm134"] + 0.5, "ldm134 holds float64, not integers"),
        ("annotation", lambda face: face["annotation"][:-1], "8 part_names, 7 part_vertices"),
        ("annotation", lambda face: 3, "annotation is a int, not a list"),
        (
            "annotation_tri",
            lambda face: [face["annotation_tri"][0] + 1000, *face["annotation_tri"][1:]],
            "part_triangles of right_eye has indices",
        ),
        ("parallel", lambda face: face["parallel"][:32], "parallel has 32 rows, not 33"),
    ]


@pytest.mark.parametrize(("key", "change", "message"), wrong_faces())
def test_a_face_model_that_does_not_fit_its_topology(
    upstream_folder: WriteFolder,
    face: dict[str, Any],
    tmp_path: Path,
    key: str,
    change: Callable[[dict[str, Any]], Any],
    message: str,
) -> None:
    with pytest.raises(AssetError, match=message) as caught:
        convert(upstream_folder({key: change(face)}), tmp_path / "bundle")
    assert "face_model.npy" in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_missing_keys_are_named(upstream_folder: WriteFolder, tmp_path: Path) -> None:
    folder = upstream_folder()
    np.save(folder / "face_model.npy", np.array({"u": np.zeros((9, 1))}, dtype=object))
    with pytest.raises(AssetError, match=r"face_model\.npy lacks id, exp.*parallel"):
        convert(folder, tmp_path / "bundle")


@pytest.mark.parametrize("landmarks", [np.zeros((67, 3)), np.full((68, 3), np.nan)])
def test_mean_landmarks_that_can_not_be_used(
    upstream_folder: WriteFolder, tmp_path: Path, landmarks: np.ndarray[Any, Any]
) -> None:
    folder = upstream_folder()
    scipy.io.savemat(folder / "similarity_Lm3D_all.mat", {"lm": landmarks})
    with pytest.raises(AssetError, match=r"lm must be \(68, 3\) finite numbers"):
        convert(folder, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["face_model.npy", "similarity_Lm3D_all.mat"])
@pytest.mark.parametrize("keep", [0, 40, 1000])
def test_truncated_files(
    upstream_folder: WriteFolder, tmp_path: Path, name: str, keep: int
) -> None:
    folder = upstream_folder()
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(AssetError, match=f"{name} is damaged or not the expected file"):
        convert(folder, tmp_path / "bundle")


def test_a_truncated_network(upstream_copy: Path, tmp_path: Path) -> None:
    path = upstream_copy / "net_recon_mbnet.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(AssetError, match=r"net_recon_mbnet\.pth is damaged"):
        convert(upstream_copy, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": {}}, "no dictionary of tensors under 'net_recon'"),
        ({"net_recon": {}}, "no dictionary of tensors under 'net_recon'"),
        ([1], "no dictionary of tensors"),
        ({"net_recon": {"a": 1}}, "'a' is a int, not a tensor"),
        ({"net_recon": {"a": torch.tensor([torch.nan])}}, "a has values that are not finite"),
    ],
)
def test_content_that_is_no_network(content: Any, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        network_from_upstream(content, "net_recon.pth", "net_recon")


def test_a_backbone_for_another_face_model(small_bundle: AssetBundle) -> None:
    tensors = small_bundle.tensors("backbone_mbnetv3")
    tensors["final_layers.1.weight"] = tensors["final_layers.1.weight"][:50]
    with pytest.raises(AssetError, match=r"heads give \[80, 50, 80, 3, 27, 2, 1\] numbers, but"):
        check_heads(tensors, small_bundle.face_model(), "net_recon.pth")


def test_correspondence_files_are_taken_into_the_bundle(
    upstream_folder: WriteFolder, tmp_path: Path
) -> None:
    folder = upstream_folder()
    indices = np.random.default_rng(0).permutation(1500)[:1000]
    np.save(folder / "indices_1500_1000.npy", indices)
    bundle = convert(folder, tmp_path / "bundle")
    assert bundle.manifest["correspondences"] == ["1500_1000"]
    (correspondence,) = load_correspondences(bundle).values()
    np.testing.assert_array_equal(correspondence.indices, indices)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.arange(999), "must hold 1000 integers"),
        (np.arange(1000) + 600, r"indices 600\.\.1599; they must lie in 0\.\.1499"),
        (np.arange(1000) / 2, "must hold 1000 integers, found float64"),
    ],
)
def test_a_wrong_correspondence_file(
    upstream_folder: WriteFolder, tmp_path: Path, indices: np.ndarray[Any, Any], message: str
) -> None:
    folder = upstream_folder()
    np.save(folder / "indices_1500_1000.npy", indices)
    with pytest.raises(AssetError, match=message):
        convert(folder, tmp_path / "bundle")
