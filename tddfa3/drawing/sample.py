"""Pictures of random faces, rendered from a bundle's 3DMM: input for a first run and for tests."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tddfa3.assets.bundle import AssetBundle
from tddfa3.coefficients import Coefficients
from tddfa3.conventions import CROP_SIZE
from tddfa3.drawing.render import render, to_uint8
from tddfa3.geometry.batch import FaceBatch
from tddfa3.geometry.camera import clip_space
from tddfa3.geometry.face_model import FaceModel
from tddfa3.geometry.segmentation import visible_vertices
from tddfa3.rasterize import build_rasterizer


def random_coefficients(model: FaceModel, count: int, seed: int) -> Coefficients:
    """Plausible faces: moderate shapes and expressions, heads turned by up to about 30 degrees.

    Args:
        model: its coefficient sizes are used.
        count: number of faces.
        seed: the same seed gives the same faces.

    Returns:
        float32 tensors (count, k).
    """
    rng = np.random.default_rng(seed)
    sizes = model.sizes

    def normal(k: int, spread: float) -> torch.Tensor:
        return torch.from_numpy(rng.normal(0, spread, (count, k)).astype(np.float32))

    # Nearly white light: the three channels differ little.
    light = normal(9, 0.06).repeat(1, 3) + normal(27, 0.01)  # (count, 27)
    light[:, ::9] += 0.15
    angle = rng.uniform(-1, 1, (count, 3)) * [0.2, 0.5, 0.15]
    return Coefficients(
        id=normal(sizes.id, 0.6),
        exp=normal(sizes.exp, 0.6),
        alb=normal(sizes.alb, 0.5),
        angle=torch.from_numpy(angle.astype(np.float32)),
        sh=light,
        trans=normal(3, 0.02),
    )


@torch.inference_mode()
def rendered_faces(bundle: AssetBundle, count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Renders random faces on smooth backgrounds.

    Args:
        bundle: its 3DMM is used.
        count: number of pictures.
        seed: the same seed gives the same pictures.

    Returns:
        uint8 (448, 448, 3) RGB pictures, the face in the middle.
    """
    model = FaceModel(bundle.face_model()).eval()
    rasterizer = build_rasterizer("cpu", torch.device("cpu"))
    geometry = model(random_coefficients(model, count, seed))
    raster = rasterizer.rasterize(
        clip_space(geometry.camera), model.triangles, (CROP_SIZE, CROP_SIZE)
    )
    visible = visible_vertices(raster, model.triangles, geometry.normals)
    batch = FaceBatch(torch.empty(count, 0), geometry, raster, visible)
    batch.colors["pca"] = model.texture(geometry)
    pictures = to_uint8(render("face", rasterizer, model.triangles, batch)).numpy()
    covered = (raster[..., 3] > 0).numpy()
    rng = np.random.default_rng(seed)
    return [
        _on_background(picture, mask, rng) for picture, mask in zip(pictures, covered, strict=True)
    ]


def _on_background(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A picture (224, 224, 3), where its mask is set, on a background of twice its side."""
    size = 2 * CROP_SIZE
    coarse = rng.integers(70, 200, (4, 4, 1)) + rng.integers(-15, 16, (4, 4, 3))
    coarse = coarse.astype(np.uint8)
    canvas = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    canvas = canvas.copy()
    middle = slice(CROP_SIZE // 2, CROP_SIZE // 2 + CROP_SIZE)
    canvas[middle, middle] = np.where(mask[..., None], picture, canvas[middle, middle])
    return canvas
