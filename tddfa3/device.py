"""Chooses the device and moves pixels to it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tddfa3.errors import UnavailableError, UserError


def choose_device(name: str) -> torch.device:
    """Turns a device's name into a device.

    Args:
        name: "auto" for CUDA if available, else the CPU; "cpu" or "cuda[:i]".

    Returns:
        the device.

    Raises:
        UserError: If the name is not a supported device.
        UnavailableError: If CUDA was asked for and is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device: {name!r} is not a device; give auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(
            f"device: {name!r} was asked for and PyTorch sees no CUDA device; "
            "use --device cpu, or install a CUDA build of PyTorch and its driver"
        )
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: {name!r} is not supported; give auto, cpu or cuda")
    return device


def crops_to_tensor(crops: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Converts crops, uint8 (B, 224, 224, 3), to float32 (B, 3, 224, 224) 0..1 on the device."""
    tensor = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2)
    return tensor.contiguous().to(torch.float32) / 255.0
