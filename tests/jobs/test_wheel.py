"""A wheel of this repository, in an environment that knows nothing of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import skimage.data
from packaging.version import Version
from PIL import Image

import tddfa3
from tests.support.programs import ROOT

pytestmark = pytest.mark.slow

BUILDS_LICENCE_FIELDS = Version("77")
"""The setuptools that pyproject.toml asks for; with an older one pip fetches its own."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tracked files, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    command = ["-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), "./source"]
    if Version(metadata.version("setuptools")) >= BUILDS_LICENCE_FIELDS:
        command.append("--no-build-isolation")
    run(folder, sys.executable, *command)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the wheel alone; its dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(folder, str(python), "-m", "pip", "install", "--no-deps", "--no-index", str(wheel))
    [packages] = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but the .pth files in it are not read, so that an editable
    # installation of the checkout is not seen.
    others = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in others))
    return folder


def run(folder: Path, *command: str) -> str:
    """What a command says on stdout; it has to succeed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_in_it(wheel: Path) -> None:
    assert wheel.name.startswith(f"tddfa3-{tddfa3.__version__}-")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("tddfa3/py.typed", "jobs/py.typed", "jobs/report_page/page.html.j2"):
        assert wanted in names
    assert [name for name in names if name.endswith("share/tddfa3/assets/open/bundle.json")]
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("tddfa3-")} == {"tddfa3", "jobs"}


def test_it_is_the_wheel_that_is_used(environment: Path, tmp_path: Path) -> None:
    program = "import jobs, tddfa3; print(jobs.__file__); print(tddfa3.__file__)"
    for path in run(tmp_path, str(environment / "bin" / "python"), "-c", program).split():
        assert Path(path).is_relative_to(environment)


def test_version(environment: Path, tmp_path: Path) -> None:
    said = run(tmp_path, str(environment / "bin" / "tddfa3"), "--version")
    assert said == f"tddfa3 {tddfa3.__version__}\n"


def test_it_labels_a_photograph(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo = np.ascontiguousarray(skimage.data.astronaut())
    Image.fromarray(photo).save(tmp_path / "photos" / "astronaut.png")
    program = str(environment / "bin" / "tddfa3")
    run(tmp_path, program, "label", "photos", "labels", "--actors", "1")
    [row] = ds.dataset(tmp_path / "labels" / "annotations").to_table().to_pylist()
    assert (row["image_id"], row["status"], row["n_faces"]) == ("root/astronaut.png", "ok", 1)
    assert run(tmp_path, program, "verify", "labels").endswith("proved\n")
