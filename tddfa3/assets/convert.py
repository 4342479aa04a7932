"""Upstream's files -> a bundle. The only module that reads pickles, and it runs nothing in them.

A pickle is a program that may call any function by name. Here a name is looked up in a short list
of stand-ins, written below, that can only build plain arrays; every other name is refused before
anything of it is imported. Not even NumPy's own functions are called: a forged array state could
make them read memory that isn't theirs.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import lz4.frame
import numpy as np
import scipy.io
import torch
from torch import Tensor

from tddfa3.assets import mtcnn_weights, upstream
from tddfa3.assets.face_model_data import Array
from tddfa3.errors import AssetError

_MAX_DEPTH = 8


class _Dtype:
    """Stands in for numpy.dtype: booleans, integers, floats, and lists of objects."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biuf](1|2|4|8)|O8?", code):
            raise pickle.UnpicklingError(f"arrays of dtype {code!r} are not accepted")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"byte order {order!r} is not accepted")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands in for an array while it is read; ``value`` is the array, or a list of objects."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _read_array(dtype, shape, data, "F" if fortran else "C")


def _read_array(dtype: Any, shape: Any, data: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    if dtype.dtype.hasobject:
        if not isinstance(data, list):
            raise pickle.UnpicklingError("an array of objects without its list")
        return data[0] if shape == () and len(data) == 1 else data
    if isinstance(data, str):  # bytes of Python 2
        data = data.encode("latin1")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order).copy()


class _Callable:
    """What an allowed name gives. Not the function itself, so that its attributes can't be set."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("an allowed name must not be changed")


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(_read_array(dtype, shape, data, order))


def _scalar(dtype: Any, data: Any) -> Any:
    return _read_array(dtype, (), data, "C")[()]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} is not accepted")
    return text.encode("latin1")


# NumPy 2 renamed numpy.core to numpy._core; protocol 2 writes bytes as text and _codecs.encode.
_ALLOWED = {
    "numpy.ndarray": _empty_array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in {
            "multiarray._reconstruct": _empty_array,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _array_from_buffer,
        }.items()
    },
}


def _find_allowed(module: str, name: str) -> _Callable:
    full_name = f"{module}.{name}"
    if full_name not in _ALLOWED:
        raise _RefusedError(full_name)
    return _Callable(_ALLOWED[full_name])


class _RefusedError(pickle.UnpicklingError):
    """The pickle names something that is not on the list."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _find_allowed(module, name)


class _JoblibArray:
    """Stands in for joblib's NumpyArrayWrapper: describes an array whose bytes follow it."""

    __slots__ = ("state",)
    expected: ClassVar = {"shape", "order", "dtype", "numpy_array_alignment_bytes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict) or not self.expected <= set(state):
            raise pickle.UnpicklingError("a damaged array description")
        self.state = state

    def read(self, file: IO[bytes]) -> Array:
        file.read(file.read(1)[0])  # padding, after its length
        dtype, shape = self.state["dtype"], self.state["shape"]
        if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
            raise pickle.UnpicklingError("an array without a plain dtype")
        size = int(np.prod(shape)) * dtype.dtype.itemsize
        return _read_array(dtype, shape, file.read(size), self.state["order"])


class _JoblibUnpickler(pickle._Unpickler):  # the C unpickler can't read bytes between its opcodes
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" == "joblib.numpy_pickle.NumpyArrayWrapper":
            return _JoblibArray
        return _find_allowed(module, name)

    def load_build(self) -> None:
        super().load_build()
        if isinstance(self.stack[-1], _JoblibArray):
            self.stack[-1] = self.stack[-1].read(self.file)

    dispatch[pickle.BUILD[0]] = load_build


def _plain(value: Any, depth: int = 0) -> Any:
    """Replace the stand-ins in what was read by arrays, lists and dictionaries."""
    if depth > _MAX_DEPTH:
        raise pickle.UnpicklingError("nested too deeply")
    if isinstance(value, _Array):
        return _plain(value.value, depth)
    if isinstance(value, dict):
        return {_plain(k, depth + 1): _plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or isinstance(value, str | bytes | int | float | np.ndarray | np.generic):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__} is not accepted")


def _load(path: Path, load: Callable[[], Any]) -> Any:
    """Run ``load``, and turn whatever a hostile or damaged file makes it raise into AssetError."""
    try:
        return load()
    except FileNotFoundError:
        raise AssetError(f"{path} is missing; it is one of 3DDFA-V3's assets") from None
    except _RefusedError as error:
        raise AssetError(
            f"{path} was refused: it asks to run {error}, which no asset needs; nothing of it was "
            "run. Download the file again from its source"
        ) from error
    except Exception as error:
        raise AssetError(f"{path} is damaged or not the expected file: {error}") from error


def read_npy(path: Path) -> Any:
    """An array, or the object in a 0-d object array, from a ``.npy`` file."""

    def load() -> Any:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            if dtype.hasobject:
                return _plain(_ArrayUnpickler(file, encoding="latin1").load())
        return np.load(path, allow_pickle=False)

    return _load(path, load)


def read_mat(path: Path, name: str) -> Array:
    """One array of a MATLAB 5 file."""
    return _load(path, lambda: scipy.io.loadmat(str(path), variable_names=[name])[name])


def read_pth(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors only, in the zip format or the older one."""

    def load() -> Any:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise _RefusedError(refused[1]) if refused else error from error

    return _load(path, load)


def read_mtcnn() -> dict[str, Tensor]:
    """All tensors of the three stages, from the installed package's data files."""
    files = mtcnn_weights.package_files()
    tensors: dict[str, Tensor] = {}
    for stage in mtcnn_weights.STAGES:
        path = files[stage.name]
        arrays = read_joblib_arrays(path)
        tensors |= mtcnn_weights.torch_tensors(stage, arrays, str(path))
    return tensors


def read_joblib_arrays(path: Path) -> list[Array]:
    """The list of arrays in a joblib dump that is compressed with lz4."""

    def load() -> list[Array]:
        with lz4.frame.open(path, "rb") as file:
            content = _JoblibUnpickler(io.BytesIO(file.read())).load()
        if not isinstance(content, list) or not all(isinstance(a, np.ndarray) for a in content):
            raise pickle.UnpicklingError("not a list of arrays")
        return content

    return _load(path, load)


def read_network(path: Path) -> dict[str, Tensor]:
    """The tensors of one of upstream's networks, by its file name."""
    _, state_key = upstream.NETWORK_FILES[path.name]
    return upstream.network_from_upstream(read_pth(path), str(path), state_key)


def read_face_model(folder: Path) -> Any:
    """The 3DMM from ``face_model.npy`` and ``similarity_Lm3D_all.mat``."""
    path = folder / upstream.FACE_MODEL_NPY
    model = read_npy(path)
    if not isinstance(model, Mapping):
        raise AssetError(f"{path} holds no dictionary: it is not 3DDFA-V3's face model")
    landmarks = read_mat(folder / upstream.SIMILARITY_MAT, "lm")
    return upstream.face_model_from_upstream(model, landmarks, str(path))
