"""The versions that pyproject allows are those that were tested, on every Python it names."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.versions.venvs import PYTHONS, ROOT, Venvs, floors, interpreter, requirements, run

pytestmark = pytest.mark.versions

OLDEST = Version("0")
TESTED_BY_HAND = {"numpy": Version("2.5.5"), "scipy": Version("1.18.1")}
"""Newer than what Python 3.11 has: with 3.12 and 3.13 on 2026-11-28 (docs/versions.md)."""
LOWEST_TESTS = (
    "tests/tddfa3",
    "tests/docs",
    "tests/jobs/pipeline",
    "tests/jobs/test_card.py",
    "tests/jobs/test_compact.py",
    "tests/jobs/test_export.py",
    "tests/jobs/test_open_programs.py",
    "tests/jobs/test_query.py",
    "tests/jobs/test_recipes.py",
    "tests/jobs/test_report.py",
    "tests/jobs/test_status_and_verify.py",
    "tests/s3/test_store_s3.py",
)


def test_every_requirement_has_a_lower_bound() -> None:
    assert len(floors("test")) == len(requirements("test"))


def checkout(folder: Path) -> Path:
    """A copy of what git knows: other versions make other assets for the tests."""
    for rel in run(["git", "ls-files", "-z"], cwd=ROOT).rstrip("\0").split("\0"):
        (folder / rel).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / rel, folder / rel)
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (folder.parent / "shared").symlink_to(shared)
    return folder


@pytest.mark.timeout(2400)
def test_the_lowest_versions_of_all(venvs: Venvs, tmp_path: Path) -> None:
    """On the oldest Python where there is one. All other tests have passed so, too, by hand."""
    base = interpreter(PYTHONS[0]) or sys.executable
    lowest = [f"{name}=={version}" for name, version in floors("test").items()]
    python = venvs.python(requirements("test"), lowest, base)
    folder = checkout(tmp_path / "checkout")
    # Old packages warn of what has changed since, and of each other.
    run([python, "-m", "pytest", "-W", "ignore", *LOWEST_TESTS], cwd=folder)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", PYTHONS)
def test_what_pip_installs_lies_within_what_was_tested(version: str, tmp_path: Path) -> None:
    """Between the lowest versions, which are tested above, and those that these tests run with."""
    report = tmp_path / "report.json"
    python = interpreter(version)
    # For a Python that is not there pip guesses: it takes markers from the one that it runs on.
    foreign = ["--only-binary=:all:", "--python-version", version, "--target", str(tmp_path)]
    run(
        [python or sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed",
         *([] if python else foreign), "--report", str(report), *requirements()]
    )  # fmt: skip
    installed = json.loads(report.read_text())["install"]
    found = {
        canonicalize_name(item["metadata"]["name"]): Version(item["metadata"]["version"])
        for item in installed
    }
    lowest = floors()
    for name in (Requirement(text).name for text in requirements()):
        newest = max(Version(importlib.metadata.version(name)), TESTED_BY_HAND.get(name, OLDEST))
        assert Version(lowest[name]) <= found[canonicalize_name(name)] <= newest, name
