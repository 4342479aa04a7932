"""Virtual environments with chosen versions of packages, and the versions that pyproject names."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""Those that the README names."""
_FLOOR = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(\[[^]]*\])?>=(?P<version>[0-9.]+)[,;]?.*")


class Venvs:
    """Makes environments in ``folder``, each once; later runs find them there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def python(
        self,
        requirements: Sequence[str],
        constraints: Sequence[str] = (),
        base: str = sys.executable,
    ) -> str:
        """The interpreter of an environment that has ``requirements`` and what they need."""
        about = "\n".join([base, *requirements, "--", *constraints])
        venv = self._folder / hashlib.sha256(about.encode()).hexdigest()[:16]
        python, done = venv / "bin" / "python", venv / "done"
        if not done.exists():
            shutil.rmtree(venv, ignore_errors=True)
            run([base, "-m", "venv", str(venv)])
            kept = venv / "constraints.txt"
            kept.write_text("\n".join(constraints))
            run([str(python), "-m", "pip", "install", "-q", "-c", str(kept), *requirements])
            done.touch()
        return str(python)

    def target(self, *requirements: str) -> Path:
        """A folder for PYTHONPATH with ``requirements`` and nothing that they need."""
        folder = self._folder / "-".join(requirements)
        done = folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
            run([*pip, "--target", str(folder), *requirements])
            done.touch()
        return folder


def run(command: Sequence[str], **options: object) -> str:
    """Its standard output; a failure is an assertion that shows the end of what it said."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    said: str = done.stdout
    assert done.returncode == 0, f"{' '.join(command)}\n{(said + done.stderr)[-6000:]}"
    return said


def requirements(*extras: str) -> list[str]:
    """What pyproject asks for, as it stands there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(text for extra in extras for text in optional[extra])]


def floors(*extras: str) -> dict[str, str]:
    """The lowest version of each requirement that pyproject allows, by name."""
    found = {}
    for text in requirements(*extras):
        match = _FLOOR.fullmatch(text)
        assert match, f"{text}: no lower bound"
        found[match["name"]] = match["version"]
    return found


def interpreter(version: str) -> str | None:
    """A Python of that version on this machine, found by name or beside this one by pyenv."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    for candidate in (
        shutil.which(f"python{version}"),
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/python"),
    ):
        if candidate and _runs(str(candidate), version):
            return str(candidate)
    return None


def _runs(python: str, version: str) -> bool:
    """pyenv's own ``python3.10`` is there for versions that are not chosen, and fails."""
    ask = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == version
