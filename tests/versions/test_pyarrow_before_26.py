"""The programs with pyarrow 25, which Python 3.10 has at most, and without pandas."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.versions.conftest import LABEL_OPTIONS
from tests.versions.venvs import ROOT, Venvs, run

pytestmark = pytest.mark.versions

VERSION = "25.0.1"
TESTS = (
    "tests/jobs/pipeline/record/test_rows.py",
    "tests/jobs/pipeline/label/test_actor.py",
    "tests/jobs/pipeline/label/test_redoing.py",
    "tests/jobs/pipeline/label/test_published_objects.py",
    "tests/jobs/pipeline/label/test_unfinished.py",
    "tests/jobs/pipeline/record/test_index.py",
    "tests/jobs/test_version_1.py",
    "tests/jobs/test_unreadable_parts.py",
    "tests/jobs/test_status_and_verify.py",
    "tests/jobs/test_compact.py",
    "tests/jobs/test_query.py",
    "tests/jobs/test_export.py",
    "tests/jobs/test_recipes.py",
    "tests/jobs/test_schema_doc.py",
)


@pytest.fixture
def with_pyarrow_25(venvs: Venvs) -> dict[str, str]:
    path = os.pathsep.join([str(venvs.target(f"pyarrow=={VERSION}")), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path}
    said = run([sys.executable, "-c", "import pyarrow; print(pyarrow.__version__)"], env=env)
    assert said.strip() == VERSION
    return env


def test_what_reads_and_writes_part_files(with_pyarrow_25: dict[str, str]) -> None:
    run([sys.executable, "-m", "pytest", "-W", "ignore", *TESTS], env=with_pyarrow_25, cwd=ROOT)


def test_labelling_without_pandas(
    with_pyarrow_25: dict[str, str], photographs: Path, output: Path, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden" / "pandas"
    hidden.mkdir(parents=True)
    text = "raise ModuleNotFoundError(\"No module named 'pandas'\", name='pandas')\n"
    (hidden / "__init__.py").write_text(text)
    path = os.pathsep.join([str(hidden.parent), with_pyarrow_25["PYTHONPATH"]])
    env = with_pyarrow_25 | {"PYTHONPATH": path}
    program = [sys.executable, "-m"]
    out, dest = str(tmp_path / "out"), str(tmp_path / "dest")
    run([*program, "jobs.label", str(photographs), out, *LABEL_OPTIONS], env=env)
    assert run([*program, "jobs.verify", out], env=env).endswith("proved\n")
    assert "4 of 4" in run([*program, "jobs.status", out], env=env)
    assert "(3 rows)" in run([*program, "jobs.query", out], env=env)
    assert "4 rows" in run([*program, "jobs.compact", out, dest], env=env)
    [ours] = Path(out).glob("annotations/**/*.parquet")
    [theirs] = output.glob("annotations/**/*.parquet")
    assert pq.read_table(ours).equals(pq.read_table(theirs))
