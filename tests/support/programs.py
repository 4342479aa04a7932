"""Programs of the project, run as a user runs them, or in this process, which saves seconds."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_module(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``python -m WORDS`` in ``folder``, of this checkout; what it said and how it ended."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def call_module(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Like :func:`run_module`, in this process, and on the Ray that it has begun, if any."""
    name = f"{words[0]}.__main__" if is_package(words[0]) else words[0]
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [words[0], *words[1:]])
        try:
            code = importlib.import_module(name).main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def is_package(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None
