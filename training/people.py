"""Random people: coefficients of believable heads, with mouths and eyes from closed to wide open.

How far mouth and lids are open is drawn first. Both are linear in the coefficients, which are then
solved for, so that training sees all openings equally often.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tddfa3.assets.face_model_data import FaceModelData
from tddfa3.assets.generators.open_face import ALBEDO_NAMES, EXPRESSION_NAMES, EXPRESSION_RANGES

Floats = npt.NDArray[np.floating]

INDEX = {name: i for i, name in enumerate(EXPRESSION_NAMES)}
JAW, LIDS = INDEX["jaw_open"], INDEX["eyes_close"]
LIDS_UNEQUAL = INDEX["left_eye_closes_right_opens"]
LOW, HIGH = (np.array([EXPRESSION_RANGES[name][i] for name in EXPRESSION_NAMES]) for i in (0, 1))
LIGHTNESS = ALBEDO_NAMES.index("lightness")
LIGHTNESS_RANGE = (-2.2, 2.0)
"""From the darkest skin to the lightest, all equally often."""
TYPICAL_SHARE = 0.2
"""Standard deviation of a movement as a share of its useful range."""
SMILE_ALONG = {
    "corners_up": (-0.1, 0.5),
    "upper_lip_raise": (-0.1, 0.8),
    "cheeks_raise": (0.0, 0.6),
    "lower_lids_raise": (0.0, 0.6),
    "smile_left_over_right": (-0.2, 0.2),
}
"""Movements that go with a smile: name to least and most per unit of smile."""
NOT_SMILING = ("lips_forward", "pucker", "chin_raise")
WIDEST_GAP = 0.45
"""Between the inner lips, in model units."""
UPPER_INNER_LIP, LOWER_INNER_LIP = 62, 66
LID_PAIRS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))
"""Upper and lower landmark of each lid gap: the subject's right eye, then the left."""


class People:
    """Draws coefficients for one face model."""

    def __init__(self, data: FaceModelData) -> None:
        self.sizes = data.sizes
        landmarks = data.landmarks["68"]
        heights = (
            data.mean_shape[landmarks, 1],
            data.id_basis[landmarks, 1],
            data.exp_basis[landmarks, 1],
        )
        self.mouth = [gap(part, ((UPPER_INNER_LIP, LOWER_INNER_LIP),)) for part in heights]
        self.lids = [np.stack([gap(part, pairs) for pairs in LID_PAIRS]) for part in heights]

    def identity(self, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """Identity coefficients (n_id,)."""
        return random.normal(0, 1.15, self.sizes.id).astype(np.float32)

    def albedo(self, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """Albedo coefficients (n_alb,)."""
        albedo = random.normal(0, 0.9, self.sizes.alb)
        albedo[LIGHTNESS] = random.uniform(*LIGHTNESS_RANGE)
        return albedo.astype(np.float32)

    def expression(self, random: np.random.Generator, identity: Floats) -> npt.NDArray[np.float32]:
        """Expression coefficients (n_exp,) of a head of this identity."""
        named = len(EXPRESSION_NAMES)
        exp = random.normal(0, 0.8, self.sizes.exp)
        exp[:named] = random.normal(size=named) * TYPICAL_SHARE * (HIGH - LOW)
        if random.random() < 0.25:
            exp *= 0.3
        smiling = bool(random.random() < 0.4)
        if smiling:
            self._smile(random, exp)
        exp[:named] = np.clip(exp[:named], LOW, HIGH)
        self._part_lips(random, exp, identity, smiling=smiling)
        self._open_lids(random, exp, identity, smiling=smiling)
        return exp.astype(np.float32)

    def _smile(self, random: np.random.Generator, exp: Floats) -> None:
        """Adds a smile in place; the next two also work in place."""
        smile = float(random.uniform(0.3, HIGH[INDEX["smile"]]))
        exp[INDEX["smile"]] = smile
        for name, (least, most) in SMILE_ALONG.items():
            exp[INDEX[name]] = smile * random.uniform(least, most)
        exp[[INDEX[name] for name in NOT_SMILING]] *= 0.3

    def _part_lips(
        self, random: np.random.Generator, exp: Floats, identity: Floats, *, smiling: bool
    ) -> None:
        mean, of_identity, of_expression = self.mouth
        closed = mean + of_identity @ identity
        share = random.random()
        if share < (0.2 if smiling else 0.45):
            wanted: Floats | float = closed
        elif share < 0.7:
            wanted = closed + random.uniform(0, 0.18)
        else:
            wanted = random.uniform(0.02, WIDEST_GAP)
        exp[JAW] = 0
        now = mean + of_identity @ identity + of_expression @ exp
        exp[JAW] = np.clip((wanted - now) / of_expression[JAW], LOW[JAW], HIGH[JAW])

    def _open_lids(
        self, random: np.random.Generator, exp: Floats, identity: Floats, *, smiling: bool
    ) -> None:
        mean, of_identity, of_expression = self.lids
        usual = mean + of_identity @ identity
        share = random.random()
        if share < 0.68:
            ratio = np.full(2, np.clip(random.normal(0.95, 0.18), 0.35, 1.4))
        elif share < 0.82:
            ratio = np.full(2, random.uniform(0.1, 0.9))
        elif share < 0.9:
            ratio = np.full(2, random.uniform(0.02, 0.15))
        else:  # a wink
            ratio = np.array([random.uniform(0.02, 0.35), random.uniform(0.6, 1.1)])
            ratio = ratio[::-1] if random.random() < 0.5 else ratio
        ratio = ratio * (1 + random.normal(0, 0.03, 2)) * (random.uniform(0.5, 1) if smiling else 1)
        pair = [LIDS, LIDS_UNEQUAL]
        exp[pair] = 0
        now = usual + of_expression @ exp
        solved = np.linalg.solve(of_expression[:, pair], usual * ratio - now)
        exp[pair] = np.clip(solved, LOW[pair], HIGH[pair])


def gap(heights: Floats, pairs: tuple[tuple[int, int], ...]) -> Floats:
    """Mean of upper minus lower landmark, float64, of ``heights`` (68,) or (68,n)."""
    return np.mean([heights[a].astype(np.float64) - heights[b] for a, b in pairs], axis=0)
