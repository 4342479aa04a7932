"""All that a face can have, at a small size of texture."""

from __future__ import annotations

from tddfa3.outputs import Outputs

EVERYTHING = Outputs(
    masks=("seg", "seg_visible", "rle"),
    meshes=("pca", "extracted"),
    textures=("pca", "extracted"),
    texture_size=128,
    renders=("face", "shape", "depth", "normals"),
)
