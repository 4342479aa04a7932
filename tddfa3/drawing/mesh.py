"""Face meshes and their file formats.

A mesh's vertices may be in these frames:

- **crop frame** (:func:`mesh_in_crop_frame`), that of upstream's OBJ files: x to the right, y up,
  z towards the viewer, the face near the origin, 1 unit about 101.5 crop pixels. It is independent
  of where the crop lies in the photo.
- **image frame** (:func:`tddfa3.geometry.camera.vertices_in_image_frame`), the camera of the
  original photo, OpenCV axes: x to the right, y down, z away from the camera; K alone projects it.

In both, triangles run counter-clockwise when seen from outside the face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tddfa3.conventions import CAMERA_DISTANCE
from tddfa3.drawing import mesh_formats

if TYPE_CHECKING:
    from trimesh import Trimesh

MeshFormat = Literal["obj", "ply", "glb"]
ImageFormat = Literal["jpg", "png"]
MESH_FORMATS: tuple[MeshFormat, ...] = ("obj", "ply", "glb")


@dataclass(frozen=True, slots=True, eq=False)
class FaceMesh:
    """One face as triangles.

    Attributes:
        vertices: float32 (V, 3), in the frame that its creator states.
        triangles: int32 (T, 3), vertex indices from 0.
        colors: float32 (V, 3) RGB 0..1 (display values, as in the photo), or None.
        uv: float32 (V, 2), u to the right, v up, 0..1; or None.
        texture: uint8 (S, S, 3) RGB, row 0 at v = 1; needs ``uv``; or None.

    Raises:
        ValueError: Naming the array, if it has another shape, no rows, NaN or infinity, or an index
            that is not a vertex.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    colors: NDArray[np.float32] | None = None
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        vertices = _finite_floats("vertices", self.vertices, columns=3)
        set_field = object.__setattr__  # the dataclass is frozen once it is built
        set_field(self, "vertices", vertices)
        set_field(self, "triangles", _triangle_indices(self.triangles, len(vertices)))
        if self.colors is not None:
            set_field(self, "colors", _finite_floats("colors", self.colors, 3, len(vertices)))
        if self.uv is not None:
            set_field(self, "uv", _finite_floats("uv", self.uv, 2, len(vertices)))
        if self.texture is not None:
            _check_texture(self.texture, self.uv)

    def to_trimesh(self) -> Trimesh:
        """Converts to trimesh, which can measure, cut, decimate, show and write meshes.

        Returns:
            a mesh with vertices and faces in the same order. Its visual is the texture, mapped by
            ``uv``; without one the colours, as RGBA bytes at the vertices; else trimesh's grey.
        """
        # Imported here: it takes 0.5 s and 70 MB, and no run needs it to write its meshes.
        import trimesh

        colors = None if self.colors is None else mesh_formats.color_bytes(self.colors)
        made = trimesh.Trimesh(self.vertices, self.triangles, vertex_colors=colors, process=False)
        if self.texture is not None and self.uv is not None:
            from PIL import Image

            material = trimesh.visual.material.SimpleMaterial(image=Image.fromarray(self.texture))
            made.visual = trimesh.visual.TextureVisuals(uv=self.uv, material=material)
        return made


def encode_mesh(
    mesh: FaceMesh, fmt: MeshFormat, *, image_format: ImageFormat = "jpg", quality: int = 90
) -> bytes:
    """Encodes a mesh as one self-contained file.

    - ``obj``: vertices with colours (``v x y z r g b``, as upstream), faces counted from 1. Every
      float32 reads back exactly.
    - ``ply``: binary little endian, colours as uchar.
    - ``glb``: glTF 2.0; with ``uv`` and ``texture`` the texture is embedded as ``image_format``,
      otherwise the colours are written.

    A textured OBJ is several files: see :func:`encode_textured_obj`.

    Args:
        mesh: the mesh, in any frame.
        fmt: "obj", "ply" or "glb".
        image_format: of an embedded texture.
        quality: JPEG quality of an embedded texture, 0..100.

    Returns:
        the file's content.

    Raises:
        ValueError: If a format is unknown.
    """
    if fmt == "obj":
        return mesh_formats.obj(mesh.vertices, mesh.triangles, mesh.colors)
    if fmt == "ply":
        return mesh_formats.ply(mesh.vertices, mesh.triangles, mesh.colors)
    if fmt == "glb":
        if mesh.texture is None or mesh.uv is None:
            return mesh_formats.glb(mesh.vertices, mesh.triangles, colors=mesh.colors)
        image = mesh_formats.encode_image(mesh.texture, image_format, quality)
        return mesh_formats.glb(
            mesh.vertices, mesh.triangles, uv=mesh.uv, image=image, image_format=image_format
        )
    raise ValueError(f"unknown mesh format {fmt!r}: one of {', '.join(MESH_FORMATS)}")


