"""Exports PyTorch modules to ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tddfa3.errors import UserError

OPSET = 17
"""ONNX operator set of the exports."""


class ExportError(UserError):
    """This version of PyTorch cannot export the network to ONNX."""


def export(module: nn.Module, example: Tensor, dynamic: Sequence[int], path: Path) -> None:
    """Writes the module as an ONNX model: input "x", outputs in the module's order.

    It is traced, which suffices because the networks' control flow depends only on their structure.
    The newer exporter would need two more packages and twice the time.

    Args:
        module: in evaluation mode; layers are replaced in place by equivalent ones (see
            :func:`spell_out`).
        example: see :func:`example_input`.
        dynamic: axes of the input whose length may vary.
        path: of the file to write.

    Raises:
        ExportError: If PyTorch cannot export it.
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
        # Warnings about the exporter's deprecation and about branches on the network's structure.
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
    """Random input of a shape, the same in every process.

    Args:
        shape: None for axes that vary.

    Returns:
        float32 normal noise.
    """
    # Axes that vary get no length of 1, which tracing may take for a constant, and are long enough
    # for the smallest image of a network.
    lengths = [n or (2 if axis == 0 else 48) for axis, n in enumerate(shape)]
    return torch.randn(lengths, generator=torch.Generator().manual_seed(0))


def spell_out(module: nn.Module) -> None:
    """Replaces submodules, in place, for which onnxruntime has no fast kernels."""
    for name, child in module.named_children():
        if isinstance(child, nn.PReLU):
            setattr(module, name, PlainPReLU(child.weight.detach()))
        elif isinstance(child, nn.Conv2d) and _only_subsamples(child):
            setattr(module, name, SubsampledConvolution(child))
        else:
            spell_out(child)


class PlainPReLU(nn.Module):
    """PReLU in operations that onnxruntime has fast kernels for.

    onnxruntime's PRelu takes three times as long as the rest of the 106-point network.

    Attributes:
        slopes: (C,) slope of each channel for negative values.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, ...)`` -> the same shape."""
        slopes = self.slopes.reshape(-1, *[1] * (x.ndim - 2))
        return torch.relu(x) * (1 - slopes) + slopes * x


class SubsampledConvolution(nn.Module):
    """A strided 1x1 convolution as subsampling followed by a convolution without stride.

    onnxruntime runs strided 1x1 convolutions at a third of the speed. The subsampling is a pooling
    over single pixels, which, unlike a slice, keeps onnxruntime's internal layout of images.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = convolution.stride

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> what the original convolution returns."""
        picked = functional.max_pool2d(x, kernel_size=1, stride=self.stride)
        return functional.conv2d(picked, self.weight, self.bias)


def _only_subsamples(convolution: nn.Conv2d) -> bool:
    plain = convolution.groups == 1 and convolution.padding in ((0, 0), "valid")
    return plain and convolution.kernel_size == (1, 1) and convolution.stride != (1, 1)


def outputs_of(call: Callable[[Tensor], object], x: Tensor) -> list[Tensor]:
    """A network's outputs for ``x`` as a list, whether it returns one tensor or several."""
    with torch.inference_mode():
        outputs = call(x)
    if isinstance(outputs, Tensor):
        return [outputs]
    assert isinstance(outputs, (list, tuple))
    return list(outputs)
