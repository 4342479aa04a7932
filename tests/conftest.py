"""What all tests share: bundles, made once and kept in ``assets/`` (which git ignores), and a seed.

Hypothesis and everything else that is random in the tests follow one seed, which pytest prints at
the end; ``--seed N`` runs the same again.
"""

from __future__ import annotations

import fcntl
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.generators.synthetic import synthesize
from tests.support.shared_ray import restart_if_cpus_are_lost

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="seed of the random tests; without it, another one")


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for a seed
def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] = getattr(config, "workerinput", {})  # in a process of pytest-xdist
    if config.option.seed is None:
        config.option.seed = given.get("seed", random.SystemRandom().randrange(2**32))
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = config.option.seed


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All processes of pytest-xdist have one seed."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    seed = config.option.seed
    terminalreporter.write_line(f"random tests: seed {seed} (the same again: --seed {seed})")


@pytest.fixture
def rng(pytestconfig: pytest.Config) -> random.Random:
    """For what is to differ from run to run."""
    return random.Random(pytestconfig.option.seed)


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """Of the two cores, each of pytest-xdist's two processes has one."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(autouse=True)
def _ray_has_its_cpus() -> None:
    restart_if_cpus_are_lost()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photographs and upstream's outputs, which lie beside the repository, not in it."""
    path = ROOT.parent / "shared"
    if not (path / "golden").is_dir():
        pytest.skip("shared/ (photographs and golden outputs) is not beside the repository")
    return path


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time makes bundles; the next one finds them."""
    with (ASSETS / ".making").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def full_bundle() -> AssetBundle:
    """The synthetic bundle with everything in real sizes: a minute to make, 300 MB."""
    with _alone():
        return synthesize(ASSETS / "synthetic-0", seed=0)


@pytest.fixture(scope="session")
def golden_bundle(shared: Path, request: pytest.FixtureRequest) -> AssetBundle:
    """What the golden outputs were computed with. Not made where there are none to compare with."""
    bundle: AssetBundle = request.getfixturevalue("full_bundle")
    return bundle


@pytest.fixture(scope="session")
def small_bundle() -> AssetBundle:
    """Another topology (about 3,000 vertices), one small backbone and MTCNN: made in seconds."""
    with _alone():
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
