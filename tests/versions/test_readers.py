"""Part files and compactions are read, whole and equal, by what people read Parquet with.

Each reader is in an environment of its own, with the newest versions that go together there, and so
without anything of the project's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.versions import open_with
from tests.versions.venvs import ROOT, Venvs, run

HERE = Path(__file__).resolve().parent
OPEN_WITH = str(HERE / "open_with.py")
LIBRARIES = ["pandas", "datasets", "polars", "duckdb", "daft", "deltalake", "lancedb", "chdb"]
CLIENTS = sorted(set(open_with.CLIENTS) - {"pyarrow"})
JAVA = shutil.which("java") is not None

pytestmark = pytest.mark.versions
BOTH = pytest.mark.parametrize("kind", ["output", "compaction"])


@pytest.fixture
def folder(kind: str, request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(kind)
    return path


def clients(venvs: Venvs) -> str:
    """A Python with all of them: Daft holds pyarrow at a version before 26."""
    return venvs.python([*LIBRARIES, *(["pyspark"] if JAVA else [])])


def expected(folder: Path) -> dict[str, Any]:
    files = sorted(map(str, (folder / "annotations").rglob("*.parquet")))
    rows = open_with.pyarrow(files)
    assert len(rows) == 4
    assert {row["status"] for row in rows} == {"ok", "no_face", "decode_error"}
    return open_with.summary(rows) | {"digest": open_with.digest(rows)}


@BOTH
@pytest.mark.parametrize("version", ["14.0.2", "16.0.0", "17.0.0", "21.0.0", "25.0.1"])
def test_nothing_but_pyarrow(folder: Path, venvs: Venvs, version: str) -> None:
    if sys.version_info >= (3, 13) and int(version.split(".")[0]) < 18:
        pytest.skip(f"there is no pyarrow {version} for this Python")
    # What was built before NumPy 2 does not say that it needs NumPy 1.
    python = venvs.python([f"pyarrow=={version}", *(["numpy<2"] if version < "17" else [])])
    found = json.loads(run([python, OPEN_WITH, "pyarrow", str(folder)]))
    assert found == expected(folder)


@BOTH
@pytest.mark.parametrize("client", CLIENTS)
def test_clients(folder: Path, venvs: Venvs, client: str) -> None:
    if client == "spark" and not JAVA:
        pytest.skip("there is no Java")
    wanted = expected(folder)
    del wanted["digest"]
    found = json.loads(run([clients(venvs), OPEN_WITH, client, str(folder)]).splitlines()[-1])
    assert found.pop("first") == pytest.approx(wanted.pop("first"), rel=1e-6)
    assert found == wanted


@pytest.mark.parametrize("recipes", [["Lists of one length"], ["Lists of one length", "LanceDB"]])
def test_recipes(output: Path, venvs: Venvs, tmp_path: Path, recipes: list[str]) -> None:
    """Those of docs/recipes.md that need none of the project's code; with pyarrow before 26."""
    (tmp_path / "labels").symlink_to(output)
    text = (ROOT / "docs" / "recipes.md").read_text()
    code = [f"## {name}\n" for name in recipes]
    code = [
        text.partition(head)[2].partition("```python\n")[2].partition("```")[0] for head in code
    ]
    checks = {
        "Lists of one length": "assert arrays.to_pylist() == table.to_pylist()\n"
        "assert arrays.schema.field('ldm68').type.list_size == 136\n"
        "assert frame['ldm68'].dtype == pl.Array(pl.Float32, 136)\n"
        "assert frame['points106'].null_count() == frame.height",
        "LanceDB": "assert alike.count_rows() == len(nearest) == 2\n"
        "assert nearest[0]['image_id'] == faces['image_id'][0].as_py()",
    }
    code += [checks.get(name, "") for name in recipes]
    run([clients(venvs), "-c", "\n".join(code)], cwd=tmp_path)


@BOTH
def test_hyparquet(folder: Path, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    run(["npm", "install", "--silent", "hyparquet", "hyparquet-compressors"], cwd=tmp_path)
    shutil.copy(HERE / "open_with.mjs", tmp_path)
    files = sorted(map(str, (folder / "annotations").rglob("*.parquet")))
    found = json.loads(run(["node", "open_with.mjs", *files], cwd=tmp_path))
    wanted = expected(folder)
    del wanted["digest"]
    assert found == wanted
