"""The code of this project, as the machines of a cluster get it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tddfa3.assets.bundle import BUNDLE_JSON, OPEN, AssetBundle

ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds the packages."""
PACKAGES = ("tddfa3", "jobs")
"""What the cluster gets. A list of what to send, so that data lying beside it are never sent."""


def copy_code(folder: Path, assets: str = "") -> None:
    """Copy the Python sources of this project, and nothing else, into ``folder``.

    Args:
        folder: where the code goes.
        assets: "open" also copies the bundle of that name, which ``tddfa3`` looks for beside
            itself.
    """
    for package in PACKAGES:
        for source in sorted((ROOT / package).rglob("*.py")):
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    if assets == OPEN:
        bundle = AssetBundle.load(OPEN)
        target = folder / "assets" / OPEN
        target.mkdir(parents=True)
        for name in (BUNDLE_JSON, *bundle.files):
            shutil.copyfile(bundle.path / name, target / name)
