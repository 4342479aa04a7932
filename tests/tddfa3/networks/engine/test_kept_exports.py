"""Exports are made once, kept whole, and never trusted blindly."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.networks.backbones import build_backbone
from tddfa3.networks.detection.mtcnn_networks import MtcnnNetworks
from tddfa3.networks.engine import Engine, ExportError, Network, cache
from tddfa3.networks.engine.export import OPSET
from tddfa3.networks.engine.session import check_equal
from tests.support.comparing import run

SHAPE = (None, 3, 24, 24)


class Counted:
    """The cascade's architecture, and how often it was built."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> nn.Module:
        self.built += 1
        return MtcnnNetworks()


def load(bundle: AssetBundle, architecture: Counted) -> Network:
    return Engine("onnx").network(architecture, bundle, "mtcnn", SHAPE, part="rnet")


def exports(place: Path) -> list[Path]:
    return sorted(place.iterdir()) if place.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_exported_once_and_used_by_the_next_process(fresh_bundle: AssetBundle) -> None:
    x = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    first, second = Counted(), Counted()
    expected = run(load(fresh_bundle, first), x)
    found = run(load(fresh_bundle, second), x)
    assert (first.built, second.built) == (1, 0)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    (folder,) = exports(fresh_bundle.path / "engines")
    assert folder.name.startswith("mtcnn-rnet-")


TORCHVISION_STAYS_OUT = """
import sys

import numpy as np
import torch

from tddfa3.assets.bundle import AssetBundle
from tddfa3.labeler import FaceLabeler

labeler = FaceLabeler(
    AssetBundle.load(sys.argv[1]), detector=sys.argv[2], backbone=sys.argv[3], engine="onnx"
)
labeler([np.zeros((64, 64, 3), np.uint8)])
labeler.label_crops(torch.zeros(1, 3, 224, 224))
print("torchvision" in sys.modules)
"""


