"""Trains the network of the bundle ``open``: ``python -m training.train RENDERS WEIGHTS``.

It starts from ImageNet weights (``pretrained.py``) and sees renders only. The weights written are
a moving average over the steps, in half precision. They are written again every few minutes, so
there is always a usable network.
"""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn

from jobs.exits import ExitCode, run_program
from tddfa3.coefficients import CoefficientSizes
from tddfa3.networks.backbones.efficientlite import EfficientLite
from training.losses import FaceLoss
from training.pretrained import imagenet_weights, load_trunk
from training.render import Renders, face_model_data, load_shards

SEED = 0
HELD_BACK = 512
"""How many renders, the last ones, are used for validation only."""


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        steps: of the optimizer.
        batch: renders per step.
        learning_rate: of the trunk, after the warm-up.
        final_share: of the learning rate, at the end of the cosine.
        warm_up: steps.
        head_boost: factor of the head's learning rate: unlike the trunk it starts untrained.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        averaging: share of the average that is kept in a step.
        frozen_blocks: that are not trained, nor is the stem: edges and colours are the same in
            renders and photographs.
    """

    steps: int = 1800
    batch: int = 32
    learning_rate: float = 5e-4
    final_share: float = 0.02
    warm_up: int = 150
    head_boost: float = 2.0
    weight_decay: float = 1e-4
    clip: float = 20.0
    averaging: float = 0.998
    frozen_blocks: int = 5

    def rate(self, step: int) -> float:
        """The trunk's learning rate at a step."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        warm = min(1.0, (step + 1) / self.warm_up)
        return self.learning_rate * warm * (self.final_share + (1 - self.final_share) * cosine)


def build_network(sizes: CoefficientSizes, targets: npt.NDArray[np.float32]) -> EfficientLite:
    """The untrained network, whose outputs start at the mean of the targets (N,total)."""
    network = EfficientLite((sizes.id, sizes.exp, sizes.alb, sizes.angle, sizes.sh, 2, 1))
    scale = {"id": 1.0, "exp": 1.0, "alb": 1.0, "angle": 0.3, "sh": 0.2, "trans": 0.1}
    with torch.no_grad():
        for name, place in sizes.slices().items():
            network.output_scale[place] = scale[name]
        network.output_scale[-1] = 0.7  # the distance varies more than x and y
        mean = torch.from_numpy(targets.mean(axis=0))
        mean[: sizes.id + sizes.exp + sizes.alb] = 0
        nn.init.normal_(network.output.weight, 0, 0.01)
        network.output.bias.copy_(mean / network.output_scale)
    return network


