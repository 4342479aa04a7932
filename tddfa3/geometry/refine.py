"""Refines a predicted face so that its five points agree with the detector's.

The detector's points and the network's coefficients are two measurements of one face. A few
Gauss-Newton steps over pose and the leading shape coefficients find the face that fits both best
(maximum a posteriori, with normally distributed errors).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tddfa3.coefficients import join, split
from tddfa3.conventions import CENTRE, FOCAL
from tddfa3.geometry.camera import project, rotation_matrix, to_camera
from tddfa3.geometry.landmarks import to_crop_pixels
from tddfa3.geometry.quality import FIVE_FROM_68

if TYPE_CHECKING:
    from tddfa3.assets.face_model_data import FaceModelData

POINT_OFFSETS = {
    "mtcnn": ((-0.7, -2.0), (-0.7, -2.0), (-0.7, 1.8), (-0.7, -1.8), (-0.7, -1.8)),
}
"""Systematic offset of a detector's five points from the landmarks, in crop pixels (x right, y
down): MTCNN's eyes and mouth lie higher and its nose lower. Measured on seven photographs."""
STEPS = 4
"""Gauss-Newton steps per face."""
LEADING = 10
"""How many identity and how many expression coefficients may change: those of largest variance."""
POINT_SPREAD = 2.5
"""Standard deviation of a detector's point, in crop pixels; the eyes are about 64 apart."""
ANGLE_SPREAD = (0.1, 0.06, 0.05)
"""Standard deviation of the network's pitch, yaw and roll, in radians."""
TRANS_SPREAD = (0.05, 0.05, 0.3)
"""Standard deviation of its translation in model units; a crop says little about the distance."""
SHAPE_SPREAD = 0.4
"""Standard deviation of its identity and expression coefficients, which have unit variance."""
HELD = 1e-6
"""Used instead of SHAPE_SPREAD for the opening of mouth and eyes, which five points do not show."""
GAPS = ((62, 66), (37, 41), (44, 46))
"""Pairs of the 68 points across an opening: the inner lips, and the lids of either eye."""


