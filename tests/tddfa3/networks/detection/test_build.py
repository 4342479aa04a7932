"""Choosing a detector by name."""

from __future__ import annotations

import pytest

from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError
from tddfa3.networks.detection import MtcnnConfig, RetinaFaceConfig, build_detector


@pytest.mark.parametrize("name", ["mtcnn", "none"])
def test_detector_answers_to_its_name(small_bundle: AssetBundle, name: str) -> None:
    assert build_detector(name, small_bundle, "cpu").name == name


def test_unknown_name_is_refused_with_the_choices(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="'yolo' is unknown; choose of retinaface, mtcnn, none"):
        build_detector("yolo", small_bundle, "cpu")


def test_absent_detector_is_refused_with_what_is_there(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match=r"no 'retinaface' \(they have: mtcnn, none\)"):
        build_detector("retinaface", small_bundle, "cpu")


def test_settings_of_another_detector_are_refused(small_bundle: AssetBundle) -> None:
    with pytest.raises(ValueError, match="takes a MtcnnConfig, got RetinaFaceConfig"):
        build_detector("mtcnn", small_bundle, "cpu", RetinaFaceConfig())
    with pytest.raises(ValueError, match="'none' has no settings"):
        build_detector("none", small_bundle, "cpu", MtcnnConfig())
