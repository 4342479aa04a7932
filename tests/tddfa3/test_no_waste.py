"""Work that is done once is counted, as time cannot be tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.labeler import FaceLabeler
from tests.support.everything import EVERYTHING


@pytest.fixture
def crops() -> list[np.ndarray]:
    astronaut = skimage.data.astronaut()
    return [np.ascontiguousarray(astronaut[20 + k : 244 + k, 110:334]) for k in range(5)]


def counted(calls: Counter[Any], key: Callable[..., Any], call: Callable[..., Any]) -> Any:
    def count(*args: Any, **settings: Any) -> Any:
        calls[key(*args, **settings)] += 1
        return call(*args, **settings)

    return count


def test_one_rasterization_per_batch_and_the_chart_once(
    small_bundle: AssetBundle, crops: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeler = FaceLabeler(
        small_bundle, detector="none", backbone="mbnetv3", outputs=EVERYTHING, batch=2
    )
    drawn: Counter[tuple[str, Any]] = Counter()
    raster = labeler.geometry.rasterizer
    monkeypatch.setattr(
        raster,
        "rasterize",
        counted(drawn, lambda pos, tri, size: ("drawn", (len(pos), *size)), raster.rasterize),
    )
    monkeypatch.setattr(
        raster,
        "coverage",
        counted(drawn, lambda pos, *rest: ("covered", len(pos)), raster.coverage),
    )
    labeler(crops)
    expected = {
        ("drawn", (2, 224, 224)): 2,
        ("drawn", (1, 224, 224)): 1,
        ("covered", 2): 2,
        ("covered", 1): 1,
    }
    charts = {("drawn", (1, 1024, 1024)): 1, ("drawn", (1, 128, 128)): 1}
    assert drawn == expected | charts
    drawn.clear()
    labeler(crops)
    assert drawn == expected


def test_one_call_of_the_backbone_per_batch(
    small_bundle: AssetBundle, crops: list[np.ndarray]
) -> None:
    labeler = FaceLabeler(small_bundle, detector="none", backbone="mbnetv3", batch=2)
    calls: Counter[int] = Counter()
    labeler.backbone = counted(calls, len, labeler.backbone)
    labeler(crops)
    assert calls == {2: 2, 1: 1}


def test_labels_alone_draw_no_texture(
    small_bundle: AssetBundle, crops: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeler = FaceLabeler(small_bundle, detector="none", backbone="mbnetv3")
    assert labeler.geometry.mapper is None
    monkeypatch.setattr(
        labeler.geometry.model, "texture", lambda *_: pytest.fail("nobody asked for it")
    )
    assert len(labeler(crops)) == len(crops)


def test_the_bases_of_the_face_model_are_not_copied(small_bundle: AssetBundle) -> None:
    data = small_bundle.face_model()
    labeler = FaceLabeler(small_bundle, detector="none", backbone="mbnetv3")
    own = type(labeler.geometry.model)(data)
    for name in ("id_basis", "exp_basis", "albedo_basis"):
        assert getattr(own, name).data_ptr() == getattr(data, name).ctypes.data
        assert torch.equal(getattr(labeler.geometry.model, name), getattr(own, name))
