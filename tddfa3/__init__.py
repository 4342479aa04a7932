"""tddfa3: 3D face labels (coefficients, landmarks, segmentation, meshes) from photographs.

The library turns a batch of decoded images into faces; apart from loading its assets it reads no
files and uses no network. The programs that read and write datasets are in ``jobs``.

    from tddfa3 import AssetBundle, FaceLabeler, Outputs

These are imported on first access, so that ``import tddfa3`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
"""The single definition of the version; pyproject.toml and the manifests of runs read it here."""

__all__ = ["AssetBundle", "FaceLabeler", "Outputs"]

if TYPE_CHECKING:
    from tddfa3.assets.bundle import AssetBundle
    from tddfa3.labeler import FaceLabeler
    from tddfa3.outputs import Outputs
else:
    _HOMES = {
        "AssetBundle": "tddfa3.assets.bundle",
        "FaceLabeler": "tddfa3.labeler",
        "Outputs": "tddfa3.outputs",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return [*__all__, "__version__"]
