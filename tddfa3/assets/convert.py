"""Converts upstream's files to a bundle. The only module that reads pickles, without running them.

A pickle is a program that may call any function by name. Here names are looked up in a short list
of stand-ins, defined below, which can only build plain arrays; any other name is refused before
anything is imported. Not even NumPy's own functions are called, because a forged array state could
make them read memory out of bounds.
"""

from __future__ import annotations

import io
import logging
import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import scipy.io
import torch
from torch import Tensor

from tddfa3.assets import mtcnn_weights, upstream
from tddfa3.assets.bundle import BUNDLE_JSON, DETECTOR_FILES, AssetBundle, file_sha256
from tddfa3.assets.bundle_writer import BundleContents, Origin, existing_bundle, write_bundle
from tddfa3.assets.face_model_data import Array, FaceModelData
from tddfa3.assets.topology import INDICES_FILE, checked_indices
from tddfa3.errors import AssetError, UnavailableError

CONVERTER_VERSION = 1
LICENCE = "non-commercial research only, no redistribution (Basel Face Model and 3DDFA-V3 assets)"
NOTICE = (
    "The face model is derived from the Basel Face Model, whose licence allows non-commercial "
    "research only and no redistribution; the networks are 3DDFA-V3's. Cite both in publications."
)
ORIGIN = Origin(source="3DDFA-V3 assets, converted from local files", licence=LICENCE)
_MAX_DEPTH = 8

_log = logging.getLogger(__name__)


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
    """Stands in for an array during reading; ``value`` is the array, or a list of objects."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: Any) -> None:
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
    """Wraps the function behind an allowed name, so that its attributes can't be set."""

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


def _empty_bytes() -> bytes:
    return b""


# NumPy 2 renamed numpy.core to numpy._core; protocols 0 to 2 write bytes as text and
# _codecs.encode, and no bytes as a call of bytes.
_ALLOWED: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _empty_array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _empty_bytes,
    "__builtin__.bytes": _empty_bytes,
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


class _JoblibUnpickler(_ArrayUnpickler):
    """Reads joblib's dumps, in which an array's bytes are interleaved with the pickle's opcodes."""

    def __init__(self, file: _ExactReader) -> None:
        super().__init__(file)
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" != "joblib.numpy_pickle.NumpyArrayWrapper":
            return super().find_class(module, name)
        file = self.file

        class DescribedArray(_Array):
            """Takes the description of an array, then reads the array that follows it."""

            __slots__ = ()

            def __setstate__(self, state: Any) -> None:
                dtype, shape = state["dtype"], state["shape"]
                if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
                    raise pickle.UnpicklingError("an array without a plain dtype")
                file.read(file.read(1)[0])  # padding, after its length
                data = file.read(math.prod(shape) * dtype.dtype.itemsize)
                self.value = _read_array(dtype, shape, data, state["order"])

        return DescribedArray


class _ExactReader:
    """A file without ``peek``, so that an unpickler can't read ahead."""

    def __init__(self, data: bytes) -> None:
        file = io.BytesIO(data)
        self.read, self.readline = file.read, file.readline


def _plain(value: Any, depth: int = 0) -> Any:
    """Replaces the stand-ins in what was read by arrays, lists and dictionaries."""
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
    """Runs ``load`` and turns the errors of a hostile or damaged file into ``AssetError``."""
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
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssetError(f"{path} is damaged or not the expected file: {detail}") from error


def read_npy(path: Path) -> Any:
    """Reads an array, or the object in a 0-d object array, from a ``.npy`` file.

    Raises:
        AssetError: If the file is missing, damaged or hostile.
    """

    def load() -> Any:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
            if header[2].hasobject:
                return _plain(_ArrayUnpickler(file, encoding="latin1").load())
        return np.load(path, allow_pickle=False)

    return _load(path, load)


def read_mat(path: Path, name: str) -> Array:
    """Reads one array of a MATLAB 5 file.

    Raises:
        AssetError: If the file is missing or damaged.
    """
    return _load(path, lambda: scipy.io.loadmat(str(path), variable_names=[name])[name])


def read_pth(path: Path) -> Any:
    """Reads tensors that ``torch.save`` wrote, in the zip format or the older one.

    Raises:
        AssetError: If the file is missing, damaged or hostile.
    """

    def load() -> Any:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch's own message advises to switch the protection off.
            refused = re.search(r"GLOBAL ([\w.]+)", str(error))
            if refused:
                raise _RefusedError(refused[1]) from error
            raise pickle.UnpicklingError("it holds more than tensors") from error

    return _load(path, load)


def read_mtcnn() -> dict[str, Tensor]:
    """Reads the tensors of MTCNN's three stages from the installed package's data files."""
    files = mtcnn_weights.package_files()
    tensors: dict[str, Tensor] = {}
    for stage in mtcnn_weights.STAGES:
        path = files[stage.name]
        arrays = read_joblib_arrays(path)
        tensors |= mtcnn_weights.torch_tensors(stage, arrays, str(path))
    return tensors


