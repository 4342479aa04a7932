"""Expressions of the open face: named movements, each smooth and free of folds in its range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tddfa3.assets.generators.open_face.chart import MOUTH_SLIT, touching_plane
from tddfa3.assets.generators.open_face.fill import biharmonic_fill
from tddfa3.assets.generators.synthetic.lattice import EYE_X, EYE_Y, MOUTH_Y, Lattice
from tddfa3.assets.generators.synthetic.seeded import FloatArray, NamedRandom, bump

N_EXP = 40
"""Columns of the expression basis."""
LOCAL_RMS = 0.006
"""Root mean square movement per vertex of a small local movement, in model units."""


@dataclass(frozen=True)
class Movement:
    """One column of the expression basis.

    Attributes:
        name: of the movement.
        low: lower end of the coefficient's useful range, in which the movement alone makes no
            folds. 0 is the neutral face.
        high: upper end.
    """

    name: str
    low: float
    high: float


MOVEMENTS = (
    Movement("jaw_open", 0.0, 4.0),  # 1 = the lower lip 0.10 units down; 4 = wide open
    Movement("smile", -1.0, 2.0),  # mouth corners out, up and back, cheeks up
    Movement("eyes_close", -1.0, 2.0),  # 2 = both eyes closed
    Movement("brows_raise", -1.2, 2.0),
    Movement("brows_knit", -1.0, 2.0),  # inner ends together and down
    Movement("lips_forward", -1.5, 1.5),
    Movement("pucker", -1.0, 2.0),  # mouth narrow and forward
    Movement("corners_up", -2.0, 2.0),  # below 0 the corners go down
    Movement("brow_left_over_right", -1.2, 1.2),
    Movement("left_eye_closes_right_opens", -1.0, 1.0),  # with eyes_close = |value|: one eye closes
    Movement("mouth_left", -2.0, 2.0),
    Movement("jaw_left", -2.0, 2.0),
    Movement("upper_lip_raise", -1.0, 2.0),
    Movement("cheeks_puff", -1.5, 1.5),
    # Not in the synthetic face.
    Movement("lower_lip_drop", -1.0, 2.0),
    Movement("lower_lip_forward", -1.5, 1.5),
    Movement("lips_thin", -1.5, 1.5),  # pressed together; below 0 full
    Movement("smile_left_over_right", -1.2, 1.2),
    Movement("lower_lids_raise", -1.0, 1.5),
    Movement("inner_brows_raise", -1.5, 1.5),
    Movement("outer_brows_raise", -1.5, 1.5),
    Movement("nose_wrinkle", -1.0, 1.5),
    Movement("nostrils_flare", -1.5, 1.5),
    Movement("chin_raise", -1.0, 1.5),
    Movement("upper_lip_left_over_right", -1.2, 1.2),
    Movement("lower_lip_left_over_right", -1.2, 1.2),
    Movement("cheeks_raise", -1.0, 1.5),
    Movement("jaw_forward", -1.5, 1.5),
)
"""The first fourteen have the order and meaning of the synthetic face's designed movements."""
EXPRESSION_NAMES = tuple(movement.name for movement in MOVEMENTS)
EXPRESSION_RANGES = {movement.name: (movement.low, movement.high) for movement in MOVEMENTS}
"""Name to the coefficient's useful range."""

_JAW_DROP = 0.10
# Rim of the jaw: y on the undeformed face -> its share of the chin's movement.
_JAW_RIM_Y = (-0.85, -0.72, -0.59, -0.50, -0.37, -0.10)
_JAW_RIM = (1.0, 0.92, 0.68, 0.46, 0.22, 0.0)


