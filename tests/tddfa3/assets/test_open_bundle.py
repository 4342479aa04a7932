"""The bundle that comes with tddfa3: what is in it, how it is made, how it may be damaged."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tddfa3.assets import default
from tddfa3.assets.__main__ import main
from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.convert import read_mtcnn
from tddfa3.assets.open_bundle import make_open_bundle
from tddfa3.errors import AssetError

MOST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def weights(open_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the right network, wide as a training leaves them."""
    file = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    tensors = open_bundle.tensors("backbone_efficientlite")
    save_file({name: tensor.float() for name, tensor in tensors.items()}, file)
    return file


@pytest.fixture(scope="module")
def made(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> AssetBundle:
    return make_open_bundle(tmp_path_factory.mktemp("made") / "open", weights)


@pytest.fixture
def copy(open_bundle: AssetBundle, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return Path(shutil.copytree(open_bundle.path, tmp_path / "bundle"))


def test_what_is_in_it(open_bundle: AssetBundle) -> None:
    assert open_bundle.name == "open"
    assert (open_bundle.choose_backbone(), open_bundle.choose_detector()) == (
        "efficientlite",
        "mtcnn",
    )
    assert (open_bundle.lighting, open_bundle.refine) == ("solve", "points")
    for entry in open_bundle.files.values():
        assert entry["licence"].startswith("MIT")
    files = [path for path in open_bundle.path.iterdir() if path.is_file()]
    assert {path.name for path in files} == {
        *(open_bundle.files),
        *("bundle.json", "README.md", "LICENSES.txt"),
    }
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_the_card_names_every_part_and_its_licence(open_bundle: AssetBundle) -> None:
    card = (open_bundle.path / "README.md").read_text()
    for name in ("MTCNN", "EfficientNet-Lite0", "MediaPipe", "MIT", "Apache-2.0", "identity"):
        assert name in card
    licences = (open_bundle.path / "LICENSES.txt").read_text()
    for name in (*open_bundle.files, "MIT License", "Apache License", "Iván de Paz Centeno"):
        assert name in licences


def test_every_digest_is_right(open_bundle: AssetBundle) -> None:
    for name, digest in open_bundle.digests.items():
        assert hashlib.sha256((open_bundle.path / name).read_bytes()).hexdigest() == digest


def test_it_is_what_the_code_and_the_weights_give(
    open_bundle: AssetBundle, made: AssetBundle
) -> None:
    """The numbers, not their last bits, which other versions of NumPy may round otherwise."""
    ours, committed = made.face_model().to_arrays(), open_bundle.face_model().to_arrays()
    assert ours.keys() == committed.keys()
    for name, array in ours.items():
        wanted = committed[name]
        if array.dtype.kind == "i":
            np.testing.assert_array_equal(array, wanted, err_msg=name)
        else:
            np.testing.assert_allclose(array, wanted, rtol=2**-9, atol=2e-4, err_msg=name)
    assert (
        made.digests["backbone_efficientlite.safetensors"]
        == (open_bundle.digests["backbone_efficientlite.safetensors"])
    )


def test_the_same_weights_give_the_same_bytes(
    made: AssetBundle, weights: Path, tmp_path: Path
) -> None:
    again = make_open_bundle(tmp_path / "again", weights)
    for path in made.path.iterdir():
        assert (again.path / path.name).read_bytes() == path.read_bytes()
    assert make_open_bundle(tmp_path / "again", weights).digest == made.digest


def test_arrays_are_wide_when_they_are_read(open_bundle: AssetBundle) -> None:
    data = open_bundle.face_model()
    for name, array in data.to_arrays().items():
        wanted = {"f": (np.float32, np.float64), "i": (np.int32,)}[array.dtype.kind]
        assert array.dtype in wanted, name
    assert data.sizes == open_bundle.sizes
    stored = open_bundle.tensors("face_model")
    assert stored["id_basis"].dtype == torch.float16
    assert stored["triangles"].dtype == torch.uint16


def test_the_detector_is_the_packages(open_bundle: AssetBundle) -> None:
    original = read_mtcnn()
    for name, tensor in open_bundle.tensors("mtcnn").items():
        torch.testing.assert_close(tensor.float(), original[name], rtol=1e-3, atol=1e-6)


def test_the_command(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A card")
    command = ["open", str(tmp_path / "made"), "--weights", str(weights), "--texts", str(card)]
    assert main(command) == 0
    made = AssetBundle.load(tmp_path / "made")
    assert capsys.readouterr().out == f"{made.path}  {made.digest}\n"
    assert (made.path / "README.md").read_text() == "# A card"
    assert main(["describe"]) == 0
    assert AssetBundle.load().digest in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_weights_that_cannot_be_read(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "w.safetensors"
    if content is not None:
        file.write_bytes(content)
    assert main(["open", str(tmp_path / "made"), "--weights", str(file)]) == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "made").exists()


def changed_byte(folder: Path) -> None:
    path = folder / "backbone_efficientlite.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lacking(folder: Path) -> None:
    (folder / "mtcnn.safetensors").unlink()


def disagreeing(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["coefficients"]["exp"] += 1
    (folder / "bundle.json").write_text(json.dumps(manifest))


def foreign_weights(folder: Path) -> None:
    """A backbone whose heads are of other sizes than the face model's."""
    path = folder / "backbone_efficientlite.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, path)
    manifest = json.loads((folder / "bundle.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["files"][path.name] |= {"bytes": path.stat().st_size, "sha256": digest}
    (folder / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (changed_byte, "was changed or damaged"),
        (lacking, "is missing"),
        (disagreeing, r"has exp=\d+, but bundle.json says"),
        (foreign_weights, "weight stem.weight has shape"),
    ],
)
def test_a_damaged_one_is_one_line(
    copy: Path, damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    from tddfa3.labeler import FaceLabeler

    damage(copy)
    with pytest.raises(AssetError, match=says) as error:
        FaceLabeler(AssetBundle.load(copy), engine="torch")
    assert "\n" not in str(error.value)


def test_it_is_found_wherever_pip_put_it(
    open_bundle: AssetBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed(str):
        def as_posix(self) -> str:
            return str(self)

        def locate(self) -> Path:
            return tmp_path / "share/tddfa3/assets/open/bundle.json"

    shutil.copytree(open_bundle.path, tmp_path / "share/tddfa3/assets/open")
    monkeypatch.setattr(default, "_BESIDE_THE_CODE", tmp_path / "nowhere")
    listed = [Installed("tddfa3/__init__.py"), Installed("x/share/tddfa3/assets/open/bundle.json")]
    monkeypatch.setattr(default.metadata, "files", lambda name: listed)
    assert AssetBundle.load("open").path == tmp_path / "share/tddfa3/assets/open"


def test_pip_takes_all_of_its_files(open_bundle: AssetBundle) -> None:
    text = (open_bundle.path.parents[1] / "pyproject.toml").read_text()
    [listed] = re.findall(r'"share/tddfa3/assets/open" = \[(.*?)\]', text, re.DOTALL)
    patterns = re.findall(r'"assets/open/(.*?)"', listed)
    for name in (*open_bundle.files, "bundle.json", "README.md", "LICENSES.txt"):
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_an_installation_without_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default, "_BESIDE_THE_CODE", tmp_path / "nowhere")
    monkeypatch.setattr(default.metadata, "files", lambda name: [])
    with pytest.raises(AssetError, match="install tddfa3 again"):
        AssetBundle.load("open")
