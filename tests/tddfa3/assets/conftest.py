"""Small assets in 3DDFA-V3's own file formats, and small bundles that a test may damage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.generators.synthetic import synthesize
from tddfa3.assets.generators.synthetic.face import similarity_landmarks, synthetic_face_model
from tddfa3.assets.generators.synthetic.seeded import NamedRandom
from tddfa3.assets.generators.synthetic.upstream_files import write_upstream_files
from tddfa3.assets.upstream import MBNETV3_PTH


@pytest.fixture(scope="session")
def upstream_files(tmp_path_factory: pytest.TempPathFactory, small_bundle: AssetBundle) -> Path:
    """Upstream's files of the assets that ``small_bundle`` was made of; not to be changed."""
    folder = tmp_path_factory.mktemp("upstream")
    face = synthetic_face_model(NamedRandom(0), small_bundle.manifest["topology"]["vertices"])
    networks = {MBNETV3_PTH: small_bundle.tensors("backbone_mbnetv3")}
    write_upstream_files(folder, face, similarity_landmarks(face), networks)
    return folder


@pytest.fixture(scope="session")
def _face() -> dict[str, Any]:
    return synthetic_face_model(NamedRandom(3), 1000)


@pytest.fixture
def face(_face: dict[str, Any]) -> dict[str, Any]:
    """The content of a ``face_model.npy`` that a test may change."""
    return {
        key: list(value) if isinstance(value, list) else value.copy()
        for key, value in _face.items()
    }


@pytest.fixture
def upstream_folder(
    tmp_path: Path, face: dict[str, Any]
) -> Callable[[dict[str, Any] | None], Path]:
    """Writes a folder of upstream's files without networks, with some keys of the face replaced."""
    landmarks = similarity_landmarks(face)

    def write(changes: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / "upstream"
        shutil.rmtree(folder, ignore_errors=True)
        write_upstream_files(folder, {**face, **(changes or {})}, landmarks, {})
        return folder

    return write


@pytest.fixture(scope="session")
def _face_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "bundle"
    return synthesize(path, seed=1, vertices=1000, backbones=(), detectors=()).path


@pytest.fixture
def face_bundle(_face_bundle: Path, tmp_path: Path) -> AssetBundle:
    """A bundle of seed 1, 1,000 vertices, no networks, which a test may damage."""
    return AssetBundle.load(shutil.copytree(_face_bundle, tmp_path / "bundle"))
