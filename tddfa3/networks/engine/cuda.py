"""PyTorch networks on CUDA with fewer bits and fewer kernel launches.

The layout is channels_last already: :func:`tddfa3.networks.weights.load_network` sees to that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TunedNetwork:
    """A module that computes in another precision, optionally compiled; float32 in and out.

    Args:
        module: in evaluation mode; its weights are converted in place.
        precision: a key of :data:`DTYPES`.
        compiled: compile with CUDA graphs, once per batch size: the last batch of a run, which is
            smaller, is compiled for too.
    """

    def __init__(self, module: nn.Module, precision: str, *, compiled: bool) -> None:
        self.dtype = DTYPES[precision]
        self.module: Any = module.to(self.dtype)
        if compiled:
            self.module = torch.compile(self.module, mode="reduce-overhead", dynamic=False)

    def __call__(self, x: Tensor) -> Any:
        channels_last = x.to(self.dtype, memory_format=torch.channels_last)
        return _to_float32(self.module(channels_last))


def _to_float32(outputs: Any) -> Any:
    """Copies, too: the outputs of a CUDA graph are overwritten by its next call."""
    if isinstance(outputs, Tensor):
        return outputs.to(torch.float32, copy=True)
    return type(outputs)(_to_float32(output) for output in outputs)
