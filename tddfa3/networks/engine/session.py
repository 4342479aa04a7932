"""Networks run by onnxruntime on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tddfa3.assets.bundle import AssetBundle
from tddfa3.networks.engine import cache as kept
from tddfa3.networks.engine.export import OPSET, ExportError, example_input, export, outputs_of

# Largest deviation of a new export from PyTorch, relative to the largest output; 1e-6 to 2e-5 is
# usual.
_EXPORT_TOLERANCE = 1e-3
# Input bytes per call of a network: one crop, or one 512x512 canvas. On a CPU larger batches are
# not faster (the 106-point network is a third slower, as its layers no longer fit the cache), and
# memory grows in proportion: 16 canvases at once take gigabytes.
_PIECE_BYTES = 2**20

_GRAPH, _WEIGHTS = "network.onnx", "network.weights"


class OnnxNetwork:
    """An ONNX model with one input, called like the module that it was exported from.

    Args:
        folder: made by :func:`prepare`; its weights are memory-mapped.
        threads: threads of one call.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        _share_one_arena()
        options = _options()
        options.intra_op_num_threads = threads
        # The graph is already optimised, and rearranging the weights would copy them.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Idle threads sleep, because the cores are shared with decoding, geometry and other actors.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        # The memory pattern would be planned and kept for every batch size.
        options.enable_mem_pattern = False
        self._session = _session(folder / _GRAPH, options)
        self.threads = threads

    def __call__(self, x: Tensor) -> Any:
        """Runs the network.

        Args:
            x: float32 on the CPU, with any batch size including 0.

        Returns:
            a tensor, or a list of tensors if there are several outputs.
        """
        array = x.detach().contiguous().numpy()
        step = max(1, _PIECE_BYTES // max(1, x[0:1].nbytes))
        pieces = [
            self._session.run(None, {"x": array[start : start + step]})
            for start in range(0, max(1, len(x)), step)
        ]
        outputs = [torch.from_numpy(_joined(values)) for values in zip(*pieces, strict=True)]
        return outputs[0] if len(outputs) == 1 else outputs


def _joined(pieces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def prepare(model: Path, folder: Path) -> None:
    """Optimises an ONNX file for this processor.

    Args:
        model: written by :func:`tddfa3.networks.engine.export.export`.
        folder: an empty folder, which gets the graph and the weights.
    """
    options = _options()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(folder / _GRAPH)
    external = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{external}_file_name", _WEIGHTS)
    options.add_session_config_entry(f"{external}_min_size_in_bytes", "1024")
    _session(model, options)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(model: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def load_onnx(
    build: Callable[[], nn.Module],
    bundle: AssetBundle,
    weights: str,
    shape: Sequence[int | None],
    *,
    part: str,
    threads: int,
) -> OnnxNetwork:
    """Loads a network from the cache of exports, or exports it, checks it and stores it there.

    Args:
        build: makes the module with its weights; called only if there is no export yet.
        bundle: holds the weights.
        weights: the bundle's weights file, without extension.
        shape: of the input; None for axes that vary.
        part: which network of the file; empty if there is only one.
        threads: threads of one call.

    Returns:
        the network, ready to run.

    Raises:
        ExportError: If it cannot be exported, or onnxruntime's results differ from PyTorch's.
    """
    name = kept.stem(bundle, weights, part, shape, OPSET)
    places = kept.folders(bundle)
    folder = kept.find(places, name)
    if folder is not None:
        return OnnxNetwork(folder, threads)
    module, example = build(), example_input(shape)
    expected = outputs_of(module, example)
    with tempfile.TemporaryDirectory() as temporary:
        model, made = Path(temporary) / "model.onnx", Path(temporary) / "made"
        made.mkdir()
        export(module, example, [axis for axis, n in enumerate(shape) if n is None], model)
        prepare(model, made)
        network = OnnxNetwork(made, threads)
        check_equal(expected, outputs_of(network, example), name)
        folder = kept.keep(places, name, made)
    # Loaded from the cache, its weights are shared with later processes.
    return network if folder is None else OnnxNetwork(folder, threads)


def check_equal(expected: Sequence[Tensor], found: Sequence[Tensor], name: str) -> None:
    """Checks that onnxruntime's outputs agree with PyTorch's up to rounding.

    Args:
        expected: PyTorch's outputs.
        found: onnxruntime's outputs.
        name: of the network, for the message.

    Raises:
        ExportError: If they differ.
    """
    for theirs, ours in zip(expected, found, strict=True):
        largest = float(theirs.abs().max())
        difference = float((theirs - ours).abs().max())
        # Written so that NaN is refused as well.
        if not difference <= _EXPORT_TOLERANCE * largest:
            raise ExportError(
                f"{name}: onnxruntime {onnxruntime.__version__} differs from PyTorch "
                f"{torch.__version__} by {difference:.3g} of {largest:.3g}; use --engine torch"
            )


@cache
def _share_one_arena() -> None:
    """Lets all networks of the process share one memory pool.

    They run one after the other, so the pool is as large as the largest needs, not as the sum.
    """
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        onnxruntime.OrtArenaCfg({"max_mem": 0, "arena_extend_strategy": 0}),
    )