def expression_basis(random: NamedRandom, lattice: Lattice, shape: FloatArray) -> FloatArray:
    """(3V,40) displacements of the mean face ``shape`` (V,3): MOVEMENTS, then small local ones."""
    fields = _Fields(lattice, shape)
    named = [*fields.first(), *fields.further()]
    designed = np.stack([field.ravel() for field in named], 1)
    local = _local_movements(random("exp"), lattice, N_EXP - len(named))
    # The part that the named movements can make is removed from the local ones.
    local -= designed @ np.linalg.lstsq(designed, local, rcond=None)[0]
    local *= LOCAL_RMS / np.sqrt((local**2).mean(0) * 3)
    return np.concatenate([designed, local], 1)


def _local_movements(random: np.random.Generator, lattice: Lattice, count: int) -> FloatArray:
    """(3V,count) soft random movements around the mouth, the eyes and the brows."""
    x, y = touching_plane(lattice).T
    columns = []
    for k in range(count):
        at_x, at_y = random.uniform(0, 0.45), (MOUTH_Y, EYE_Y, 0.45)[k % 3]
        at_y += random.uniform(-0.1, 0.1)
        field = bump(np.hypot(np.abs(x) - at_x, y - at_y), random.uniform(0.16, 0.28))
        if random.random() < 0.4:  # one side up, the other down: 0 in the middle, without a jump
            field = field * np.tanh(x / 0.10)
        direction = random.normal(size=3) * [0.6, 1, 1]
        odd = np.tanh(x / 0.10)
        columns.append(np.stack([direction[0] * field * odd, *(direction[1:, None] * field)], 1))
    return np.stack([column.ravel() for column in columns], 1)


def _vectors(
    lattice: Lattice,
    dx: FloatArray | float = 0.0,
    dy: FloatArray | float = 0.0,
    dz: FloatArray | float = 0.0,
) -> FloatArray:
    return np.stack([np.broadcast_to(axis, lattice.size) for axis in (dx, dy, dz)], 1)


