"""The bundle that comes with tddfa3 on photographs, through the job: near what MediaPipe found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_PERCENT = 5.5
"""Mean distance of 68 landmarks, of the distance of the outer eye corners."""


@pytest.fixture(scope="module")
def references(shared: Path) -> dict[str, np.ndarray]:
    """Name of a photograph -> (68, 2) MediaPipe's points in pixels."""
    files = sorted((shared / "photos").glob("*.mediapipe68.txt"))
    return {path.name.partition(".")[0]: np.loadtxt(path) for path in files}


@pytest.fixture(scope="module")
def labelled(
    shared: Path, references: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[np.ndarray]]:
    """Name of a photograph -> (68, 2) of each of its faces."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "in").mkdir()
    for path in (shared / "photos").iterdir():
        if path.suffix in (".jpg", ".png"):
            shutil.copy(path, folder / "in")
    command = ["-m", "jobs.label", str(folder / "in"), str(folder / "out"), "--faces", "all"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, timeout=500)
    found: dict[str, list[np.ndarray]] = {name: [] for name in references}
    table = ds.dataset(folder / "out" / "annotations").to_table(columns=["key", "ldm68"])
    for row in table.to_pylist():
        if row["ldm68"] is not None:
            found[Path(row["key"]).stem].append(np.reshape(row["ldm68"], (68, 2)))
    return found


@pytest.mark.slow
def test_landmarks_lie_where_mediapipe_found_them(
    labelled: dict[str, list[np.ndarray]], references: dict[str, np.ndarray]
) -> None:
    assert len(references) == 14
    errors = {}
    for name, reference in references.items():
        scale = np.linalg.norm(reference[45] - reference[36])
        of_faces = [np.linalg.norm(f - reference, axis=1).mean() / scale for f in labelled[name]]
        errors[name] = 100 * min(of_faces, default=np.inf)
    assert np.mean(list(errors.values())) <= MOST_PERCENT, errors
