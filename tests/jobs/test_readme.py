"""What the README says: its commands run as they stand there, its options and blocks are real."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import skimage.data
from PIL import Image

from jobs.pipeline.record.config import LabelConfig, option_name
from tddfa3.assets.bundle import AssetBundle
from tests.support.programs import call_module, run_module

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def words_of(command: str) -> list[str]:
    python, option, *words = command.split()
    assert (python, option) == ("python", "-m")
    return words


def call(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return call_module(folder, *words_of(command))


@pytest.fixture(scope="module")
def folder(small_bundle: AssetBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where the README's commands make sense: photographs, and assets of that name."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    Image.fromarray(skimage.data.astronaut()).save(folder / "photos" / "one.png")
    (folder / "assets").mkdir()
    (folder / "assets" / "3ddfa-v3").symlink_to(small_bundle.path)
    # As people start it, with a Ray of its own; most other commands run in this process.
    done = run_module(folder, *words_of(label_commands()[0]))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def label_commands() -> list[str]:
    return re.findall(r"^python -m jobs\.label .*$", README, re.MULTILINE)


@pytest.mark.slow
def test_the_same_with_3ddfa_v3s_assets(folder: Path) -> None:
    [_, command] = label_commands()
    done = run_module(folder, *words_of(command))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note:" not in done.stderr


@pytest.mark.parametrize("program", ["status", "verify"])
def test_programs_that_look_at_an_output(folder: Path, program: str) -> None:
    assert f"`python -m jobs.{program} OUTPUT`" in README
    done = call(f"python -m jobs.{program} labels/", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "images" in done.stdout


def test_the_same_command_continues_and_so_does_resume(folder: Path, local_ray: None) -> None:
    [command] = re.findall(r"`(python -m jobs\.label --resume labels/)`", README)
    done = call(command, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done before" in done.stdout


def test_the_sql(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [query] = blocks("sql")
    rows = duckdb.sql(query.replace("abs(yaw) < 20", "abs(yaw) < 90")).fetchall()
    assert [row[0] for row in rows] == ["root/one.png"]
    assert len(rows[0][3]) == 136


def test_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [block] = blocks("python")
    names: dict[str, Any] = {"photo": np.ascontiguousarray(skimage.data.astronaut())}
    exec(compile(block, "README.md", "exec"), names)
    assert names["face"].landmarks["68"].shape == (68, 2)


def test_every_option_is_one_of_the_program() -> None:
    table = README[README.index("| option |") : README.index("| exit code |")]
    named = set(re.findall(r"--[a-z][a-z0-9-]*", table))
    known = {option_name(f.name) for f in dataclasses.fields(LabelConfig)}
    assert len(named) > 15
    assert named - {"--help"} <= known


@pytest.mark.parametrize("program", sorted(set(re.findall(r"python -m ([a-z0-9_.]+)", README))))
def test_every_program_explains_itself(folder: Path, program: str) -> None:
    done = call(f"python -m {program} --help", folder)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_every_document_is_there() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert len(linked) > 8
    for name in linked:
        assert (ROOT / name).exists(), name