class Trainer:
    """A network, its moving average, and the renders they learn from.

    All random numbers depend on the seed and the number of steps taken.
    """

    def __init__(
        self,
        network: EfficientLite,
        loss: FaceLoss,
        data: Renders,
        recipe: Recipe,
        seed: int = SEED,
    ) -> None:
        self.recipe, self.loss, self.data = recipe, loss, data
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        frozen = [network.stem, *network.blocks[: recipe.frozen_blocks]]
        for module in frozen:
            module.requires_grad_(False)
        trunk: list[nn.Parameter] = []
        head: list[nn.Parameter] = []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                (trunk if name.startswith("blocks.") else head).append(parameter)
        self.parameters = trunk + head
        self.optimizer = torch.optim.AdamW(
            [{"params": trunk, "boost": 1.0}, {"params": head, "boost": recipe.head_boost}],
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        held_back = min(HELD_BACK, len(data.pictures) // 4)
        self.trained_on = len(data.pictures) - held_back
        self.random = np.random.default_rng(seed)
        self.torch_random = torch.Generator().manual_seed(seed)
        self.order = self._batches()
        self.steps = 0

    def step(self) -> dict[str, float]:
        """Trains on one batch; returns the unweighted losses and ``total``."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.steps) * group["boost"]
        index = next(self.order)
        images = augmented(self._images(index), self.torch_random)
        target = torch.from_numpy(self.data.coefficients[index])
        parts = self.loss(self.network.from_halved(images), target)
        total = self.loss.total(parts)
        self.optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self._update_average()
        self.steps += 1
        return {name: part.item() for name, part in (parts | {"total": total}).items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Figures of the averaged network on the renders that are held back."""
        rows = np.arange(self.trained_on, len(self.data.pictures))
        pieces = [
            self.average.from_halved(self._images(piece))
            for piece in np.array_split(rows, max(1, len(rows) // 64))
        ]
        target = torch.from_numpy(self.data.coefficients[rows])
        return self.loss.figures(torch.cat(pieces), target)

    def save(self, path: Path) -> None:
        """Writes the averaged network in half precision; readers see the whole file or none."""
        weights = {
            name: tensor.detach().to(torch.float16).contiguous()
            for name, tensor in self.average.state_dict().items()
        }
        scratch = path.with_suffix(".partial")
        save_file(weights, scratch)
        os.replace(scratch, path)

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        """Endless indices of batches; every render comes once before any comes again."""
        batch = min(self.recipe.batch, self.trained_on)
        while True:
            order = self.random.permutation(self.trained_on)
            for start in range(0, len(order) - batch + 1, batch):
                yield order[start : start + batch]

    def _images(self, index: npt.NDArray[np.int64]) -> Tensor:
        """Renders as float32 (B,3,112,112) 0..1."""
        images = torch.from_numpy(self.data.pictures[index]).permute(0, 3, 1, 2)
        return images.float().div_(255).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _update_average(self) -> None:
        # The average forgets faster at first, so that the untrained head soon has no weight.
        keep = min(self.recipe.averaging, (self.steps + 1) / (self.steps + 20))
        for mean, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            if current.requires_grad:
                mean.lerp_(current, 1 - keep)


def augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Images (B,3,H,W) with random contrast, tint and brightness, some with a plain patch."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    count, _, height, width = images.shape
    contrast = (1 + 0.2 * normal(count, 1, 1, 1)).clamp(0.5, 1.6) * (
        1 + 0.05 * normal(count, 3, 1, 1)
    )
    images = (images - 0.43) * contrast + 0.43 + 0.055 * normal(count, 1, 1, 1)
    for i in range(0, count, 5):
        h, w = torch.randint(10, 45, (2,), generator=random).tolist()
        y = int(torch.randint(0, height - h, (1,), generator=random))
        x = int(torch.randint(0, width - w, (1,), generator=random))
        images[i, :, y : y + h, x : x + w] = torch.rand((3, 1, 1), generator=random)
    return images.clamp_(0, 1)


@dataclass(frozen=True)
class TrainConfig:
    """Train the network of the bundle that comes with tddfa3, on rendered faces."""

    renders: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RENDERS")]
    """Folder that training.render filled."""
    weights: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WEIGHTS")]
    """Safetensors file to write."""
    steps: int = Recipe.steps
    """Of the optimizer."""
    threads: int = 1
    """Of PyTorch."""
    seed: int = SEED
    """Of the first weights, of batches and augmentations."""


def main() -> int:
    """Runs the program; returns its exit code."""
    options = tyro.cli(TrainConfig, prog="python -m training.train")
    return run_program(lambda: run(options))


def run(options: TrainConfig) -> ExitCode:
    """Trains from the renders and writes the weights."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    data, pretrained = load_shards(options.renders), imagenet_weights()
    model, recipe = face_model_data(), Recipe(steps=options.steps)
    network = build_network(model.sizes, data.coefficients)
    load_trunk(network, pretrained)
    trainer = Trainer(network, FaceLoss(model), data, recipe, options.seed)
    train(trainer, options.weights)
    return ExitCode.DONE


def train(trainer: Trainer, weights: Path, report_every: int = 200) -> None:
    """Takes all steps of the recipe; writes the weights and reports now and then."""
    start, smooth = time.perf_counter(), dict[str, float]()
    while trainer.steps < trainer.recipe.steps:
        for name, value in trainer.step().items():
            smooth[name] = value + 0.98 * (smooth.get(name, value) - value)
        if trainer.steps % report_every == 0 or trainer.steps == trainer.recipe.steps:
            trainer.save(weights)
            seconds = time.perf_counter() - start
            rate = trainer.steps * trainer.recipe.batch / seconds
            losses = " ".join(f"{name} {value:.2f}" for name, value in smooth.items())
            figures = " ".join(f"{k} {v:.2f}" for k, v in trainer.validate().items())
            print(
                f"step {trainer.steps} {seconds:.0f} s {rate:.1f} images/s | {losses} | {figures}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
