"""``from tddfa3 import …``: what is there, and that it is loaded only when it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tddfa3
from tddfa3.assets.bundle import AssetBundle
from tddfa3.labeler import FaceLabeler
from tddfa3.outputs import Outputs
from tests.support.programs import ROOT


def test_the_names_are_the_classes() -> None:
    assert tddfa3.AssetBundle is AssetBundle
    assert tddfa3.FaceLabeler is FaceLabeler
    assert tddfa3.Outputs is Outputs
    assert {*dir(tddfa3)} == {*tddfa3.__all__, "__version__"}


def test_a_name_that_is_not_there_is_said_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'tddfa3' has no attribute 'Labeler'"):
        _ = getattr(tddfa3, "Labeler")  # noqa: B009  (mypy knows that it is not there)
    with pytest.raises(ImportError, match="cannot import name 'Labeler'"):
        exec("from tddfa3 import Labeler")


def test_the_package_alone_loads_nothing_and_the_door_what_is_asked_for() -> None:
    program = (
        "import json, sys, tddfa3; first = sorted(sys.modules);"
        "tddfa3.AssetBundle; print(json.dumps([first, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, then = map(set, json.loads(done.stdout))
    assert {name for name in first if name.startswith("tddfa3")} == {"tddfa3"}
    assert not first & {"torch", "numpy", "cv2", "tyro"}
    assert "tddfa3.assets.bundle" in then
    assert not then & {"torch", "tddfa3.labeler"}
