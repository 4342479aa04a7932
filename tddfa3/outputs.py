"""What the labeler is asked to compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tddfa3.conventions import LANDMARK_SETS
from tddfa3.errors import UserError


@dataclass(frozen=True)
class Outputs:
    """What to compute in addition to coefficients, camera, visibility and quality.

    Attributes:
        landmarks: names of landmark sets.
        points106: keep the detector's own 106 points (RetinaFace); their quality signal is kept
            anyway.
        masks: of "seg", "seg_visible" (224 crop) and "rle" (visible parts on the photograph).
        meshes: of "pca" and "extracted", the source of the vertex colours.
        mesh_frame: "crop": upstream's OBJ frame; "image": the photograph's camera, so that K
            projects it; "model": the model frame, so that K, R, t project it.
        textures: of "pca" and "extracted", UV maps.
        texture_size: side of the maps in pixels.
        blend: what fills the hidden part of an extracted texture: "pca", or "flip" for the other
            side of the face.
        renders: of "face", "shape", "depth" and "normals", all 224 x 224.

    Raises:
        UserError: If a name is not offered.
    """

    landmarks: tuple[str, ...] = LANDMARK_SETS
    points106: bool = True
    masks: tuple[str, ...] = ("seg", "seg_visible")
    meshes: tuple[str, ...] = ()
    mesh_frame: Literal["crop", "image", "model"] = "crop"
    textures: tuple[str, ...] = ()
    texture_size: int = 1024
    blend: Literal["pca", "flip"] = "pca"
    renders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        offered = {
            "landmarks": LANDMARK_SETS,
            "masks": ("seg", "seg_visible", "rle"),
            "meshes": ("pca", "extracted"),
            "mesh_frame": ("crop", "image", "model"),
            "textures": ("pca", "extracted"),
            "blend": ("pca", "flip"),
            "renders": ("face", "shape", "depth", "normals"),
        }
        for name, choices in offered.items():
            value = getattr(self, name)
            for item in (value,) if isinstance(value, str) else value:
                if item not in choices:
                    raise UserError(
                        f"{name}: {item!r} is not offered; choose of {', '.join(choices)}"
                    )

    @property
    def needs_extracted(self) -> bool:
        """Whether the photograph's own texture is needed."""
        return "extracted" in self.meshes or "extracted" in self.textures

    @property
    def needs_pca(self) -> bool:
        """Whether the PCA texture is needed; an extracted one is blended with it."""
        return bool(self.meshes or self.textures or "face" in self.renders)

    @property
    def needs_uv(self) -> bool:
        """Whether anything is drawn in UV space."""
        return bool(self.textures) or self.needs_extracted
