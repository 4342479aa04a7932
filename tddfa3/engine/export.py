"""From a PyTorch module to the bytes of an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tddfa3.errors import UserError

OPSET = 17


class ExportError(UserError):
    """A network that cannot be expressed in ONNX by this version of PyTorch."""


def export(module: nn.Module, example: Tensor, dynamic: Sequence[int], path: Path) -> None:
    """Writes the module as an ONNX model: input "x", outputs in the module's order.

    By tracing: our networks' control flow depends on their structure alone. The newer exporter
    would need two more packages and takes twice as long.

    Args:
        module: in evaluation mode; its activations are replaced in place (see
            :class:`PlainPReLU`), its results are not changed.
        example: see :func:`example_input`.
        dynamic: axes of the input whose length may change.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    spell_out_prelu(module)
    try:
        _trace(module, example, dynamic, path)
    except Exception as error:  # the exporter raises errors of many unrelated types
        why = str(error).strip().split("\n")[0]
        raise ExportError(
            f"{type(module).__name__} cannot be exported to ONNX by PyTorch "
            f"{torch.__version__}: {why}"
        ) from error


def _trace(module: nn.Module, example: Tensor, dynamic: Sequence[int], path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # Of the exporter's age, and of branches on the network's structure.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {axis: f"axis{axis}" for axis in dynamic}},
            opset_version=OPSET,
        )


def example_input(shape: Sequence[int | None]) -> Tensor:
    """An input of the shape, the same in every process: noise around 0 as normalised photos are."""
    # Not 1, which tracing may take for a constant; wide enough for a network's smallest image.
    lengths = [n or (2 if axis == 0 else 48) for axis, n in enumerate(shape)]
    return torch.randn(lengths, generator=torch.Generator().manual_seed(0))


class PlainPReLU(nn.Module):
    """PReLU in operations that onnxruntime has fast kernels for.

    Its own PRelu takes three times as long as the rest of the 106-point network.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes)

    def forward(self, x: Tensor) -> Tensor:
        slopes = self.slopes.reshape(-1, *[1] * (x.ndim - 2))
        return torch.relu(x) * (1 - slopes) + slopes * x


def spell_out_prelu(module: nn.Module) -> None:
    """Replaces every PReLU below ``module`` in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            setattr(module, name, PlainPReLU(child.weight.detach()))
        else:
            spell_out_prelu(child)


def outputs_of(call: Callable[[Tensor], object], x: Tensor) -> list[Tensor]:
    """What a network returns, as a list."""
    with torch.inference_mode():
        outputs = call(x)
    if isinstance(outputs, Tensor):
        return [outputs]
    assert isinstance(outputs, (list, tuple))
    return list(outputs)