def encode_textured_obj(
    mesh: FaceMesh, stem: str, *, image_format: ImageFormat = "jpg", quality: int = 90
) -> dict[str, bytes]:
    """Encodes an OBJ with texture coordinates, its material file and the texture image.

    The three files refer to each other by name, so they must be stored in one folder.

    Args:
        mesh: with ``uv`` and ``texture``.
        stem: file name without extension.
        image_format: of the texture.
        quality: JPEG quality of the texture, 0..100.

    Returns:
        the contents of ``{stem}.obj``, ``{stem}.mtl`` and ``{stem}.{image_format}`` by file name.

    Raises:
        ValueError: If the mesh has no texture, or ``stem`` has characters that an OBJ or MTL file
            cannot refer to (white space, slashes).
    """
    if mesh.texture is None or mesh.uv is None:
        raise ValueError("a textured OBJ needs both uv and texture")
    if not stem or any(c.isspace() or c in "/\\" for c in stem):
        raise ValueError(f"stem {stem!r} must be a name without white space or slashes")
    image_name = f"{stem}.{image_format}"
    return {
        f"{stem}.obj": mesh_formats.textured_obj(
            mesh.vertices, mesh.triangles, mesh.uv, f"{stem}.mtl"
        ),
        f"{stem}.mtl": mesh_formats.material(image_name),
        image_name: mesh_formats.encode_image(mesh.texture, image_format, quality),
    }


def mesh_in_crop_frame(camera: ArrayLike) -> NDArray[np.float32]:
    """Camera frame to the crop frame, that of upstream's OBJ files.

    Only z changes, to 10 - z: the face then looks along +z and lies near the origin.

    Args:
        camera: (..., 3) x right, y up, z = distance from the camera, in model units.

    Returns:
        float32 of the same shape, a copy.

    Raises:
        ValueError: If the last dimension differs.
    """
    vertices = np.array(camera, dtype=np.float32)
    if vertices.ndim < 1 or vertices.shape[-1] != 3:
        raise ValueError(f"camera must have shape (..., 3), not {vertices.shape}")
    vertices[..., 2] = CAMERA_DISTANCE - vertices[..., 2]
    return vertices


def _finite_floats(
    name: str, values: ArrayLike, columns: int, rows: int | None = None
) -> NDArray[np.float32]:
    array = np.ascontiguousarray(values, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != columns or (rows is not None and len(array) != rows):
        wanted = f"({'V' if rows is None else rows}, {columns})"
        raise ValueError(f"{name} must have shape {wanted}, not {array.shape}")
    if not len(array):
        raise ValueError(f"{name} {array.shape} is empty")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} {array.shape} holds NaN or infinity")
    return array


def _triangle_indices(values: ArrayLike, n_vertices: int) -> NDArray[np.int32]:
    given = np.asarray(values)
    if given.ndim != 2 or given.shape[1] != 3 or given.dtype.kind not in "iu":
        raise ValueError(
            f"triangles must be integers of shape (T, 3), not {given.dtype} {given.shape}"
        )
    if not len(given):
        raise ValueError(f"triangles {given.shape} is empty")
    if given.min() < 0 or given.max() >= n_vertices:
        raise ValueError(
            f"triangles {given.shape} point at vertices {given.min()}..{given.max()}, "
            f"but there are {n_vertices}"
        )
    return np.ascontiguousarray(given, dtype=np.int32)


def _check_texture(texture: NDArray[np.uint8], uv: NDArray[np.float32] | None) -> None:
    if uv is None:
        raise ValueError("a texture needs uv coordinates")
    if texture.ndim != 3 or texture.shape[2] != 3 or texture.dtype != np.uint8:
        raise ValueError(
            f"texture must be uint8 of shape (S, S, 3), not {texture.dtype} {texture.shape}"
        )
