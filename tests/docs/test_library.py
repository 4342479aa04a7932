"""The code in docs/library.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data

from tddfa3.assets.bundle import AssetBundle

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"


def test_the_blocks_run_one_after_the_other(small_bundle: AssetBundle) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 8
    photo = np.ascontiguousarray(skimage.data.astronaut())
    names: dict[str, Any] = {"ASSETS": small_bundle.path, "photo": photo}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert set(names["files"]) == {"face.obj", "face.mtl", "face.jpg"}
    assert names["glb"][:4] == b"glTF"
    assert names["area"] > 0
    assert len(names["stl"]) == 84 + 50 * len(names["mesh"].faces)
    landmarks = names["pixels"][small_bundle.face_model().landmarks["68"]]
    np.testing.assert_allclose(landmarks, names["in_photo"].landmarks["68"], rtol=0, atol=0.01)
    assert names["compact"].shape == names["photo"].shape
