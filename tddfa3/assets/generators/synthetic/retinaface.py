"""Synthetic RetinaFace (ResNet-50): a random trunk whose class heads are fitted to cartoon heads.

The stride-8 level and two of the anchor sizes are switched off by their bias, which keeps the boxes
sensible: about 128 or 256 px on the 512 canvas.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tddfa3.assets.generators.synthetic.backbones import resnet50
from tddfa3.assets.generators.synthetic.builder import NetworkBuilder
from tddfa3.assets.generators.synthetic.pictures import Head, picture
from tddfa3.assets.generators.synthetic.seeded import (
    FloatArray,
    NamedRandom,
    bump,
    round_significant,
)

CANVAS = 512
PICTURES = 8
LOGITS_PER_DEVIATION = 1.1
LOGIT_OF_07 = 0.847
"""Logit of 0.7, above which the detector keeps scores."""
ACTIVE_ANCHORS = {1: (1, 128.0, 16), 2: (0, 256.0, 32)}
"""Level to the anchor in use, its size and the level's stride in canvas pixels."""
PASS_QUANTILE = {1: 0.9985, 2: 0.975}
"""Level to the share of its anchors that stay below a score of 0.7."""


def synthetic_retinaface(random: NamedRandom) -> dict[str, Tensor]:
    """State dict with upstream's key names."""
    builder = NetworkBuilder(random, "ret")
    heads, x = _canvases(random)
    features = _pyramid(builder, resnet50(builder, "body.", x))
    for level, feature in enumerate(features):
        vectors = feature.permute(0, 2, 3, 1).reshape(-1, 256).numpy()
        _put_class_head(builder, level, vectors, heads)
        _put_regression_heads(builder, level, vectors)
    return builder.tensors


def _canvases(random: NamedRandom) -> tuple[list[list[Head]], Tensor]:
    """The heads of each picture, and the normalised pictures (PICTURES,3,CANVAS,CANVAS)."""
    g = random("ret_faces")
    heads: list[list[Head]] = []
    pictures = []
    for i in range(PICTURES):
        if i % 2 == 0:
            drawn = [(g.uniform(150, 360), g.uniform(150, 360), g.uniform(95, 140))]
        else:
            drawn = [
                (g.uniform(70, 230), g.uniform(70, 440), g.uniform(45, 65)),
                (g.uniform(290, 440), g.uniform(70, 440), g.uniform(45, 65)),
            ]
        heads.append(drawn)
        pictures.append(picture(random, f"ret{i}", CANVAS, drawn))
    x = torch.from_numpy(np.stack(pictures)) / 255.0
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)
    x = (x - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    for i in range(PICTURES):  # the bars that photographs get on a square canvas
        bar = int(g.uniform(0, 100))
        if i % 3 == 1:
            x[i, :, :bar] = 0
            x[i, :, CANVAS - bar :] = 0
        if i % 3 == 2:
            x[i, :, :, :bar] = 0
            x[i, :, :, CANVAS - bar :] = 0
    return heads, x


def _pyramid(builder: NetworkBuilder, trunk: list[Tensor]) -> list[Tensor]:
    """Feature pyramid and context modules: three maps of 256 channels."""
    fine, middle, coarse = (
        builder.conv_norm_relu(f"fpn.output{i}", x, 256, 1) for i, x in enumerate(trunk, 1)
    )
    middle = middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest")
    middle = builder.conv_norm_relu("fpn.merge2", middle, 256)
    fine = fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest")
    fine = builder.conv_norm_relu("fpn.merge1", fine, 256)
    return [_context(builder, f"ssh{i}.", x) for i, x in enumerate((fine, middle, coarse), 1)]


def _context(builder: NetworkBuilder, prefix: str, x: Tensor) -> Tensor:
    five = builder.conv_norm_relu(prefix + "conv5X5_1", x, 64)
    seven = builder.conv_norm_relu(prefix + "conv7X7_2", five, 64)
    branches = [
        builder.conv_norm(prefix + "conv3X3", x, 128),
        builder.conv_norm(prefix + "conv5X5_2", five, 64),
        # Upstream spells this one key with a small x.
        builder.conv_norm(prefix + "conv7x7_3", seven, 64),
    ]
    return F.relu(torch.cat(branches, 1))


def _put_class_head(
    builder: NetworkBuilder, level: int, vectors: FloatArray, heads: list[list[Head]]
) -> None:
    weight = np.zeros((4, 256))  # rows: background and face of anchor 0, then of anchor 1
    bias = np.array([6.0, -6.0, 6.0, -6.0])
    if level in ACTIVE_ANCHORS:
        anchor, size, stride = ACTIVE_ANCHORS[level]
        target = _anchor_fit(heads, size, stride).ravel()
        mean = vectors.mean(0)
        centred = vectors - mean
        direction = _ridge_regression(centred, target - target.mean())
        direction = round_significant(
            direction / round_significant((centred @ direction).std(), 3), 4
        )
        score = centred @ direction
        threshold = round_significant(np.quantile(score, PASS_QUANTILE[level]), 4)
        # Face and background logits differ by the score, shifted to 0.7 at the threshold.
        face, background = 2 * anchor + 1, 2 * anchor
        weight[face] = 0.5 * LOGITS_PER_DEVIATION * direction
        weight[background] = -0.5 * LOGITS_PER_DEVIATION * direction
        offset = LOGIT_OF_07 - LOGITS_PER_DEVIATION * (threshold + mean @ direction)
        bias[face], bias[background] = 0.5 * offset, -0.5 * offset
    rounded = round_significant(weight, 5)
    builder.put(f"ClassHead.{level}.conv1x1.weight", rounded[:, :, None, None])
    builder.put(f"ClassHead.{level}.conv1x1.bias", round_significant(bias, 6))


def _anchor_fit(heads: list[list[Head]], size: float, stride: int) -> FloatArray:
    """(PICTURES,n,n): how well an anchor at each place fits the nearest head, 0..1."""
    places = (np.arange(CANVAS // stride) + 0.5) * stride
    fit = np.zeros((len(heads), len(places), len(places)))
    for i, drawn in enumerate(heads):
        for x, y, radius in drawn:
            size_fit = bump(np.log(2 * radius / size), 0.5)
            distance = np.hypot(places[None] - x, places[:, None] - y)
            fit[i] = np.maximum(fit[i], size_fit * bump(distance, size * 0.22))
    return fit


def _ridge_regression(vectors: FloatArray, target: FloatArray) -> FloatArray:
    penalty = 0.3 * len(vectors) * np.eye(vectors.shape[1])
    weights: FloatArray = np.linalg.solve(vectors.T @ vectors + penalty, vectors.T @ target)
    return weights


def _put_regression_heads(builder: NetworkBuilder, level: int, vectors: FloatArray) -> None:
    deviation, mean = vectors.std(), round_significant(vectors.mean(0))
    for head, rows, spread in (("BboxHead", 8, 0.25), ("LandmarkHead", 20, 1.0)):
        normal = builder.random(f"{head}{level}").normal(size=(rows, 256))
        scaled = normal * spread / np.sqrt(256) / round_significant(deviation, 3)
        weight = round_significant(scaled, 5)
        builder.put(f"{head}.{level}.conv1x1.weight", weight[:, :, None, None])
        builder.put(f"{head}.{level}.conv1x1.bias", round_significant(-weight @ mean, 5))
