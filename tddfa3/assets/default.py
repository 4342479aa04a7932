"""Finds the bundle ``open``, which comes with tddfa3."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

OPEN = "open"
"""Stands for that bundle wherever a bundle's folder is expected; use ``./open`` for a folder."""
_BESIDE_THE_CODE = Path(__file__).resolve().parents[2] / "assets" / OPEN
# Where pyproject.toml installs it, below the environment's data folder.
_INSTALLED = f"share/tddfa3/assets/{OPEN}/bundle.json"


def bundle_folder(assets: str | Path) -> Path:
    """The folder of a bundle given by its path or by the word "open"."""
    return default_folder() if str(assets) == OPEN else Path(assets)


def default_folder() -> Path:
    """The folder of ``open``: beside the code (a checkout, a job's package), or as installed."""
    if (_BESIDE_THE_CODE / "bundle.json").is_file():
        return _BESIDE_THE_CODE
    try:
        files = metadata.files("tddfa3") or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.as_posix().endswith(_INSTALLED):
            return Path(str(file.locate())).resolve().parent
    return _BESIDE_THE_CODE
