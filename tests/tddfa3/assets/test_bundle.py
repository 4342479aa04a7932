"""Opening bundles: what they tell, and a clear message for every way they can be wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tddfa3.assets.bundle import AssetBundle, FaceModelData, file_sha256
from tddfa3.errors import AssetError, UserError


def edit_manifest(bundle: AssetBundle, change: Callable[[dict[str, Any]], object]) -> None:
    path = bundle.path / "bundle.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_face_model_has_the_stated_shapes_and_types(small_bundle: AssetBundle) -> None:
    data = small_bundle.face_model()
    v, t, sizes = data.n_vertices, data.n_triangles, data.sizes
    assert (v, t) == tuple(small_bundle.manifest["topology"].values())
    assert data.mean_shape.shape == data.mean_albedo.shape == (v, 3)
    assert data.id_basis.shape == (v, 3, sizes.id)
    assert data.exp_basis.shape == (v, 3, sizes.exp)
    assert data.albedo_basis.shape == (v, 3, sizes.alb)
    assert data.uv.shape == (v, 2)
    assert data.triangles.shape == (t, 3)
    assert data.triangles.dtype == data.vertex_triangles.dtype == np.int32
    assert data.standard_points.dtype == np.float64
    assert len(data.parallel) == 33
    assert data.part_names[0] == "right_eye"
    assert data.part_names[-1] == "skin"


def test_standard_points_are_eyes_nose_mouth_as_the_viewer_sees_them(
    small_bundle: AssetBundle,
) -> None:
    left_eye, right_eye, nose, left_mouth, right_mouth = small_bundle.face_model().standard_points
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert left_mouth[1] < nose[1] < left_eye[1]


def test_arrays_survive_their_flat_form(small_bundle: AssetBundle) -> None:
    data = small_bundle.face_model()
    again = FaceModelData.from_arrays(data.to_arrays(), data.part_names)
    for name, array in data.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)


def test_tensors_by_either_name(small_bundle: AssetBundle) -> None:
    short, full = small_bundle.tensors("mtcnn"), small_bundle.tensors("mtcnn.safetensors")
    assert short.keys() == full.keys()
    assert short["pnet.convs.0.weight"].shape == (10, 3, 3, 3)


def test_describe_is_plain_data(small_bundle: AssetBundle) -> None:
    description = json.loads(json.dumps(small_bundle.describe()))
    assert description["digest"] == small_bundle.digest
    assert description["licence"] == "MIT"
    assert "mtcnn" in description["files"]["mtcnn.safetensors"]["source"]


def test_a_bundle_can_be_pickled(small_bundle: AssetBundle) -> None:
    again = pickle.loads(pickle.dumps(small_bundle))
    assert again.digest == small_bundle.digest


def test_the_digest_depends_on_every_file(face_bundle: AssetBundle) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["files"]["face_model.safetensors"]["sha256"] = "0" * 64

    edit_manifest(face_bundle, change)
    assert AssetBundle.load(face_bundle.path).digest != face_bundle.digest


@pytest.mark.parametrize("name", ["absent", "some-file"])
def test_no_bundle_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / "some-file").write_text("x")
    with pytest.raises(AssetError, match=r"tddfa3\.assets synthesize"):
        AssetBundle.load(tmp_path / name)


def test_a_folder_without_bundle_json(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"has no bundle\.json"):
        AssetBundle.load(tmp_path)


def test_upstreams_own_files_are_recognised(
    upstream_folder: Callable[[], Path],
) -> None:
    with pytest.raises(AssetError, match=r"convert them first: `python -m tddfa3\.assets convert"):
        AssetBundle.load(upstream_folder())


def test_missing_file(face_bundle: AssetBundle) -> None:
    (face_bundle.path / "face_model.safetensors").unlink()
    with pytest.raises(AssetError, match=r"face_model\.safetensors is missing"):
        AssetBundle.load(face_bundle.path)


def test_shorter_file(face_bundle: AssetBundle) -> None:
    path = face_bundle.path / "face_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AssetError, match=r"has \d+ bytes, but bundle\.json says"):
        AssetBundle.load(face_bundle.path)


def test_a_changed_byte_is_found_when_the_file_is_read(face_bundle: AssetBundle) -> None:
    path = face_bundle.path / "face_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssetError, match="was changed or damaged"):
        AssetBundle.load(face_bundle.path).face_model()
    assert AssetBundle.load(face_bundle.path, verify=False).tensors("face_model")


@pytest.mark.parametrize(("group", "name"), [("topology", "vertices"), ("coefficients", "exp")])
def test_sizes_that_disagree(face_bundle: AssetBundle, group: str, name: str) -> None:
    edit_manifest(face_bundle, lambda manifest: manifest[group].update({name: 7}))
    with pytest.raises(AssetError, match=rf"has {name}=\d+, but bundle\.json says 7"):
        AssetBundle.load(face_bundle.path).face_model()


def test_part_names_that_disagree(face_bundle: AssetBundle) -> None:
    edit_manifest(face_bundle, lambda manifest: manifest["parts"].append("beard"))
    with pytest.raises(AssetError, match="lacks the array"):
        AssetBundle.load(face_bundle.path).face_model()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["backbones"].update(vgg={"file": "x"}), "describes its networks wrongly"),
        (lambda m: m.update(backbones=[]), "describes its networks wrongly"),
        (lambda m: m["detectors"].update(mtcnn={"files": ["mtcnn.safetensors"]}), "lists no mtcnn"),
        (lambda m: m["coefficients"].update(id=0), "id is 0"),
        (lambda m: m["coefficients"].update(hair=3), "describes its networks wrongly"),
        (lambda m: m["crop"].update(focal=900.0), "is for the crop .*'focal': 900.0.*1015.0"),
        (lambda m: m.update(crop=None), "is for the crop None"),
        (lambda m: m.update(lighting="moon"), "unknown lighting 'moon'"),
        (lambda m: m.update(refine="twice"), "unknown refine 'twice'"),
    ],
)
def test_networks_that_are_not_there(
    face_bundle: AssetBundle, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    edit_manifest(face_bundle, change)
    with pytest.raises(AssetError, match=says) as error:
        AssetBundle.load(face_bundle.path)
    assert "\n" not in str(error.value)


def test_the_first_declared_is_the_default(small_bundle: AssetBundle) -> None:
    declared: dict[str, dict[str, Any]] = {name: {} for name in ("b", "a")}
    other = AssetBundle(Path("x"), {"backbones": declared, "detectors": declared})
    assert (other.choose_backbone(), other.choose_detector()) == ("b", "b")
    assert (other.choose_backbone("a"), other.choose_detector("none")) == ("a", "none")
    assert (other.choose_lighting(), other.choose_lighting("solve")) == ("network", "solve")
    with pytest.raises(UserError, match=r"backbone: .* no 'none' \(they have: b, a\)"):
        other.choose_backbone("none")
    with pytest.raises(UserError, match="choose of auto, network, solve"):
        other.choose_lighting("sun")
    assert (other.choose_refine(), other.choose_refine("points")) == ("none", "points")
    assert other.choose_refine("auto", "none") == "none"
    with pytest.raises(UserError, match="choose a detector"):
        other.choose_refine("points", "none")
    with pytest.raises(UserError, match=r"no 'auto' \(they have: none\)"):
        AssetBundle(Path("x"), {"backbones": {}}).choose_backbone()


def test_unknown_format_version(face_bundle: AssetBundle) -> None:
    edit_manifest(face_bundle, lambda manifest: manifest.update(format=99))
    with pytest.raises(AssetError, match="of format 99, this version of tddfa3 reads format 1"):
        AssetBundle.load(face_bundle.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\xff"])
def test_broken_description(face_bundle: AssetBundle, text: str) -> None:
    (face_bundle.path / "bundle.json").write_bytes(text.encode("latin1"))
    with pytest.raises(AssetError, match=r"bundle\.json"):
        AssetBundle.load(face_bundle.path)


def test_missing_key(face_bundle: AssetBundle) -> None:
    edit_manifest(face_bundle, lambda manifest: manifest.pop("topology"))
    with pytest.raises(AssetError, match="lacks topology"):
        AssetBundle.load(face_bundle.path)


def test_a_file_name_can_not_leave_the_bundle(face_bundle: AssetBundle, tmp_path: Path) -> None:
    secret = tmp_path / "secret.safetensors"
    secret.write_text("x")
    entry = {"sha256": file_sha256(secret), "bytes": 1}
    edit_manifest(
        face_bundle, lambda manifest: manifest["files"].update({"../secret.safetensors": entry})
    )
    with pytest.raises(AssetError, match="outside the bundle"):
        AssetBundle.load(face_bundle.path)


def test_a_network_the_bundle_lacks(face_bundle: AssetBundle) -> None:
    with pytest.raises(AssetError, match=r"has no retinaface\.safetensors"):
        face_bundle.tensors("retinaface")


def test_not_safetensors(face_bundle: AssetBundle) -> None:
    path = face_bundle.path / "face_model.safetensors"
    path.write_bytes(b"nonsense")
    edit_manifest(
        face_bundle,
        lambda manifest: manifest["files"][path.name].update(bytes=8, sha256=file_sha256(path)),
    )
    with pytest.raises(AssetError, match="is not a usable face model"):
        AssetBundle.load(face_bundle.path).face_model()
    with pytest.raises(AssetError, match="can't be read"):
        AssetBundle.load(face_bundle.path).tensors("face_model")
