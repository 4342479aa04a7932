"""Programs of the project, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
