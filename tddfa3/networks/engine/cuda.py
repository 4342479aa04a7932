"""PyTorch networks on CUDA in reduced precision or compiled with CUDA graphs.

:func:`tddfa3.networks.weights.load_network` has already set the memory layout to channels_last.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Data type of each precision."""


class TunedNetwork:
    """A module that computes in another precision, optionally compiled; float32 in and out.

    Args:
        module: in evaluation mode; its weights are converted in place.
        precision: a key of :data:`DTYPES`.
        compiled: compile with CUDA graphs, once per batch size, including the smaller last batch of
            a run.
    """

    def __init__(self, module: nn.Module, precision: str, *, compiled: bool) -> None:
        self.dtype = DTYPES[precision]
        self.module: Any = module.to(self.dtype)
        if compiled:
            self.module = torch.compile(self.module, mode="reduce-overhead", dynamic=False)

    def __call__(self, x: Tensor) -> Any:
        """Runs the module: float32 in, its outputs as float32 out."""
        channels_last = x.to(self.dtype, memory_format=torch.channels_last)
        return _to_float32(self.module(channels_last))


def _to_float32(outputs: Any) -> Any:
    """Copies of the outputs in float32; a CUDA graph overwrites its outputs in the next call."""
    if isinstance(outputs, Tensor):
        return outputs.to(torch.float32, copy=True)
    return type(outputs)(_to_float32(output) for output in outputs)
