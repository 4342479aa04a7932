"""Synthetic backbones: a 224 crop to the 257 coefficients, in upstream's two architectures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tddfa3.assets.generators.synthetic.builder import NetworkBuilder
from tddfa3.assets.generators.synthetic.pictures import picture
from tddfa3.assets.generators.synthetic.seeded import NamedRandom, round_significant

# Name, size and spread over pictures of each head. The means of id, exp and alb are 0.
HEADS = (
    ("id", 80, 0.60),
    ("exp", 64, 0.60),
    ("alb", 80, 0.60),
    ("angle", 3, 0.11),
    ("sh", 27, 0.05),
    ("txy", 2, 0.03),
    ("tz", 1, 0.05),
)
# MobileNetV3-Large: kernel, expansion, channels, squeeze-and-excitation, hard swish, stride.
MOBILENET_BLOCKS = (
    (3, 1.0, 16, False, False, 1),
    (3, 4.0, 24, False, False, 2),
    (3, 3.0, 24, False, False, 1),
    (5, 3.0, 40, True, False, 2),
    (5, 3.0, 40, True, False, 1),
    (5, 3.0, 40, True, False, 1),
    (3, 6.0, 80, False, True, 2),
    (3, 2.5, 80, False, True, 1),
    (3, 2.3, 80, False, True, 1),
    (3, 2.3, 80, False, True, 1),
    (3, 6.0, 112, True, True, 1),
    (3, 6.0, 112, True, True, 1),
    (5, 6.0, 160, True, True, 2),
    (5, 6.0, 160, True, True, 1),
    (5, 6.0, 160, True, True, 1),
)
Trunk = Callable[[NetworkBuilder, str, Tensor], Tensor]


def synthetic_backbone(random: NamedRandom, name: str) -> dict[str, Tensor]:
    """State dict of backbone ``name``: "resnet50" or "mbnetv3"."""
    # Photographs differ more from each other than the pictures do, by a factor that depends on
    # the trunk; the last number makes up for it.
    trunk: Trunk
    if name == "resnet50":
        trunk, tag, scale = _last_of_resnet50, "r50", 0.5
    else:
        trunk, tag, scale = mobilenetv3, "mbn", 1.2
    builder = NetworkBuilder(random, tag)
    features = trunk(builder, "backbone.", _crops(random, tag)).mean((2, 3)).numpy()
    mean = round_significant(features.mean(0))
    for i, (head, size, spread) in enumerate(HEADS):
        weight = random(tag + "head" + head).normal(size=(size, features.shape[1]))
        weight *= scale * spread / round_significant(((features - mean) @ weight.T).std(), 3)
        rounded = round_significant(weight, 5)
        builder.put(f"final_layers.{i}.weight", rounded[:, :, None, None])
        builder.put(f"final_layers.{i}.bias", round_significant(-weight @ mean, 5))
    return builder.tensors


def _crops(random: NamedRandom, tag: str, count: int = 24, size: int = 224) -> Tensor:
    """(count,3,size,size) float64 0..1. A crop may reach outside its photo, where it is black."""
    pictures = [picture(random, f"{tag}{i}", size) for i in range(count)]
    crops = torch.from_numpy(np.stack(pictures)) / 255.0
    for i in range(count):
        bar = int(random(f"{tag}bar{i}").integers(0, 90))
        if i % 4 == 1:
            crops[i, :, :bar] = 0
        if i % 4 == 2:
            crops[i, :, size - bar :] = 0
        if i % 4 == 3:
            crops[i, :, :, :bar] = 0
    return crops


def _last_of_resnet50(builder: NetworkBuilder, prefix: str, x: Tensor) -> Tensor:
    return resnet50(builder, prefix, x)[-1]


def resnet50(builder: NetworkBuilder, prefix: str, x: Tensor) -> list[Tensor]:
    """ResNet-50 v1.5, torchvision's, trunk; returns the outputs of layer2, layer3 and layer4."""
    x = F.relu(builder.norm(prefix + "bn1", builder.conv(prefix + "conv1", x, 64, 7, 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for layer, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), 1):
        for block in range(blocks):
            stride = 2 if block == 0 and layer > 1 else 1
            x = _bottleneck(
                builder, f"{prefix}layer{layer}.{block}.", x, width, stride, widen=block == 0
            )
        outputs.append(x)
    return outputs[1:]


def _bottleneck(
    builder: NetworkBuilder, prefix: str, x: Tensor, width: int, stride: int, widen: bool
) -> Tensor:
    y = F.relu(builder.norm(prefix + "bn1", builder.conv(prefix + "conv1", x, width)))
    y = F.relu(builder.norm(prefix + "bn2", builder.conv(prefix + "conv2", y, width, 3, stride)))
    y = builder.norm(prefix + "bn3", builder.conv(prefix + "conv3", y, width * 4), gain=0.35)
    if widen:
        x = builder.conv(prefix + "downsample.0", x, width * 4, 1, stride)
        x = builder.norm(prefix + "downsample.1", x)
    return F.relu(x + y)


def mobilenetv3(builder: NetworkBuilder, prefix: str, x: Tensor) -> Tensor:
    """MobileNetV3-Large (the key layout of d-li14's) up to the 960-channel feature map."""
    stem = prefix + "features.0."
    x = _hard_swish(builder.norm(stem + "1", builder.conv(stem + "0", x, 16, 3, 2)))
    for i, (kernel, expansion, channels, excite, swish, stride) in enumerate(MOBILENET_BLOCKS, 1):
        q = f"{prefix}features.{i}.conv."
        hidden = _multiple_of_8(x.shape[1] * expansion)
        residual = stride == 1 and x.shape[1] == channels
        gain = 0.4 if residual else 1.0
        activation = _hard_swish if swish else F.relu
        if x.shape[1] == hidden:
            y = builder.conv(q + "0", x, hidden, kernel, stride, hidden)
            y = activation(builder.norm(q + "1", y))
            y = _excite(builder, q + "3", y) if excite else y
            y = builder.norm(q + "5", builder.conv(q + "4", y, channels), gain=gain)
        else:
            y = activation(builder.norm(q + "1", builder.conv(q + "0", x, hidden)))
            y = builder.norm(q + "4", builder.conv(q + "3", y, hidden, kernel, stride, hidden))
            y = activation(_excite(builder, q + "5", y) if excite else y)
            y = builder.norm(q + "8", builder.conv(q + "7", y, channels), gain=gain)
        x = x + y if residual else y
    return _hard_swish(builder.norm(prefix + "conv.1", builder.conv(prefix + "conv.0", x, 960)))


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _hard_swish(x: Tensor) -> Tensor:
    return x * _hard_sigmoid(x)


def _multiple_of_8(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _excite(builder: NetworkBuilder, name: str, x: Tensor) -> Tensor:
    """Squeeze-and-excitation."""
    channels = x.shape[1]
    squeezed = _multiple_of_8(channels // 4)
    down, up = float(np.sqrt(2.0 / channels)), float(np.sqrt(2.0 / squeezed))
    y = F.relu(builder.linear(name + ".fc.0", x.mean((2, 3)), squeezed, down))
    y = builder.linear(name + ".fc.2", y, channels, up)
    return x * _hard_sigmoid(y)[:, :, None, None]
