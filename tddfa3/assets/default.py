"""Where the bundle ``open``, which comes with tddfa3, lies."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

OPEN = "open"
"""What the bundle is called wherever a bundle's folder may be named; ``./open`` is a folder."""
_BESIDE_THE_CODE = Path(__file__).resolve().parents[2] / "assets" / OPEN
# Where pyproject.toml has an installation put it, below the environment's data folder.
_INSTALLED = f"share/tddfa3/assets/{OPEN}/bundle.json"


def bundle_folder(assets: str | Path) -> Path:
    """The folder of a bundle that is named by its path, or by the word "open"."""
    return default_folder() if str(assets) == OPEN else Path(assets)


def default_folder() -> Path:
    """Beside the code, as in a checkout or in what a job brought along; else where pip put it."""
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