def read_joblib_arrays(path: Path) -> list[Array]:
    """Reads the list of arrays in a joblib dump that is compressed with lz4.

    Raises:
        AssetError: If the file is missing, damaged or hostile.
    """

    def load() -> list[Array]:
        with lz4.frame.open(path, "rb") as file:
            content = _plain(_JoblibUnpickler(_ExactReader(file.read())).load())
        if not isinstance(content, list) or not all(isinstance(a, np.ndarray) for a in content):
            raise pickle.UnpicklingError("not a list of arrays")
        return content

    return _load(path, load)


def read_network(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of one of upstream's networks, which its file name identifies.

    Raises:
        AssetError: If the file is missing, damaged or hostile.
    """
    _, state_key = upstream.NETWORK_FILES[path.name]
    return upstream.network_from_upstream(read_pth(path), str(path), state_key)


def read_face_model(folder: Path) -> FaceModelData:
    """Reads the 3DMM from ``face_model.npy`` and ``similarity_Lm3D_all.mat``.

    Raises:
        AssetError: If a file is missing, damaged or hostile.
    """
    path = folder / upstream.FACE_MODEL_NPY
    model = read_npy(path)
    if not isinstance(model, Mapping):
        raise AssetError(f"{path} holds no dictionary: it is not 3DDFA-V3's face model")
    landmarks = read_mat(folder / upstream.SIMILARITY_MAT, "lm")
    return upstream.face_model_from_upstream(model, landmarks, str(path))


def convert(
    folder: str | Path, dest: str | Path, *, name: str = "3DDFA-V3", origin: Origin = ORIGIN
) -> AssetBundle:
    """Makes a bundle from a folder of 3DDFA-V3's own files.

    The face model and the mean landmarks are required; missing networks and correspondences are
    left out, networks with a warning in the log. MTCNN is taken from the installed package.

    Args:
        folder: holds upstream's files.
        dest: folder of the bundle.
        name: of the bundle.
        origin: source and licence of the files.

    Returns:
        the bundle; the one that is already at ``dest`` if it was made from the same files.

    Raises:
        AssetError: If a file is missing, damaged or hostile, or files don't belong together.
    """
    folder, dest = Path(folder), Path(dest)
    inputs = _input_files(folder)
    recipe = {
        "kind": "convert",
        "version": CONVERTER_VERSION,
        "inputs": {path.name: file_sha256(path) for path in inputs},
        "mtcnn": _mtcnn_version(),
    }
    there = existing_bundle(dest, recipe)
    if there is not None:
        return there
    model = read_face_model(folder)
    networks = _read_networks(folder, model)
    origins = {}
    if recipe["mtcnn"] is not None:
        (mtcnn_file,) = DETECTOR_FILES["mtcnn"]
        networks[mtcnn_file] = read_mtcnn()
        origins[mtcnn_file] = mtcnn_weights.origin()
    contents = BundleContents(
        name=name,
        origin=origin,
        notice=NOTICE,
        recipe=recipe,
        face_model=model,
        networks=networks,
        origins=origins,
        correspondences=_read_correspondences(inputs),
    )
    return write_bundle(dest, contents)


def _input_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise AssetError(f"there is no folder {folder}; name the folder of 3DDFA-V3's files")
    if (folder / BUNDLE_JSON).exists():
        raise AssetError(f"{folder} is a bundle already; use it as it is")
    known = {upstream.FACE_MODEL_NPY, upstream.SIMILARITY_MAT, *upstream.NETWORK_FILES}
    return sorted(
        path for path in folder.iterdir() if path.name in known or INDICES_FILE.fullmatch(path.name)
    )


def _mtcnn_version() -> str | None:
    try:
        return mtcnn_weights.package_version()
    except UnavailableError as error:
        _log.warning("the bundle gets no detector mtcnn: %s", error)
        return None


def _read_networks(folder: Path, model: FaceModelData) -> dict[str, dict[str, Tensor]]:
    networks = {}
    for upstream_name, (name, _) in upstream.NETWORK_FILES.items():
        path = folder / upstream_name
        if not path.exists():
            _log.warning("%s is missing; the bundle gets no %s", path, name)
            continue
        networks[name] = read_network(path)
        if upstream_name in (upstream.RESNET50_PTH, upstream.MBNETV3_PTH):
            upstream.check_heads(networks[name], model, str(path))
    return networks


def _read_correspondences(inputs: list[Path]) -> dict[str, Array]:
    correspondences = {}
    for path in inputs:
        match = INDICES_FILE.fullmatch(path.name)
        if match:
            source, target = int(match[1]), int(match[2])
            indices = checked_indices(read_npy(path), source, target, str(path))
            correspondences[f"{source}_{target}"] = indices
    return correspondences
