"""All programs under one name, as ``tddfa3`` and as ``python -m jobs``; and each alone."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tddfa3
from jobs.__main__ import PROGRAMS, main, started_as
from tests.support.programs import ROOT, run_module


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_alone_it_lists_all_programs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words, prog="tddfa3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: tddfa3 PROGRAM ..."
    for name, (_, what) in PROGRAMS.items():
        assert [line for line in lines if re.fullmatch(rf"  {name} +{re.escape(what)}", line)]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tddfa3 {tddfa3.__version__}\n"


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("lable", "did you mean tddfa3 label?"),
        ("reports", "did you mean tddfa3 report?"),
        ("xyzzy", "tddfa3 --help lists them"),
        ("--labels", "did you mean tddfa3 label?"),
    ],
)
def test_an_unknown_one_is_one_line_and_exit_code_2(
    word: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "in", "out"], prog="tddfa3") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: tddfa3 has no program {word!r}; {remedy}\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_explains_itself_under_the_name_it_was_started_with(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = PROGRAMS[name][0]
    for start, shown in (
        (lambda: main([name, "--help"], prog="tddfa3"), f"tddfa3 {name}"),
        (
            lambda: importlib.import_module(module).main(["--help"]),
            f"python -m {module.removesuffix('.__main__')}",
        ),
    ):
        with pytest.raises(SystemExit) as exited:
            start()
        assert exited.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {shown} ")


def test_all_programs_are_there() -> None:
    own = {"__init__", "__main__", "exits", "schema_doc"}
    files = {path.stem for path in (ROOT / "jobs").glob("*.py")} - own
    assert files == {*PROGRAMS} - {"assets"}


def test_no_program_imports_another() -> None:
    for path in (ROOT / "jobs").rglob("*.py"):
        found = re.findall(r"^\s*(?:from|import) jobs\.(\w+)|^from jobs import (\w+)",
                           path.read_text(), re.MULTILINE)  # fmt: skip
        imported = {name for names in found for name in names if name}
        assert imported <= {"exits", "pipeline", "report_page"}, path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/venv/bin/tddfa3", "tddfa3"),
        ("/somewhere/jobs/__main__.py", "python -m jobs"),
    ],
)
def test_the_name_is_what_was_typed(path: str, name: str) -> None:
    assert started_as(path) == name


def test_as_a_module_it_passes_the_exit_code_on(tmp_path: Path) -> None:
    done = run_module(tmp_path, "jobs", "status", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: ")
    assert done.stderr.count("\n") == 1


def test_choosing_a_program_loads_no_other() -> None:
    program = """
import json, sys
from jobs.__main__ import main
main(["--help"], prog="tddfa3")
first = sorted(sys.modules)
main(["assets", "describe"], prog="tddfa3")
print(json.dumps([first, sorted(sys.modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, then = map(set, json.loads(done.stdout.splitlines()[-1]))
    assert not first & {"tyro", "numpy", "pyarrow", "ray", "torch"}
    assert not then & {"pyarrow", "ray", "torch", "duckdb"}
