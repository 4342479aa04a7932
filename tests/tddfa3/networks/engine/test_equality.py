"""onnxruntime computes what PyTorch does, for every network, batch and shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.detection import build_detector
from tddfa3.networks.detection.landmarks106 import LandmarkNetwork
from tddfa3.networks.detection.mtcnn_networks import MtcnnNetworks
from tddfa3.networks.detection.retinaface_network import RetinaFaceNetwork
from tddfa3.networks.engine import Engine, session
from tests.support.comparing import relative_difference, run

TORCH, ONNX = Engine("torch"), Engine("onnx")


@pytest.mark.parametrize("batch", [0, 1, 2, 7])
@pytest.mark.parametrize(
    ("name", "assets"),
    [("mbnetv3", "small_bundle"), pytest.param("resnet50", "full_bundle", marks=pytest.mark.slow)],
)
def test_backbones(request: pytest.FixtureRequest, name: str, assets: str, batch: int) -> None:
    bundle = request.getfixturevalue(assets)
    crops = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(batch))
    (found,) = run(build_backbone(name, bundle, "cpu", ONNX), crops)
    assert found.shape == (batch, bundle.sizes.total)
    assert found.dtype == torch.float32
    if batch:
        (expected,) = run(build_backbone(name, bundle, "cpu", TORCH), crops)
        assert relative_difference(found, expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "weights", "size"),
    [(RetinaFaceNetwork, "retinaface", 512), (LandmarkNetwork, "landmarks106", 224)],
)
def test_retinaface_networks(
    full_bundle: AssetBundle, architecture: Callable[[], nn.Module], weights: str, size: int
) -> None:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    shape = (None, 3, size, size)
    found = run(ONNX.network(architecture, full_bundle, weights, shape), x)
    expected = run(TORCH.network(architecture, full_bundle, weights, shape), x)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_difference(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ("part", "size", "shapes"),
    [
        ("pnet", None, [(1, 3, 12, 12), (1, 3, 13, 40), (2, 3, 61, 37), (1, 3, 64, 50)]),
        ("rnet", 24, [(0, 3, 24, 24), (1, 3, 24, 24), (9, 3, 24, 24)]),
        ("onet", 48, [(0, 3, 48, 48), (1, 3, 48, 48), (9, 3, 48, 48)]),
    ],
)
def test_cascade(
    small_bundle: AssetBundle, part: str, size: int | None, shapes: list[tuple[int, ...]]
) -> None:
    onnx, in_torch = (
        engine.network(MtcnnNetworks, small_bundle, "mtcnn", (None, 3, size, size), part=part)
        for engine in (ONNX, TORCH)
    )
    for shape in shapes:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for ours, theirs in zip(run(onnx, x), run(in_torch, x), strict=True):
            assert ours.shape == theirs.shape
            if len(x):
                assert relative_difference(ours, theirs) < 1e-5


def test_pieces_equal_the_whole(small_bundle: AssetBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_backbone("mbnetv3", small_bundle, "cpu", ONNX)
    crops = torch.rand(5, 3, 224, 224, generator=torch.Generator().manual_seed(5))
    monkeypatch.setattr(session, "_PIECE_BYTES", 5 * crops[0].nbytes)
    (whole,) = run(network, crops)
    monkeypatch.setattr(session, "_PIECE_BYTES", 2 * crops[0].nbytes)
    (pieces,) = run(network, crops)
    assert relative_difference(pieces, whole) < 1e-6
    monkeypatch.setattr(session, "_PIECE_BYTES", 1)
    (one_by_one,) = run(network, crops)
    assert relative_difference(one_by_one, whole) < 1e-6


def test_any_memory_layout_is_taken(small_bundle: AssetBundle) -> None:
    network = build_backbone("mbnetv3", small_bundle, "cpu", ONNX)
    crops = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    (expected,) = run(network, crops)
    (found,) = run(network, crops.to(memory_format=torch.channels_last))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("backbone", ["resnet50", "mbnetv3"])
@pytest.mark.parametrize("photo", ["astronaut__retinaface", "crop_ex1__none"])
def test_golden_coefficients(
    golden_bundle: AssetBundle,
    golden: Callable[[str], Mapping[str, np.ndarray]],
    backbone: str,
    photo: str,
) -> None:
    expected = golden(f"{photo}__{backbone}__nvdr")
    crop = torch.from_numpy(expected["crop"]).permute(2, 0, 1)[None].float() / 255
    (found,) = run(build_backbone(backbone, golden_bundle, "cpu", ONNX), crop)
    np.testing.assert_allclose(found[0].numpy(), expected["alpha"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "assets"),
    [("mtcnn", "small_bundle"), pytest.param("retinaface", "full_bundle", marks=pytest.mark.slow)],
)
def test_detectors_find_the_same_faces(
    request: pytest.FixtureRequest, name: str, assets: str
) -> None:
    from skimage import data

    bundle = request.getfixturevalue(assets)
    photos = [data.astronaut(), data.astronaut()[40:300, 100:400]]
    expected = build_detector(name, bundle, "cpu", engine=TORCH).detect(photos)
    found = build_detector(name, bundle, "cpu", engine=ONNX).detect(photos)
    assert sum(map(len, expected)) > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-2)
        np.testing.assert_allclose(ours.points5, theirs.points5, atol=1e-2)
