"""Generates a network's weights layer by layer while pictures pass through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tddfa3.assets.generators.synthetic.seeded import NamedRandom, round_significant

EditWeight = Callable[[Tensor], None]
"""Changes a newly generated weight in place."""
EditNorm = Callable[[Mapping[str, Tensor]], None]
"""Changes a batch norm's four tensors, given by name, in place."""


class NetworkBuilder:
    """Runs a forward pass in float64 and generates the parameters as it goes.

    Convolutions are He-normal; batch norms get the statistics of their input.

    Args:
        random: source of the random arrays.
        tag: keeps the random arrays of different networks apart.

    Attributes:
        tensors: the parameters so far, by name.
    """

    def __init__(self, random: NamedRandom, tag: str) -> None:
        self.random = random
        self.tag = tag
        self.tensors: dict[str, Tensor] = {}

    def double(self, key: str) -> Tensor:
        """A parameter in float64."""
        return self.tensors[key].double()

    def put(self, key: str, value: npt.ArrayLike) -> None:
        """Stores a parameter as float32."""
        array = np.ascontiguousarray(np.asarray(value, dtype=np.float32))
        self.tensors[key] = torch.from_numpy(array)

    def put_normal(self, key: str, shape: tuple[int, ...], deviation: float) -> None:
        """Stores a normally distributed parameter."""
        self.put(key, self.random(self.tag + key).normal(size=shape) * deviation)

    def conv(
        self,
        name: str,
        x: Tensor,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        edit: EditWeight | None = None,
    ) -> Tensor:
        """Convolution without bias, padded to keep the size at stride 1."""
        key = name + ".weight"
        inputs = x.shape[1] // groups
        deviation = float(np.sqrt(2.0 / (inputs * kernel * kernel)))
        self.put_normal(key, (channels, inputs, kernel, kernel), deviation)
        if edit is not None:
            edit(self.tensors[key])
        return F.conv2d(x, self.double(key), None, stride, kernel // 2, 1, groups)

    def norm(self, name: str, x: Tensor, gain: float = 1.0, edit: EditNorm | None = None) -> Tensor:
        """Batch norm with the statistics of ``x``."""
        channels = x.shape[1]
        weight = self.random(self.tag + name + "w").normal(size=channels)
        bias = self.random(self.tag + name + "b").normal(size=channels)
        variance = x.var((0, 2, 3), unbiased=False).numpy()
        # The floor keeps nearly dead channels dead.
        variance = np.maximum(variance, 0.25 * variance.mean() + 1e-3)
        self.put(name + ".weight", gain * (1 + 0.1 * weight))
        self.put(name + ".bias", 0.1 * bias)
        self.put(name + ".running_mean", round_significant(x.mean((0, 2, 3)).numpy()))
        self.put(name + ".running_var", round_significant(variance))
        self.tensors[name + ".num_batches_tracked"] = torch.tensor(1000)
        names = ("weight", "bias", "running_mean", "running_var")
        if edit is not None:
            edit({part: self.tensors[f"{name}.{part}"] for part in names})
        weight_, bias_, mean_, variance_ = (self.double(f"{name}.{part}") for part in names)
        return F.batch_norm(x, mean_, variance_, weight_, bias_, False, 0.0, 1e-5)

    def conv_norm_relu(self, name: str, x: Tensor, channels: int, kernel: int = 3) -> Tensor:
        """:meth:`conv_norm` followed by ReLU."""
        return F.relu(self.conv_norm(name, x, channels, kernel))

    def conv_norm(self, name: str, x: Tensor, channels: int, kernel: int = 3) -> Tensor:
        """Convolution and batch norm, named ``name.0`` and ``name.1``."""
        return self.norm(name + ".1", self.conv(name + ".0", x, channels, kernel))

    def linear(self, name: str, x: Tensor, features: int, deviation: float) -> Tensor:
        """Fully connected layer with bias; its weights have the given standard deviation."""
        self.put_normal(name + ".weight", (features, x.shape[1]), deviation)
        self.put(name + ".bias", 0.1 * self.random(self.tag + name + "lb").normal(size=features))
        return F.linear(x, self.double(name + ".weight"), self.double(name + ".bias"))

    def prelu(self, name: str, x: Tensor, linear_channels: int = 0) -> Tensor:
        """PReLU of slope 0.25; the first ``linear_channels`` pass unchanged."""
        slope = np.full(x.shape[1], 0.25)
        slope[:linear_channels] = 1.0
        self.put(name + ".weight", slope)
        return F.prelu(x, self.double(name + ".weight"))
