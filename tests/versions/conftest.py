"""Labels to read: photographs labelled by the job as people start it, and a compaction of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.support.programs import run_module
from tests.versions.venvs import Venvs

LABEL_OPTIONS = ("--masks", "seg,seg_visible,rle", "--meshes", "pca", "--mesh-format", "glb")


@pytest.fixture(scope="session")
def venvs(pytestconfig: pytest.Config) -> Venvs:
    return Venvs(pytestconfig.cache.mkdir("venvs"))


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face twice, once under a name that no URL takes as it is; no face; no image."""
    folder = tmp_path_factory.mktemp("versions") / "in"
    folder.mkdir()
    photo = skimage.data.astronaut()
    Image.fromarray(photo).save(folder / "astronaut.png")
    Image.fromarray(np.ascontiguousarray(photo[:, ::-1])).save(folder / "é mirrored 100%.jpg")
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / "grey.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
    return folder


@pytest.fixture(scope="session")
def output(photographs: Path) -> Path:
    folder = photographs.parent
    done = run_module(folder, "jobs.label", "in", "out", *LABEL_OPTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "out"


@pytest.fixture(scope="session")
def compaction(output: Path) -> Path:
    done = run_module(output.parent, "jobs.compact", "out", "compacted")
    assert done.returncode == 0, done.stdout + done.stderr
    return output.parent / "compacted"
