"""Running networks and comparing what they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def run(network: Callable[[Tensor], Any], x: Tensor) -> list[Tensor]:
    """The outputs of a network, as a list."""
    with torch.inference_mode():
        outputs = network(x)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of what was expected."""
    return float((found - expected).norm() / expected.norm())
