"""Synthetic 106-point network: random features plus channels that tell each layer where it is.

Each heatmap gets one peak, at its landmark's place in a mean face, and the random channels move it
with the picture. A channel that is 1 everywhere and is moved one pixel to the right by a depthwise
3x3 convolution gets a 0 in column 0 from the zero padding; k moves give the step [column >= k].
Blocks 9-15, at 28x28, make steps of 2, 4 and 6; block 16 halves the resolution; blocks 17 and 18
and the final convolution add one step each. Steps from all four sides tell all 14 rows and columns
apart, and any function f(row) + g(column) is a sum of steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tddfa3.assets.generators.synthetic.builder import EditNorm, NetworkBuilder
from tddfa3.assets.generators.synthetic.pictures import picture
from tddfa3.assets.generators.synthetic.seeded import FloatArray, NamedRandom, round_significant

SIDES = "LRTB"  # left, right, top, bottom
# Cell of a 3x3 kernel that moves a channel away from a side by one pixel.
AWAY_FROM = {"L": (1, 0), "R": (1, 2), "T": (0, 1), "B": (2, 1)}
CENTRE = (1, 1)
HEATMAP = 14
PEAK_WIDTH = 0.9  # pixels of the heatmap
# Channels of the 28x28 steps: each side has steps of 6, 4 and 2. Channel 0 is constant.
STEPS_28 = {
    (side, steps): 1 + 3 * i + j
    for i, side in enumerate(SIDES)
    for j, steps in enumerate((6, 4, 2))
}

Steps = dict[tuple[str, int], int]  # (side, steps) to channel


@dataclass(frozen=True)
class Wire:
    """One step channel's way through a block: input channel, kernel cell, output channel, sign."""

    source: int
    cell: tuple[int, int]
    target: int
    sign: float = 1.0


CONSTANT = Wire(0, CENTRE, 0)


@dataclass(frozen=True)
class Wiring:
    """The wires of a block.

    Attributes:
        wires: one per hidden channel, from the first on.
        inputs: number of leading input channels that are steps.
        outputs: number of leading output channels that are steps.
    """

    wires: list[Wire] = field(default_factory=list)
    inputs: int = 0
    outputs: int = 0

    def edit_expand(self, weight: Tensor) -> None:
        """Makes the expansion pass the wires' input channels to their hidden channels."""
        weight[:, : self.inputs] = 0
        weight[: len(self.wires)] = 0
        for hidden, wire in enumerate(self.wires):
            weight[hidden, wire.source] = 1.0

    def edit_depthwise(self, weight: Tensor) -> None:
        """Makes the depthwise convolution move every wire by its kernel cell."""
        for hidden, wire in enumerate(self.wires):
            weight[hidden] = 0
            weight[hidden, 0][wire.cell] = 1.0

    def edit_project(self, weight: Tensor) -> None:
        """Makes the projection pass the wires to their output channels, with their signs."""
        weight[: self.outputs] = 0
        weight[:, : len(self.wires)] = 0
        for hidden, wire in enumerate(self.wires):
            weight[wire.target, hidden] = wire.sign


def _identity_norm(channels: int) -> EditNorm:
    """Makes a batch norm pass the first ``channels`` unchanged."""

    def edit(norm: Mapping[str, Tensor]) -> None:
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ):
            norm[name][:channels] = value

    return edit


def synthetic_landmark_net(random: NamedRandom, places: FloatArray) -> dict[str, Tensor]:
    """State dict with peaks at ``places`` (106,2): x right, y down, 0..1 of the 224 crop."""
    builder = NetworkBuilder(random, "lmk")
    x = _trunk(builder, _pictures(random))
    x = _make_steps_28(builder, x)
    x, steps, step_channels = _make_steps_14(builder, x)
    weight = random("lmk_final").normal(size=(len(places), 256, 3, 3))
    weight[:, :step_channels] = 0
    noise = F.conv2d(x, torch.from_numpy(weight), padding=1)
    spread = (noise - noise.mean((2, 3), keepdim=True)).std().item()
    weight *= 0.45 / round_significant(spread, 3)
    for heatmap, (place_x, place_y) in zip(weight, places, strict=True):
        # A heatmap's ROW is x and its COLUMN is y, as the trained weights have it.
        _add_peak(heatmap, steps, "T", "B", place_x)
        _add_peak(heatmap, steps, "L", "R", place_y)
    builder.put("block19.weight", round_significant(weight, 5))
    return builder.tensors


def _pictures(random: NamedRandom, count: int = 10) -> Tensor:
    pictures = [picture(random, f"lmk{i}", 224) for i in range(count)]
    mean = torch.tensor([103.94, 116.78, 123.68], dtype=torch.float64)
    return (torch.from_numpy(np.stack(pictures)) - mean.view(1, 3, 1, 1)) / 255.0


def _trunk(builder: NetworkBuilder, x: Tensor) -> Tensor:
    """Blocks 1-8: 224x224 to 28x28."""
    x = builder.prelu("block1.2", builder.norm("block1.1", builder.conv("block1.0", x, 64, 3, 2)))
    x = _block(builder, 2, x, 64, expand=2)
    x = _block(builder, 3, x, 64, expand=2, stride=2)
    for number in range(4, 8):
        x = _block(builder, number, x, 64, expand=2, residual=True)
    return _block(builder, 8, x, 128, expand=2, stride=2)


