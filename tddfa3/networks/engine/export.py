"""From a PyTorch module to the bytes of an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tddfa3.errors import UserError

OPSET = 17


class ExportError(UserError):
    """A network that cannot be expressed in ONNX by this version of PyTorch."""


def export(module: nn.Module, example: Tensor, dynamic: Sequence[int], path: Path) -> None:
    """Writes the module as an ONNX model: input "x", outputs in the module's order.

    By tracing: our networks' control flow depends on their structure alone. The newer exporter
    would need two more packages and takes twice as long.

    Args:
        module: in evaluation mode; parts of it are replaced in place (see
            :func:`spell_out`), its results are not changed.
        example: see :func:`example_input`.
        dynamic: axes of the input whose length may change.

    Raises:
        ExportError: PyTorch cannot export it.
    """
    spell_out(module)
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


def spell_out(module: nn.Module) -> None:
    """Replaces below ``module``, in place, what onnxruntime has no fast kernels for."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            setattr(module, name, PlainPReLU(child.weight.detach()))
        elif isinstance(child, nn.Conv2d) and _only_subsamples(child):
            setattr(module, name, SubsampledConvolution(child))
        else:
            spell_out(child)


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


class SubsampledConvolution(nn.Module):
    """A 1x1 convolution with a stride: the pixels that it sees first, then the convolution.

    onnxruntime runs one with a stride at a third of the speed of one without. Pixels are picked by
    a pooling over one pixel, which, unlike a slice, keeps the layout that it has chosen for images.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = convolution.stride

    def forward(self, x: Tensor) -> Tensor:
        picked = functional.max_pool2d(x, kernel_size=1, stride=self.stride)
        return functional.conv2d(picked, self.weight, self.bias)


def _only_subsamples(convolution: nn.Conv2d) -> bool:
    plain = convolution.groups == 1 and convolution.padding in ((0, 0), "valid")
    return plain and convolution.kernel_size == (1, 1) and convolution.stride != (1, 1)


def outputs_of(call: Callable[[Tensor], object], x: Tensor) -> list[Tensor]:
    """What a network returns, as a list."""
    with torch.inference_mode():
        outputs = call(x)
    if isinstance(outputs, Tensor):
        return [outputs]
    assert isinstance(outputs, (list, tuple))
    return list(outputs)