def smooth_step(value: FloatArray, start: float, end: float) -> FloatArray:
    """0 before ``start``, 1 after ``end``, smooth in between."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


class _Fields:
    """Places of the features and the fields built on them, all (V,) or (V,3)."""

    def __init__(self, lattice: Lattice, shape: FloatArray) -> None:
        self.lattice, self.shape = lattice, shape
        self.x, self.y = touching_plane(lattice).T
        self.ax = np.abs(self.x)
        self.above = lattice.above_mouth
        slit = 0.82 * np.sin(1.2 * MOUTH_SLIT)
        # 1 in the middle of the lips, 0 from the slit's ends outwards.
        self.lips_open = np.clip(1 - (self.ax / slit) ** 3.5, 0, None)
        around = self.x / 0.25
        # Odd in x and +-1 at the mouth corners; like its square, it has no kink.
        self.outwards = around * np.exp((1 - around**2) / 2)
        self.corners = self.outwards**2 * bump(self.y - MOUTH_Y, 0.16)
        self.side = np.tanh(self.x / 0.10)
        self.mouth = bump(self.x, 0.32) * bump(self.y - MOUTH_Y, 0.20)
        self.jaw = self._jaw()

    def vectors(self, **axes: FloatArray | float) -> FloatArray:
        return _vectors(self.lattice, **axes)

    def first(self) -> list[FloatArray]:
        """The fourteen movements that the synthetic face also has."""
        out_and_in = self.outwards * bump(self.y - MOUTH_Y, 0.17)
        cheek = bump(self.ax - 0.42, 0.20) * bump(self.y + 0.10, 0.16)
        brows = bump(self.ax - 0.34, 0.28) * self._brow_height()
        inner = self.x / 0.17
        knit = inner * np.exp((1 - inner**2) / 2) * self._brow_height()
        lids = self._lids()
        up = self._upper_lip()
        return [
            self.jaw_rotation(),
            self.vectors(
                dx=0.045 * out_and_in,
                dy=0.030 * self.corners + 0.014 * cheek,
                dz=-0.016 * self.corners + 0.012 * cheek,
            ),
            0.5 * lids,
            self.vectors(dy=0.036 * brows, dz=-0.006 * brows),
            self.vectors(dx=-0.016 * knit, dy=-0.020 * np.abs(knit) ** 1.5),
            self.vectors(dz=0.035 * self.mouth),
            self.vectors(dx=-0.034 * out_and_in, dz=0.018 * self.mouth),
            self.vectors(dy=0.032 * self.corners),
            self.vectors(dy=0.030 * brows * self.side),
            0.5 * lids * np.sign(self.x)[:, None],
            self.vectors(dx=0.028 * self.mouth),
            self.vectors(dx=0.028 * self.jaw),
            self.vectors(dy=0.024 * up, dz=0.003 * up),
            self.vectors(
                dx=0.014 * self.side * bump(self.ax - 0.42, 0.20) * bump(self.y + 0.24, 0.2),
                dz=0.026 * bump(self.ax - 0.40, 0.18) * bump(self.y + 0.24, 0.2),
            ),
        ]

    def further(self) -> list[FloatArray]:
        """The movements after the first fourteen."""
        up, down = self._upper_lip(), self._lower_lip()
        thin = self._lip_heights()
        squint = bump(self.ax - EYE_X, 0.13) * bump(self.y - EYE_Y + 0.05, 0.07)
        squint = squint * smooth_step(EYE_Y - self.y, -0.04, 0.04)
        inner = bump(self.ax - 0.14, 0.14) * self._brow_height()
        outer = bump(self.ax - 0.46, 0.16) * self._brow_height()
        wrinkle = bump(self.ax - 0.06, 0.10) * bump(self.y - 0.02, 0.14)
        wing = self.x / 0.12
        flare = wing * np.exp((1 - wing**2) / 2) * bump(self.y + 0.09, 0.07)
        chin = bump(self.x, 0.17) * bump(self.y + 0.62, 0.14)
        cheek = bump(self.ax - 0.36, 0.18) * bump(self.y - 0.06, 0.14)
        return [
            self.vectors(dy=-0.024 * down),
            self.vectors(dz=0.028 * down * bump(self.y + 0.45, 0.15)),
            self.vectors(dy=-0.014 * thin, dz=-0.010 * bump(self.x, 0.2) * thin**2),
            self.vectors(
                dx=0.020 * np.abs(self.outwards) * bump(self.y - MOUTH_Y, 0.17),
                dy=0.024 * self.corners * self.side,
            ),
            self.vectors(dy=0.020 * squint, dz=0.004 * squint),
            self.vectors(dy=0.026 * inner),
            self.vectors(dy=0.026 * outer),
            self.vectors(dy=0.016 * wrinkle),
            self.vectors(dx=0.012 * flare, dy=0.004 * np.abs(flare)),
            self.vectors(dy=0.026 * chin, dz=0.010 * chin),
            self.vectors(dy=0.020 * up * self.side),
            self.vectors(dy=-0.020 * down * self.side),
            self.vectors(dy=0.022 * cheek, dz=0.012 * cheek),
            self.vectors(dz=0.035 * self.jaw),
        ]

    def jaw_rotation(self) -> FloatArray:
        """(V,3) the jaw one step down: the lower lip falls, the chin falls and goes back."""
        backwards = 0.20 + 0.35 * smooth_step(-self.y, 0.38, 0.85)
        narrower = 0.10 * self.outwards * bump(self.y - MOUTH_Y, 0.15)
        return _JAW_DROP * self.vectors(dx=-narrower, dy=-self.jaw, dz=-backwards * self.jaw)

    def _jaw(self) -> FloatArray:
        """(V,) how far each vertex follows the jaw: 1 at the chin, 0 from the upper lip up."""
        y = self.y
        known = np.full(self.lattice.size, np.nan)
        edge = self._reach()
        rim = (edge > 0.86) | (y < -0.78)
        known[rim] = np.interp(y, _JAW_RIM_Y, _JAW_RIM)[rim]
        known[y > -0.05] = 0.0
        known[self.above & (self.ax < 0.28) & (y < -0.20)] = 0.0
        known[(self.ax < 0.20) & (y < -0.58)] = 1.0
        lower = ~self.above & (self.ax < 0.18) & (y > -0.50)
        known[lower] = (0.15 + 0.85 * self.lips_open)[lower]
        return biharmonic_fill(self.lattice, known)

    def _reach(self) -> FloatArray:
        """(V,) 0 in the middle of a lattice row, 1 at its end."""
        half = np.zeros(self.lattice.row.max() - self.lattice.row.min() + 1)
        row = self.lattice.row - self.lattice.row.min()
        np.maximum.at(half, row, np.abs(self.lattice.around))
        return np.abs(self.lattice.around) / half[row]

    def _brow_height(self) -> FloatArray:
        """(V,) 1 along the brows, soft up the forehead, 0 at the eyes."""
        over = self.y - 0.47
        return np.where(over < 0, bump(over, 0.085), bump(over, 0.20))

    def _upper_lip(self) -> FloatArray:
        """(V,) the upper lip as a whole: 1 at its middle, 0 at the nose and at the corners."""
        return np.where(self.above, self.lips_open * smooth_step(-self.y, 0.15, 0.31), 0.0)

    def _lower_lip(self) -> FloatArray:
        """(V,) the lower lip as a whole: 1 at its middle, 0 on the chin and at the corners."""
        return np.where(self.above, 0.0, self.lips_open * smooth_step(self.y, -0.66, -0.48))

    def _lip_heights(self) -> FloatArray:
        """(V,) +1 at the upper lip's upper edge, -1 at the lower lip's lower edge, 0 between."""
        over = self.y - MOUTH_Y
        edge = over / 0.08
        return edge * np.exp((1 - edge**2) / 2) * bump(self.x, 0.20)

    def _lids(self) -> FloatArray:
        """(V,3) the upper lids all the way down: the eye's vertices gather at the lower lid."""
        x_in_eye = self.ax - EYE_X
        inside = 1 - (x_in_eye / 0.118) ** 2
        across = np.sqrt(np.clip(inside, 0, None))
        top, bottom = EYE_Y + 0.0465 * across, EYE_Y - 0.044 * across
        move = np.full((self.lattice.size, 3), np.nan)
        still = (self.y <= bottom) | (np.abs(x_in_eye) > 0.20) | (self.y > EYE_Y + 0.17)
        move[still] = 0.0
        # Near the corners the skin around decides, or the lids would tear off it.
        for column in np.unique(self.lattice.around[inside > 0.25]):
            line = np.flatnonzero(self.lattice.around == column)
            line = line[np.argsort(self.y[line])]
            lid = _lid_line(self.y[line], self.shape[line], (bottom[line[0]], top[line[0]]))
            move[line] = np.where(np.isnan(lid), move[line], lid)
        # The fill is only near the known values, but its error could keep the eyes from closing.
        move = np.where(np.isnan(move), biharmonic_fill(self.lattice, move), move)
        over_lid = np.clip(self.y - top, 0, None) / 0.05
        move[:, 2] += 0.016 * over_lid * np.exp(1 - over_lid) * across**2
        return move


def _lid_line(y: FloatArray, shape: FloatArray, opening: tuple[float, float]) -> FloatArray:
    """(n,3) movement of one lattice column of an eye, ``y`` (n,) growing, ``shape`` (n,3).

    ``opening`` is where the lids are. nan below the eye and above the upper lid's edge.
    """
    left = 0.04  # of the opening stays, so that no triangle loses its area
    bottom, top = opening
    low, high = (
        np.array([np.interp(lid, y, shape[:, axis]) for axis in range(3)]) for lid in opening
    )
    move = np.full_like(shape, np.nan)
    in_eye = (y > bottom) & (y <= top)
    move[in_eye] = low - shape[in_eye]
    move[np.flatnonzero(y > top)[0]] = low - high
    return (1 - left) * move