def _block(
    builder: NetworkBuilder,
    number: int,
    x: Tensor,
    channels: int,
    *,
    expand: int,
    stride: int = 1,
    residual: bool = False,
    wiring: Wiring | None = None,
) -> Tensor:
    """Inverted residual block with the step channels wired through it."""
    wiring = wiring or Wiring()
    q = f"block{number}.conv."
    hidden, wires = x.shape[1] * expand, len(wiring.wires)
    y = builder.conv(q + "0", x, hidden, edit=wiring.edit_expand)
    y = builder.prelu(q + "2", builder.norm(q + "1", y, edit=_identity_norm(wires)), wires)
    y = builder.conv(q + "3", y, hidden, 3, stride, hidden, edit=wiring.edit_depthwise)
    y = builder.prelu(q + "5", builder.norm(q + "4", y, edit=_identity_norm(wires)), wires)
    y = builder.conv(q + "6", y, channels, edit=wiring.edit_project)
    gain = 0.5 if residual else 1.0
    y = builder.norm(q + "7", y, gain=gain, edit=_identity_norm(wiring.outputs))
    return x + y if residual else y


def _make_steps_28(builder: NetworkBuilder, x: Tensor) -> Tensor:
    """Blocks 9-15: six moves, after which channels 1-12 are the steps of ``STEPS_28``."""
    count = 1 + len(STEPS_28)
    x = _block(builder, 9, x, 128, expand=4, wiring=Wiring(outputs=count))
    # The step channels come out as the norm's bias; 1 there makes them constant.
    builder.tensors["block9.conv.7.bias"][:count] = 1.0
    x[:, :count] = 1.0
    for number in range(10, 15):
        wires = []
        for (side, steps), channel in STEPS_28.items():
            if 16 - number <= steps:  # a residual block: add (moved - unmoved)
                wires += [
                    Wire(channel, AWAY_FROM[side], channel),
                    Wire(channel, CENTRE, channel, -1.0),
                ]
        wiring = Wiring(wires, count, count)
        x = _block(builder, number, x, 128, expand=4, residual=True, wiring=wiring)
    wires = [Wire(channel, AWAY_FROM[side], channel) for (side, _), channel in STEPS_28.items()]
    return _block(builder, 15, x, 128, expand=2, wiring=Wiring([CONSTANT, *wires], count, count))


def _make_steps_14(builder: NetworkBuilder, x: Tensor) -> tuple[Tensor, Steps, int]:
    """Blocks 16-18: halve the resolution, then one more step twice.

    Returns the features (B,256,14,14), the step channels and their count.
    """
    # Taps at 2i - 1 make four steps from the left and top, taps at 2i three from the others.
    top = {"L": 4, "T": 4, "R": 3, "B": 3}
    steps, count = _step_channels(top)
    wiring = Wiring([CONSTANT, *_halving_wires(steps)], 1 + len(STEPS_28), count)
    x = _block(builder, 16, x, 128, expand=2, stride=2, wiring=wiring)
    longer, more = _step_channels({side: n + 1 for side, n in top.items()})
    wires = [Wire(_below(steps, key), AWAY_FROM[key[0]], c) for key, c in longer.items()]
    x = _block(builder, 17, x, 128, expand=2, wiring=Wiring([CONSTANT, *wires], count, more))
    longest, most = _step_channels({side: n + 2 for side, n in top.items()})

    def edit(weight: Tensor) -> None:
        weight[:, :more] = 0
        weight[:most] = 0
        weight[0, 0, 1, 1] = 1.0
        for key, channel in longest.items():
            weight[channel, _below(longer, key)][AWAY_FROM[key[0]]] = 1.0

    x = builder.norm(
        "block18.1", builder.conv("block18.0", x, 256, 3, edit=edit), edit=_identity_norm(most)
    )
    return builder.prelu("block18.2", x, most), longest, most


def _step_channels(top: dict[str, int]) -> tuple[Steps, int]:
    keys = [(side, k) for side in SIDES for k in range(1, top[side] + 1)]
    return {key: channel for channel, key in enumerate(keys, 1)}, 1 + len(keys)


def _below(steps: Steps, key: tuple[str, int]) -> int:
    """Channel of the step one shorter than ``key``; a step of 0 is the constant channel."""
    side, k = key
    return 0 if k == 1 else steps[side, k - 1]


def _halving_wires(steps: Steps) -> list[Wire]:
    wires = []
    for side in "LT":
        away = AWAY_FROM[side]
        wires.append(Wire(0, away, steps[side, 1]))
        wires += [Wire(STEPS_28[side, 2 * k], away, steps[side, k + 1]) for k in (1, 2, 3)]
    for side in "RB":
        wires += [Wire(STEPS_28[side, 2 * k], CENTRE, steps[side, k]) for k in (1, 2, 3)]
    return wires


def _add_peak(heatmap: FloatArray, steps: Steps, near: str, far: str, place: float) -> None:
    """Add a Gaussian's log along one axis to a kernel (256,3,3), as a sum of steps."""
    log = -((np.arange(float(HEATMAP)) - place * HEATMAP) ** 2) / (2 * PEAK_WIDTH**2)
    for k in range(1, 7):
        heatmap[(steps[near, k], *CENTRE)] += log[k] - log[k - 1]
    heatmap[(steps[near, 6], *AWAY_FROM[near])] += log[7] - log[6]
    for k in range(1, 6):
        heatmap[(steps[far, k], *CENTRE)] += log[13 - k] - log[14 - k]
    heatmap[(steps[far, 5], *AWAY_FROM[far])] += log[7] - log[8]
