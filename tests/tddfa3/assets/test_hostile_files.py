"""Files that try to run something when they are read: refused by name, and nothing is run.

Each attack would create a file; the tests look for it. A control shows that the same attack does
work on a reader that takes no care.
"""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lz4.frame
import numpy as np
import pytest
import torch

from tddfa3.assets.convert import read_joblib_arrays, read_npy, read_pth
from tddfa3.errors import AssetError


class Call:
    """An object whose pickle calls ``function(*arguments)`` when it is read."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def attacks(mark: Path) -> dict[str, tuple[object, str]]:
    """Name -> an object that creates ``mark`` when it is unpickled, and the name it asks for."""
    code = f"open({str(mark)!r}, 'w').close()"
    return {
        "os.system": (Call(os.system, f"touch {mark}"), "system"),
        "eval": (Call(builtins.eval, code), "eval"),
        "exec": (Call(builtins.exec, code), "exec"),
        "nested": ({"u": [1.5, {"id": Call(builtins.exec, code)}]}, "exec"),
        "getattr": (Call(getattr, Path(mark), "touch"), "getattr"),
    }


ATTACKS = list(attacks(Path("mark")))


def write_npy(path: Path, payload: bytes) -> None:
    """A ``.npy`` file of one object whose pickle is ``payload``."""
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(payload)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "attacked"


@pytest.mark.parametrize("attack", ["os.system", "eval", "exec", "nested"])
def test_control_the_attacks_work_on_a_careless_reader(mark: Path, attack: str) -> None:
    pickle.loads(pickle.dumps(attacks(mark)[attack][0]))
    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("attack", ATTACKS)
def test_npy(tmp_path: Path, mark: Path, attack: str, protocol: int) -> None:
    content, name = attacks(mark)[attack]
    path = tmp_path / "face_model.npy"
    write_npy(path, pickle.dumps(content, protocol))
    with pytest.raises(AssetError, match=rf"face_model.npy was refused: .*{name}") as caught:
        read_npy(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("attack", ["os.system", "eval", "exec", "nested"])
def test_pth(tmp_path: Path, mark: Path, attack: str, legacy: bool) -> None:
    content, name = attacks(mark)[attack]
    path = tmp_path / "net_recon.pth"
    torch.save(
        {"net_recon": {"conv1.weight": torch.zeros(3), "conv2.weight": content}},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(AssetError, match=rf"net_recon.pth was refused: .*{name}") as caught:
        read_pth(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("attack", ATTACKS)
def test_joblib(tmp_path: Path, mark: Path, attack: str) -> None:
    content, name = attacks(mark)[attack]
    path = tmp_path / "pnet.lz4"
    joblib.dump([np.zeros(3, np.float32), content], path, compress="lz4")
    with pytest.raises(AssetError, match=rf"pnet.lz4 was refused: .*{name}"):
        read_joblib_arrays(path)
    assert not mark.exists()


def test_joblib_array_of_objects(tmp_path: Path, mark: Path) -> None:
    """joblib reads such arrays with a second unpickler, which would run anything."""
    path = tmp_path / "pnet.lz4"
    array = np.array([attacks(mark)["exec"][0]], dtype=object)
    joblib.dump([array], path, compress="lz4")
    with pytest.raises(AssetError, match=r"pnet\.lz4"):
        read_joblib_arrays(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "payload",
    [
        # State set on an allowed name itself: it must not reach this module's functions.
        b"cnumpy\ndtype\n}b.",
        b"cnumpy\nndarray\n}X\x08\x00\x00\x00functionK\x01sb.",
        # An array whose dtype hides a pointer: NumPy itself would read memory through it.
        b"cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tR.",
        b"cnumpy\ndtype\n(X\x05\x00\x00\x00V8,O8\x89\x88tR.",
        # An allowed name called with nonsense, an unknown opcode, a persistent id, nothing.
        b"cnumpy.core.multiarray\nscalar\n(tR.",
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        b"\xff",
        b"Pname\n.",
        b"",
    ],
)
def test_malformed_pickles_are_refused(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "face_model.npy"
    write_npy(path, payload)
    with pytest.raises(AssetError, match=r"face_model\.npy is damaged"):
        read_npy(path)


def test_a_pickle_that_contains_itself(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["u"] = loop
    path = tmp_path / "face_model.npy"
    write_npy(path, pickle.dumps(loop))
    with pytest.raises(AssetError, match="nested too deeply"):
        read_npy(path)


def test_a_pickle_in_place_of_a_pth(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "net_recon.pth"
    path.write_bytes(pickle.dumps(attacks(mark)["exec"][0]))
    with pytest.raises(AssetError, match=r"net_recon\.pth"):
        read_pth(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_harmless_pickles_of_every_protocol_are_read_as_numpy_reads_them(
    tmp_path: Path, protocol: int
) -> None:
    content: dict[str, Any] = {
        "c": np.arange(6.0, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 3), np.int64),
        "bool": np.array([True, False]),
        "scalar": np.float64(2.5),
        "plain": [1, 2.5, "text", None, (3, b"bytes")],
        "objects": np.array([np.arange(2), np.arange(3)], dtype=object),
    }
    path = tmp_path / "model.npy"
    write_npy(path, pickle.dumps(np.array(content, dtype=object), protocol))
    found = read_npy(path)
    assert list(found) == list(content)
    for name in ("c", "fortran", "big_endian", "empty", "bool"):
        np.testing.assert_array_equal(found[name], content[name])
        assert found[name].dtype == content[name].dtype
    assert found["scalar"] == 2.5
    assert found["plain"] == [1, 2.5, "text", None, [3, b"bytes"]]
    np.testing.assert_array_equal(found["objects"][1], [0, 1, 2])


def test_files_of_numpy_1_are_read(tmp_path: Path) -> None:
    """They name numpy.core where NumPy 2 has numpy._core."""
    payload = pickle.dumps(np.array({"u": np.arange(3)}, dtype=object), 2)
    older = payload.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert any("numpy.core" in str(arg) for _, arg, _ in pickletools.genops(older))
    path = tmp_path / "model.npy"
    write_npy(path, older)
    np.testing.assert_array_equal(read_npy(path)["u"], [0, 1, 2])


def test_joblib_dumps_are_read_as_joblib_reads_them(tmp_path: Path) -> None:
    arrays = [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.array([], dtype=np.float32),
    ]
    path = tmp_path / "arrays.lz4"
    joblib.dump(arrays, path, compress="lz4")
    for found, array in zip(read_joblib_arrays(path), arrays, strict=True):
        np.testing.assert_array_equal(found, array)


def test_a_truncated_joblib_dump(tmp_path: Path) -> None:
    path = tmp_path / "pnet.lz4"
    joblib.dump([np.ones(1000, np.float32)], path, compress="lz4")
    content = lz4.frame.decompress(path.read_bytes())
    path.write_bytes(lz4.frame.compress(content[:-1500]))
    with pytest.raises(AssetError, match=r"pnet\.lz4 is damaged"):
        read_joblib_arrays(path)
