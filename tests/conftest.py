"""Fixtures for all tests. Bundles are made once and kept in ``assets/``, which git ignores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.generators.synthetic import synthesize

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photographs and upstream's outputs, which lie beside the repository, not in it."""
    path = ROOT.parent / "shared"
    if not (path / "golden").is_dir():
        pytest.skip("shared/ (photographs and golden outputs) is not beside the repository")
    return path


@pytest.fixture(scope="session")
def bundle() -> AssetBundle:
    """The full synthetic bundle of seed 0: what the golden outputs were computed with."""
    return synthesize(ASSETS / "synthetic-0", seed=0)


@pytest.fixture(scope="session")
def small_bundle() -> AssetBundle:
    """Another topology (about 3,000 vertices), one small backbone and MTCNN: made in seconds."""
    return synthesize(
        ASSETS / "synthetic-small",
        seed=0,
        vertices=3000,
        backbones=("mbnetv3",),
        detectors=("mtcnn",),
    )


@pytest.fixture(scope="session")
def open_bundle() -> AssetBundle:
    """The bundle that comes with tddfa3, and is the default everywhere."""
    return AssetBundle.load()


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], Mapping[str, np.ndarray]]:
    """Loads one golden file by its name without the extension."""

    def load(name: str) -> Mapping[str, np.ndarray]:
        with np.load(shared / "golden" / f"{name}.npz") as file:
            return dict(file)

    return load