@pytest.mark.parametrize(
    ("assets", "detector", "backbone"),
    [
        ("small_bundle", "mtcnn", "mbnetv3"),
        pytest.param("full_bundle", "retinaface", "resnet50", marks=pytest.mark.slow),
    ],
)
def test_kept_exports_are_run_without_torchvision(
    assets: str, detector: str, backbone: str, request: pytest.FixtureRequest
) -> None:
    """Its 90 MB would be each actor's; only who makes an export of a ResNet-50 needs it."""
    path = str(request.getfixturevalue(assets).path)
    told = [
        subprocess.run(
            [sys.executable, "-c", TORCHVISION_STAYS_OUT, path, detector, backbone],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for _ in range(2)  # the first run may have to make the exports
    ]
    assert told[1] == "False"


def mapped(file: Path) -> int:
    """Bytes of a file that this process has mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in lines if line[-1] == str(file)]
    return sum(int(end, 16) - int(start, 16) for start, end in spans)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_weights_are_mapped_and_not_copied(fresh_bundle: AssetBundle) -> None:
    network = build_backbone("mbnetv3", fresh_bundle, "cpu", Engine("onnx"))
    (folder,) = exports(fresh_bundle.path / "engines")
    weights = folder / "network.weights"
    stored = (fresh_bundle.path / "backbone_mbnetv3.safetensors").stat().st_size
    assert weights.stat().st_size > 0.9 * stored
    # onnxruntime packs the weights of fully connected layers into memory of its own.
    assert mapped(weights) > 0.5 * stored
    del network
    gc.collect()
    assert mapped(weights) == 0


@pytest.mark.parametrize("damage", [b"", b"not a network"])
@pytest.mark.parametrize("name", ["network.onnx", "network.weights"])
def test_damaged_file_is_passed_over(fresh_bundle: AssetBundle, name: str, damage: bytes) -> None:
    load(fresh_bundle, Counted())
    (folder,) = exports(fresh_bundle.path / "engines")
    (folder / name).unlink()
    (folder / name).write_bytes(damage)
    again, after = Counted(), Counted()
    load(fresh_bundle, again)
    load(fresh_bundle, after)
    assert (again.built, after.built) == (1, 0)


def test_other_weights_shape_or_version_is_another_export(
    small_bundle: AssetBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stem(weights: str = "mtcnn", part: str = "rnet", shape: tuple = SHAPE) -> str:
        return cache.stem(small_bundle, weights, part, shape, OPSET)

    stems = {
        stem(),
        stem(weights="backbone_mbnetv3"),
        stem(part="onet"),
        stem(shape=(None, 3, 25, 24)),
        cache.stem(small_bundle, "mtcnn", "rnet", SHAPE, OPSET + 1),
    }
    assert stem() == stem()
    monkeypatch.setattr(torch, "__version__", "0.1")
    stems.add(stem())
    monkeypatch.setattr(onnxruntime, "__version__", "0.1")
    stems.add(stem())
    monkeypatch.setattr(metadata, "version", {"torchvision": "0.1"}.__getitem__)
    stems.add(stem())
    monkeypatch.setattr(cache, "_processor", lambda: "another one")
    stems.add(stem())
    assert len(stems) == 9


def test_where_the_bundle_cannot_be_written_the_users_cache_is(
    fresh_bundle: AssetBundle, tmp_path: Path
) -> None:
    # A file in the folder's place: permissions do not stop the administrator.
    (fresh_bundle.path / "engines").write_text("in the way")
    first, second = Counted(), Counted()
    load(fresh_bundle, first)
    load(fresh_bundle, second)
    assert (first.built, second.built) == (1, 0)
    assert len(exports(tmp_path / "cache" / "tddfa3" / "engines")) == 1


def test_where_nothing_can_be_written_networks_still_run(
    fresh_bundle: AssetBundle, tmp_path: Path
) -> None:
    (fresh_bundle.path / "engines").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    assert run(load(fresh_bundle, Counted()), torch.zeros(1, 3, 24, 24))[0].shape == (1, 4)


def test_damaged_folder_gives_way_to_a_whole_one_of_its_name(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "engines"
    made.mkdir()
    (made / "network.onnx").write_bytes(b"graph")
    kept = cache.keep([place], "net-1", made)
    assert kept is not None
    (kept / "network.onnx").write_bytes(b"gra")
    assert cache.find([place], "net-1") is None
    assert cache.keep([place], "net-1", made) == kept
    assert exports(place) == [kept]
    assert contents(kept) == {"network.onnx": b"graph"}


def test_many_at_once_leave_one_whole_folder(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "engines"
    made.mkdir()
    (made / "network.onnx").write_bytes(bytes(range(256)) * 4096)
    (made / "network.weights").write_bytes(bytes(range(256)) * 8192)
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: cache.keep([place], "net-1", made), range(32)))
    assert len(set(kept)) == 1
    assert exports(place) == [kept[0]]
    assert cache.find([place], "net-1") == kept[0]
    assert kept[0] is not None
    assert contents(kept[0]) == contents(made)


class Inexpressible(MtcnnNetworks):
    """The cascade with an operation that ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.rnet.forward = lambda x: torch.special.bessel_j0(x)  # type: ignore[method-assign, assignment]


def test_what_cannot_be_exported_runs_in_torch_unless_onnx_was_asked_for(
    fresh_bundle: AssetBundle,
) -> None:
    settings = (Inexpressible, fresh_bundle, "mtcnn", SHAPE)
    with pytest.raises(ExportError, match="CascadeNetwork cannot be exported"):
        Engine("onnx").network(*settings, part="rnet")
    with pytest.warns(UserWarning, match="PyTorch runs this network instead"):
        network = Engine("auto").network(*settings, part="rnet")
    x = torch.rand(1, 3, 24, 24)
    assert torch.equal(run(network, x)[0], torch.special.bessel_j0(x))
    assert exports(fresh_bundle.path / "engines") == []


@pytest.mark.parametrize("found", [[1.0, 2.01], [1.0, float("nan")], [float("inf"), 2.0]])
def test_export_that_computes_something_else_is_refused(found: list[float]) -> None:
    expected = [torch.tensor([1.0, 2.0])]
    check_equal(expected, [torch.tensor([1.0, 2.0 + 1e-5])], "net")
    with pytest.raises(ExportError, match=r"net: onnxruntime .* differs from PyTorch"):
        check_equal(expected, [torch.tensor(found)], "net")
