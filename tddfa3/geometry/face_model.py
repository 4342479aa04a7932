"""The 3D morphable model: coefficients to vertices, normals, albedo and shading, batched.

Shape and albedo are linear in the coefficients (Blanz and Vetter 1999, "A Morphable Model for the
Synthesis of 3D Faces"). Lighting is nine bands of spherical harmonics (Ramamoorthi and Hanrahan
2001, "An Efficient Representation for Irradiance Environment Maps").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tddfa3.coefficients import Coefficients, CoefficientSizes
from tddfa3.geometry.camera import project, rotation_matrix, to_camera

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData

# Shorter vectors are not normalized: a triangle without area has the normal 0.
_TINY = 1e-12

SH_AMBIENT = 0.8
"""Added to the first band of every channel, so that zero coefficients mean plain ambient light."""
# Factor of the cosine lobe times that of the harmonic, per band.
_SH_0 = math.pi / math.sqrt(4 * math.pi)
_SH_1 = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
_SH_2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)

GREY_ALBEDO = 0.78
"""Albedo of the skin in :func:`directional_shading`, of 0..1."""
LIGHT_INTENSITY = 1.7
"""Intensity of each light in :func:`directional_shading`."""
LIGHT_DIRECTIONS = ((-1, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (0, 0, 1))
"""Directions towards the lights, x right, y up, z towards the camera; not normalized."""


@dataclass
class Geometry:
    """The geometry of a batch of B faces with V vertices each; float32.

    Attributes:
        coefficients: what the rest follows from.
        shape: (B, V, 3) model frame, before rotation and translation.
        rotation: (B, 3, 3) for row vectors, ``v @ R``.
        normals: (B, V, 3) unit, rotated: x right, y up, z towards the camera.
        camera: (B, V, 3) camera frame: x right, y up, z = distance from the camera.
        points: (B, V, 2) projected vertices in crop pixels, y up.
    """

    coefficients: Coefficients
    shape: Tensor
    rotation: Tensor
    normals: Tensor
    camera: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.shape)


class FaceModel(nn.Module):
    """The 3DMM of a bundle. All arrays are buffers: ``.to(device)`` moves it.

    On a CPU the bases are the bundle's own arrays, not copies, so that processes share them.

    Attributes:
        mean_shape: (3 V,) model units.
        id_basis: (3 V, n_id).
        exp_basis: (3 V, n_exp).
        mean_albedo: (3 V,) RGB 0..1.
        albedo_basis: (3 V, n_alb) in grey levels, 0..255.
        triangles: int32 (T, 3).
        vertex_triangles: int32 (V, K) triangles around each vertex, padded with T.
    """

    mean_shape: Tensor
    id_basis: Tensor
    exp_basis: Tensor
    mean_albedo: Tensor
    albedo_basis: Tensor
    triangles: Tensor
    vertex_triangles: Tensor

    def __init__(self, data: FaceModelData) -> None:
        super().__init__()
        self.sizes: CoefficientSizes = data.sizes
        self.n_vertices: int = len(data.mean_shape)
        arrays = {
            "mean_shape": data.mean_shape.reshape(-1),
            "id_basis": data.id_basis.reshape(self.n_vertices * 3, -1),
            "exp_basis": data.exp_basis.reshape(self.n_vertices * 3, -1),
            "mean_albedo": data.mean_albedo.reshape(-1) / np.float32(255),
            "albedo_basis": data.albedo_basis.reshape(self.n_vertices * 3, -1),
            "triangles": data.triangles,
            "vertex_triangles": data.vertex_triangles,
        }
        for name, array in arrays.items():
            dtype = torch.int32 if "triangles" in name else torch.float32
            self.register_buffer(name, torch.as_tensor(array, dtype=dtype), persistent=False)

    def shape(self, id: Tensor, exp: Tensor) -> Tensor:
        """Vertices in the model frame: mean + identity + expression.

        Args:
            id: (B, n_id) identity coefficients.
            exp: (B, n_exp) expression coefficients.

        Returns:
            (B, V, 3) model units, before rotation and translation.

        Raises:
            ValueError: If an argument has another shape.
        """
        _check_batch("id", id, self.sizes.id)
        _check_batch("exp", exp, self.sizes.exp, len(id))
        vertices = F.linear(id, self.id_basis, self.mean_shape)  # (B, 3 V)
        return vertices.addmm(exp, self.exp_basis.t()).view(len(id), self.n_vertices, 3)

    def albedo(self, alb: Tensor) -> Tensor:
        """Colour of the unlit skin, RGB, 0..1 for plausible coefficients, unclipped.

        Args:
            alb: (B, n_alb).

        Returns:
            (B, V, 3).

        Raises:
            ValueError: If an argument has another shape.
        """
        _check_batch("alb", alb, self.sizes.alb)
        # The basis is in grey levels, 0..255; scaling the coefficients avoids a copy of it.
        albedo = F.linear(alb / 255, self.albedo_basis, self.mean_albedo)  # (B, 3 V)
        return albedo.view(len(alb), self.n_vertices, 3)

    def normals(self, shape: Tensor) -> Tensor:
        """Vertex normals of unit length, pointing outwards.

        A vertex' normal is the normalized sum of its triangles' unit normals, not weighted by area.

        Args:
            shape: (B, V, 3), any frame with x right, y up, z towards the viewer.

        Returns:
            float32 (B, V, 3); 0 for a vertex whose triangles have no area.

        Raises:
            ValueError: If an argument has another shape.
        """
        if shape.ndim != 3 or shape.shape[1:] != (self.n_vertices, 3):
            raise ValueError(f"shape must be (B, {self.n_vertices}, 3), not {tuple(shape.shape)}")
        if shape.device.type == "cpu" and not shape.requires_grad:
            # One pass of compiled code: 0.7 ms per face of 35,709 vertices against 8 ms.
            normals = np.empty(tuple(shape.shape), np.float32)  # (B, V, 3)
            _fill_normals(
                shape.float().contiguous().numpy(),
                self.triangles.numpy(),
                self.vertex_triangles.numpy(),
                normals,
            )
            return torch.from_numpy(normals)
        return normals_by_gather(shape, self.triangles, self.vertex_triangles)

    def forward(self, coefficients: Coefficients) -> Geometry:
        """The geometry of a batch of faces.

        Args:
            coefficients: of B faces.

        Returns:
            their shape, pose and projection.

        Raises:
            ValueError: If the shapes do not fit together.
        """
        shape = self.shape(coefficients.id, coefficients.exp)  # (B, V, 3)
        rotation = rotation_matrix(coefficients.angle)  # (B, 3, 3)
        camera = to_camera(shape, rotation, coefficients.trans)  # (B, V, 3)
        return Geometry(
            coefficients=coefficients,
            shape=shape,
            rotation=rotation,
            normals=self.normals(shape) @ rotation,
            camera=camera,
            points=project(camera),
        )

    def texture(self, geometry: Geometry) -> Tensor:
        """Vertex colours of the PCA texture: albedo under the predicted light.

        Args:
            geometry: its normals, albedo and light coefficients are used.

        Returns:
            (B, V, 3) RGB clipped to 0..1.
        """
        albedo = self.albedo(geometry.coefficients.alb)  # (B, V, 3)
        return (albedo * sh_shading(geometry.normals, geometry.coefficients.sh)).clamp_(0.0, 1.0)


def sh_shading(normals: Tensor, sh: Tensor) -> Tensor:
    """Light that reaches each vertex, from nine spherical harmonics per channel.

    Args:
        normals: (B, V, 3) unit, rotated.
        sh: (B, 27): nine coefficients of red, nine of green, nine of blue.

    Returns:
        (B, V, 3) RGB factors of the albedo, unclipped.

    Raises:
        ValueError: If an argument has another shape.
    """
    bands = sh_bands(normals)  # (B, V, 9)
    _check_batch("sh", sh, CoefficientSizes.sh, len(normals))
    light = sh.view(len(sh), 3, 9).clone()  # (B, channel, band)
    light[..., 0] += SH_AMBIENT
    return bands @ light.transpose(1, 2)  # (B, V, 9) @ (B, 9, 3)


def sh_bands(normals: Tensor) -> Tensor:
    """The nine spherical harmonics at each normal, weighted for irradiance.

    Args:
        normals: (B, V, 3) unit, rotated.

    Returns:
        (B, V, 9): the light that a coefficient of 1 adds at the vertex.

    Raises:
        ValueError: If an argument has another shape.
    """
    if normals.ndim != 3 or normals.shape[2] != 3:
        raise ValueError(f"normals must be (B, V, 3), not {tuple(normals.shape)}")
    x, y, z = normals.unbind(-1)  # each (B, V)
    return torch.stack(
        [
            torch.full_like(x, _SH_0),
            -_SH_1 * y,
            _SH_1 * z,
            -_SH_1 * x,
            _SH_2 * x * y,
            -_SH_2 * y * z,
            _SH_2 / (2 * math.sqrt(3)) * (3 * z * z - 1),
            -_SH_2 * x * z,
            _SH_2 / 2 * (x * x - y * y),
        ],
        dim=-1,
    )


def directional_shading(normals: Tensor) -> Tensor:
    """Vertex colours of the shape picture: grey skin under five directional lights.

    Args:
        normals: (B, V, 3) unit, rotated.

    Returns:
        (B, V, 3) RGB: the mean of the clamped cosines times albedo and intensity, at most 0.88.
    """
    lights = F.normalize(normals.new_tensor(LIGHT_DIRECTIONS), dim=1)  # (5, 3)
    cosines = (normals @ lights.t()).clamp_(0.0, 1.0)  # (B, V, 5)
    grey = cosines.mean(dim=-1, keepdim=True) * (GREY_ALBEDO * LIGHT_INTENSITY)  # (B, V, 1)
    return grey.expand(*normals.shape[:-1], 3).contiguous()


def normals_by_gather(vertices: Tensor, triangles: Tensor, vertex_triangles: Tensor) -> Tensor:
    """Vertex normals on any device, differentiable; see :meth:`FaceModel.normals`.

    Args:
        vertices: (B, V, 3).
        triangles: int (T, 3).
        vertex_triangles: int (V, K) triangles around each vertex, padded with T.

    Returns:
        (B, V, 3).
    """
    a, b, c = (vertices.index_select(1, corner) for corner in triangles.unbind(1))  # (B, T, 3)
    faces = F.normalize(torch.linalg.cross(a - b, b - c), dim=-1, eps=_TINY)  # (B, T, 3)
    faces = F.pad(faces, (0, 0, 0, 1))  # the padding of vertex_triangles points at a zero normal
    around = faces.index_select(1, vertex_triangles.flatten())  # (B, V K, 3)
    around = around.view(len(vertices), *vertex_triangles.shape, 3)  # (B, V, K, 3)
    return F.normalize(around.sum(dim=2), dim=-1, eps=_TINY)


@numba.njit(nogil=True, cache=True)
def _fill_normals(
    vertices: NDArray[np.float32],
    triangles: NDArray[np.int32],
    vertex_triangles: NDArray[np.int32],
    normals: NDArray[np.float32],
) -> None:  # pragma: no cover (compiled)
    """:func:`normals_by_gather` in one pass over memory, written into ``normals`` (B, V, 3).

    Indices are not checked here; ``FaceModelData`` has done so.
    """
    one, tiny = np.float32(1.0), np.float32(_TINY)
    faces = np.zeros((len(triangles) + 1, 3), np.float32)  # (T + 1, 3); the last one stays 0
    for n in range(len(vertices)):
        v = vertices[n]  # (V, 3)
        for i in range(len(triangles)):
            a, b, c = triangles[i]
            e0, e1, e2 = v[a, 0] - v[b, 0], v[a, 1] - v[b, 1], v[a, 2] - v[b, 2]
            f0, f1, f2 = v[b, 0] - v[c, 0], v[b, 1] - v[c, 1], v[b, 2] - v[c, 2]
            x, y, z = e1 * f2 - e2 * f1, e2 * f0 - e0 * f2, e0 * f1 - e1 * f0
            scale = one / max(np.sqrt(x * x + y * y + z * z), tiny)
            faces[i, 0], faces[i, 1], faces[i, 2] = x * scale, y * scale, z * scale
        for i in range(len(vertex_triangles)):
            x, y, z = np.float32(0), np.float32(0), np.float32(0)
            for k in vertex_triangles[i]:
                x += faces[k, 0]
                y += faces[k, 1]
                z += faces[k, 2]
            scale = one / max(np.sqrt(x * x + y * y + z * z), tiny)
            normals[n, i, 0], normals[n, i, 1], normals[n, i, 2] = x * scale, y * scale, z * scale


def _check_batch(name: str, values: Tensor, width: int, rows: int | None = None) -> None:
    if values.ndim != 2 or values.shape[1] != width or rows not in (None, len(values)):
        wanted = f"({'B' if rows is None else rows}, {width})"
        raise ValueError(f"{name} must have shape {wanted}, not {tuple(values.shape)}")