class PointRefiner(nn.Module):
    """Refines coefficients by five points. All arrays are buffers: ``.to(device)`` moves it.

    P is the number of parameters that may change: 3 of the angle, 3 of the translation, then the
    leading identity and expression coefficients. The computation is in float64.

    Args:
        data: the 3DMM.
        detector: name of the detector whose points they are; its known offset is subtracted.

    Attributes:
        mean: (7, 3) mean shape at the seven vertices that the five points are computed from.
        basis: (7, 3, K) bases of all K identity and expression coefficients there.
        spread: (P,) standard deviation of the network's prediction.
        offset: (5, 2) the detector's systematic offset in crop pixels.
    """

    mean: Tensor
    basis: Tensor
    spread: Tensor
    offset: Tensor

    def __init__(self, data: FaceModelData, detector: str = "") -> None:
        super().__init__()
        self.sizes = data.sizes
        self.n_id, self.n_exp = min(LEADING, data.sizes.id), min(LEADING, data.sizes.exp)
        vertices = data.landmarks["68"][[i for group in FIVE_FROM_68 for i in group]]  # (7,)
        bases = (data.id_basis, data.exp_basis)
        basis = np.concatenate([each[vertices] for each in bases], axis=2)  # (7, 3, n_id + n_exp)
        held = opens_more_than_it_moves(data)[: self.n_exp]
        moving = [*[SHAPE_SPREAD] * self.n_id, *np.where(held, HELD, SHAPE_SPREAD)]
        arrays = {
            "mean": data.mean_shape[vertices],
            "basis": basis,
            "offset": np.array(POINT_OFFSETS.get(detector, np.zeros((5, 2)))),
            "spread": np.array([*ANGLE_SPREAD, *TRANS_SPREAD, *moving]),
        }
        for name, array in arrays.items():
            tensor = torch.tensor(array, dtype=torch.float64)
            self.register_buffer(name, tensor, persistent=False)

    @torch.no_grad()
    def forward(self, alpha: Tensor, points5: Tensor) -> Tensor:
        """The coefficients that agree best with both the network and the detector.

        Angle, translation and the leading identity and expression coefficients change. A step that
        would increase a face's cost is rejected, and a face whose points are not all finite is
        returned unchanged.

        Args:
            alpha: float32 (B, total).
            points5: (B, 5, 2) crop pixels, in the order of :func:`.quality.five_from_68`.

        Returns:
            float32 (B, total).

        Raises:
            ValueError: If a shape differs, or ``alpha`` is not finite.
        """
        split(alpha, self.sizes)
        if points5.shape != (len(alpha), 5, 2):
            raise ValueError(f"points5 must be ({len(alpha)}, 5, 2), not {tuple(points5.shape)}")
        usable = torch.isfinite(points5).all(dim=(1, 2))  # (B,)
        goal = torch.where(usable[:, None, None], points5, 0).double() - self.offset
        start, moved = alpha.double(), torch.zeros(len(alpha), len(self.spread)).to(self.spread)
        cost = self._cost(start, moved, goal)  # (B,)
        for _ in range(STEPS):
            proposed = moved + self._step(start, moved, goal)  # (B, P)
            new_cost = self._cost(start, proposed, goal)
            better = usable & (new_cost < cost)
            moved = torch.where(better[:, None], proposed, moved)
            cost = torch.where(better, new_cost, cost)
        refined = self._moved(start, moved).to(alpha.dtype)
        return torch.where(usable[:, None], refined, alpha)

    def _step(self, start: Tensor, moved: Tensor, goal: Tensor) -> Tensor:
        """The Gauss-Newton step (B, P) from the deviation ``moved`` (B, P)."""
        points, jacobian = self._linearised(self._moved(start, moved))  # (B, 5, 2), (B, 10, P)
        residual = (goal - points).flatten(1) / POINT_SPREAD  # (B, 10)
        jacobian = jacobian / POINT_SPREAD  # (B, 10, P)
        information = torch.diag(self.spread**-2)  # (P, P)
        normal = jacobian.transpose(1, 2) @ jacobian + information  # (B, P, P)
        right = (jacobian.transpose(1, 2) @ residual[..., None])[..., 0] - moved / self.spread**2
        return torch.linalg.solve(normal, right)

    def _cost(self, start: Tensor, moved: Tensor, goal: Tensor) -> Tensor:
        """(B,) sum of squared deviations from both measurements, in their standard deviations."""
        points = self._five_points(self._vertices(self._moved(start, moved)))  # (B, 5, 2)
        residual = (goal - points) / POINT_SPREAD  # (B, 5, 2)
        return residual.square().sum(dim=(1, 2)) + (moved / self.spread).square().sum(dim=1)

    def _moved(self, start: Tensor, moved: Tensor) -> Tensor:
        """``start`` (B, total) plus the deviation ``moved`` (B, P)."""
        angle, trans, id, exp = moved.split([3, 3, self.n_id, self.n_exp], dim=1)
        given = split(start, self.sizes)
        return join(
            given._replace(
                angle=given.angle + angle,
                trans=given.trans + trans,
                id=given.id + nn.functional.pad(id, (0, self.sizes.id - self.n_id)),
                exp=given.exp + nn.functional.pad(exp, (0, self.sizes.exp - self.n_exp)),
            )
        )

    def _vertices(self, alpha: Tensor) -> Tensor:
        """The seven vertices behind the five points, in the camera frame: (B, 7, 3)."""
        given = split(alpha, self.sizes)
        shape = self._shape(alpha)  # (B, 7, 3)
        return to_camera(shape, rotation_matrix(given.angle), given.trans)

    def _shape(self, alpha: Tensor) -> Tensor:
        """The same vertices in the model frame: (B, 7, 3)."""
        given = split(alpha, self.sizes)
        weights = torch.cat([given.id, given.exp], dim=1)  # (B, n_id + n_exp)
        return self.mean + torch.einsum("vck,bk->bvc", self.basis, weights)

    def _linearised(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The five points (B, 5, 2) and their Jacobian (B, 10, P)."""
        given, shape = split(alpha, self.sizes), self._shape(alpha)
        rotation = rotation_matrix(given.angle)  # (B, 3, 3)
        camera = to_camera(shape, rotation, given.trans)  # (B, 7, 3)
        # z grows away from the camera in the camera frame, and towards it in the model frame.
        towards = camera.new_tensor([1.0, 1.0, -1.0])
        turns = [shape @ turn * towards for turn in rotation_derivatives(given.angle)]  # (B, 7, 3)
        shifts = torch.diag(towards).expand(len(alpha), camera.shape[1], 3, 3)  # (B, 7, 3, 3)
        id, exp = self.basis[..., : self.n_id], self.basis[..., self.sizes.id :][..., : self.n_exp]
        leading = torch.cat([id, exp], dim=2)  # (7, 3, P - 6)
        shaped = torch.einsum("vck,bcd->bvdk", leading, rotation * towards)  # (B, 7, 3, P - 6)
        motion = torch.cat([torch.stack(turns, dim=3), shifts, shaped], dim=3)  # (B, 7, 3, P)
        # The derivative of the perspective projection.
        pixel = project(camera) - CENTRE  # (B, 7, 2)
        depth = camera[..., 2, None, None]  # (B, 7, 1, 1)
        flow = (FOCAL * motion[..., :2, :] - pixel[..., None] * motion[..., 2:, :]) / depth
        flow = flow * camera.new_tensor([1.0, -1.0])[:, None]  # (B, 7, 2, P), y down
        return self._five_points(camera), _grouped(flow).flatten(1, 2)

    def _five_points(self, camera: Tensor) -> Tensor:
        """Vertices (B, 7, 3) in the camera frame to the five points (B, 5, 2) in crop pixels."""
        return _grouped(to_crop_pixels(project(camera)))


def opens_more_than_it_moves(data: FaceModelData) -> NDArray[np.bool_]:
    """Which expressions part the lips or the lids more than they move any of the five points.

    The five points say little about these expressions, so the fit would use them to explain other
    errors.

    Args:
        data: its expression basis and 68 landmarks are used.

    Returns:
        bool (n_exp,).
    """
    landmarks = data.exp_basis[data.landmarks["68"]]  # (68, 3, n_exp)
    # Each (n_exp,).
    opened = [np.linalg.norm(landmarks[a] - landmarks[b], axis=0) for a, b in GAPS]
    moved = [np.linalg.norm(landmarks[list(g)].mean(axis=0), axis=0) for g in FIVE_FROM_68]
    return np.asarray(np.max(opened, axis=0) > np.max(moved, axis=0))


def rotation_derivatives(angle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivatives of :func:`tddfa3.geometry.camera.rotation_matrix` by pitch, yaw and roll.

    Every entry has the form a + b sin(x) + c cos(x) in each angle x, so half the difference between
    its values a quarter turn ahead and a quarter turn behind is exactly the derivative.

    Args:
        angle: (B, 3) pitch, yaw, roll in radians.

    Returns:
        three times (B, 3, 3).
    """
    quarter = torch.eye(3, dtype=angle.dtype, device=angle.device) * (math.pi / 2)  # (3, 3)
    by_pitch, by_yaw, by_roll = (
        (rotation_matrix(angle + turn) - rotation_matrix(angle - turn)) / 2 for turn in quarter
    )
    return by_pitch, by_yaw, by_roll


def _grouped(values: Tensor) -> Tensor:
    """Vertex values (B, 7, ...) to point values (B, 5, ...); an eye is the mean of its corners."""
    groups = values.split([len(group) for group in FIVE_FROM_68], dim=1)
    return torch.stack([group.mean(dim=1) for group in groups], dim=1)
