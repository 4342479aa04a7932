"""Exports are made once, kept whole, and never trusted blindly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from comparing import run
from torch import nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.detection.mtcnn_networks import MtcnnNetworks
from tddfa3.engine import Engine, ExportError, Network, cache
from tddfa3.engine.export import OPSET
from tddfa3.engine.session import check_equal

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


def exports(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*")) if folder.exists() else []


def test_exported_once_and_used_by_the_next_process(fresh_bundle: AssetBundle) -> None:
    x = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    first, second = Counted(), Counted()
    expected = run(load(fresh_bundle, first), x)
    found = run(load(fresh_bundle, second), x)
    assert (first.built, second.built) == (1, 0)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    (file,) = exports(fresh_bundle.path / "engines")
    assert file.name.startswith("mtcnn-rnet-")


@pytest.mark.parametrize("damage", [b"", b"not a network"])
def test_damaged_file_is_passed_over(fresh_bundle: AssetBundle, damage: bytes) -> None:
    load(fresh_bundle, Counted())
    (file,) = exports(fresh_bundle.path / "engines")
    whole = file.read_bytes()
    file.write_bytes(damage)
    again = Counted()
    load(fresh_bundle, again)
    assert again.built == 1
    assert file.read_bytes() == whole


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
    assert len(stems) == 6


def test_where_the_bundle_cannot_be_written_the_users_cache_is(
    fresh_bundle: AssetBundle, tmp_path: Path
) -> None:
    # A file in the folder's place: permissions do not stop the administrator.
    (fresh_bundle.path / "engines").write_text("in the way")
    first, second = Counted(), Counted()
    load(fresh_bundle, first)
    load(fresh_bundle, second)
    assert (first.built, second.built) == (1, 0)
    assert any(path.suffix == ".onnx" for path in exports(tmp_path / "cache"))


def test_where_nothing_can_be_written_networks_still_run(
    fresh_bundle: AssetBundle, tmp_path: Path
) -> None:
    (fresh_bundle.path / "engines").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    assert run(load(fresh_bundle, Counted()), torch.zeros(1, 3, 24, 24))[0].shape == (1, 4)


def test_many_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    model, place = tmp_path / "model.onnx", tmp_path / "engines"
    model.write_bytes(bytes(range(256)) * 4096)
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda _: cache.keep([place], "net-1", model), range(32)))
    assert len(set(kept)) == 1
    assert exports(place) == [kept[0]]
    assert cache.find([place], "net-1") == kept[0]
    assert kept[0] is not None
    assert kept[0].read_bytes() == model.read_bytes()


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
