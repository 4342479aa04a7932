"""Runs the networks: PyTorch on any device, onnxruntime on CPUs, behind one interface.

A network is a callable that takes a tensor and returns a tensor, or a tuple or list of tensors, as
its module does. Code outside this package does not depend on which engine runs.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UnavailableError, UserError
from tddfa3.networks.engine.export import ExportError
from tddfa3.networks.weights import load_network

__all__ = ["ENGINES", "PRECISIONS", "Engine", "ExportError", "Network"]

Network = Callable[[Tensor], Any]
ENGINES = ("auto", "torch", "onnx")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Engine:
    """How all networks of a process are run.

    Attributes:
        name: "onnx" for onnxruntime, CPU only and about twice as fast there as PyTorch; "torch"; or
            "auto": onnx on a CPU where onnxruntime and onnx are installed, else torch.
        device: where PyTorch runs.
        threads: threads of one network call on the CPU; None for PyTorch's setting.
        precision: "fp32"; on CUDA also "bf16" or "fp16": weights and activations in that type,
            inputs and outputs still float32. ``python -m benchmarks`` measures the effect.
        compiled: use ``torch.compile`` with CUDA graphs; CUDA only, compiles once per batch size.

    Raises:
        UserError: If a name is unknown, or the combination is not supported.
        UnavailableError: If onnxruntime was asked for and is not installed.
    """

    name: str = "auto"
    device: torch.device | str = "cpu"
    threads: int | None = None
    precision: str = "fp32"
    compiled: bool = False

    def __post_init__(self) -> None:
        device = torch.device(self.device)
        object.__setattr__(self, "device", device)
        if self.name not in ENGINES:
            raise UserError(f"engine: {self.name!r} is unknown; choose of {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise UserError(
                f"precision: {self.precision!r} is unknown; choose of {', '.join(PRECISIONS)}"
            )
        if device.type == "cpu" and (self.precision != "fp32" or self.compiled):
            raise UserError(
                "engine: reduced precision and compilation are for CUDA; on a CPU they cost time. "
                "Use --precision fp32 without compilation there"
            )
        if self.name == "onnx" and device.type != "cpu":
            raise UserError(
                f"engine: onnx runs on the CPU only, and the device is {device}; use --engine "
                "torch or auto, or --device cpu"
            )
        if self.name == "onnx" and not onnx_is_installed():
            raise UnavailableError(
                "engine: onnx was asked for and onnxruntime or onnx is not installed; "
                "`pip install onnxruntime onnx`, or use --engine torch"
            )

    @property
    def kind(self) -> str:
        """The engine that ``name`` stands for on this machine, "onnx" or "torch"."""
        if self.name != "auto":
            return self.name
        on_cpu = torch.device(self.device).type == "cpu"
        return "onnx" if on_cpu and onnx_is_installed() else "torch"

    def network(
        self,
        architecture: Callable[[], nn.Module],
        bundle: AssetBundle,
        weights: str,
        shape: Sequence[int | None],
        *,
        part: str = "",
    ) -> Network:
        """Loads a network of the bundle, ready to run.

        Args:
            architecture: constructs the module without weights; called on the meta device.
            bundle: holds the weights.
            weights: the bundle's weights file, without extension.
            shape: of the float32 input; None for axes that vary between calls.
            part: the attribute of the module to run, if it is a set of networks.

        Returns:
            a callable from float32 input to the module's outputs.

        Raises:
            AssetError: If the bundle has no such weights, or they do not fit.
            ExportError: If onnx was asked for by name and the network cannot be exported.
        """

        def build() -> nn.Module:
            source = f"{bundle.path}: {weights}"
            module = load_network(
                architecture, bundle.tensors(weights), source=source, device=self.device
            )
            return getattr(module, part) if part else module

        if self.kind == "torch":
            return self._in_torch(build())
        from tddfa3.networks.engine.session import load_onnx

        threads = self.threads or torch.get_num_threads()
        try:
            return load_onnx(build, bundle, weights, shape, part=part, threads=threads)
        except ExportError as error:
            if self.name == "onnx":
                raise
            warnings.warn(f"{error}; PyTorch runs this network instead", stacklevel=2)
            return self._in_torch(build())

    def _in_torch(self, module: nn.Module) -> Network:
        if self.precision == "fp32" and not self.compiled:
            return module
        from tddfa3.networks.engine.cuda import TunedNetwork

        return TunedNetwork(module, self.precision, compiled=self.compiled)


def onnx_is_installed() -> bool:
    """Whether onnxruntime, and onnx, which PyTorch's exporter needs, are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnxruntime", "onnx"))
