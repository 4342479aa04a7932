"""Paints the face of one person into the chart, with details that the morphable model lacks.

The result is a texture of four channels: RGB of the unlit skin, 0..1.2, and how much of the pixel
is eyeball. Inside the eye RGB is the shadow of the lids. The eyeball itself is painted when a
picture is drawn (``shade.py``), so that closing lids cover an iris that stays round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.chart import TEXTURE_SIZE, FaceChart
from training.noise import bump, fractal, mix, ramp

Floats = npt.NDArray[np.floating]

HAIR_COLOURS = np.array(
    [
        [0.05, 0.04, 0.035],
        [0.12, 0.08, 0.06],
        [0.25, 0.16, 0.10],
        [0.45, 0.32, 0.18],
        [0.75, 0.60, 0.40],
        [0.50, 0.20, 0.10],
        [0.60, 0.60, 0.60],
        [0.90, 0.88, 0.85],
        [0.08, 0.07, 0.08],
    ],
    np.float32,
)
LIPSTICK = np.array([0.7, 0.1, 0.15], np.float32)
REDDER = np.array([0.02, -0.28, -0.24], np.float32)
"""How blood changes the colour of skin: in lips, and a little in cheeks."""


@dataclass(frozen=True)
class PaintedHead:
    """One person's surface.

    Attributes:
        texture: (S,S,4) RGB and share of eyeball.
        hair: (3,) RGB of the hair, unlit.
        skin: (3,) RGB of the skin, unlit.
        bald: whether there is no hair on the head.
    """

    texture: Floats
    hair: Floats
    skin: Floats
    bald: bool


class Painter:
    """Paints heads on one chart."""

    def __init__(self, chart: FaceChart) -> None:
        self.chart = chart
        self.ax = np.abs(chart.x)
        points = chart.landmarks
        self.places = points
        # The image-left eye is the mirror image of the other; both are painted at once.
        self.eye = np.abs(points[42:48])
        self.eye_x, self.eye_y = (self.eye[0] + self.eye[3]) / 2
        self.eye_half_width = float(self.eye[3, 0] - self.eye[0, 0]) / 2
        self.upper_lid = float((self.eye[1, 1] + self.eye[2, 1]) / 2 - self.eye_y)
        self.lower_lid = float(self.eye_y - (self.eye[4, 1] + self.eye[5, 1]) / 2)
        self.lip_line = float(points[[60, 62, 64, 66], 1].mean())
        self.mouth_half_width = float(points[54, 0] - points[48, 0]) / 2
        self.upper_lip = float(points[51, 1]) - self.lip_line
        self.lower_lip = self.lip_line - float(points[57, 1])

    def paint(self, random: np.random.Generator, albedo: npt.NDArray[np.floating]) -> PaintedHead:
        """A random head with the albedo coefficients (n_alb,)."""
        bare = self.chart.skin(albedo)
        grain = fractal(random, TEXTURE_SIZE, (4, 8, 16, 64, 128), 2)
        hair = HAIR_COLOURS[random.integers(len(HAIR_COLOURS))] * np.float32(
            random.uniform(0.6, 1.3)
        )
        hair = np.clip(hair + random.normal(0, 0.02, 3), 0.01, 1).astype(np.float32)
        colour = bare * (1 + grain[..., :1] * np.float32(random.uniform(0, 0.07)))
        colour *= (1 - self._folds(random))[..., None]
        skin = np.median(bare[::16, ::16].reshape(-1, 3), axis=0).astype(np.float32)
        self._blush(random, colour)
        self._brows(random, colour, hair, grain[..., 0])
        self._nostrils(random, colour)
        self._lips(random, colour, bare)
        if random.random() < 0.33:
            self._beard(random, colour, hair, grain[..., 1])
        bald = bool(random.random() < 0.12)
        if not bald:
            self._hairline(random, colour, hair, grain[..., 1])
        texture = np.empty((TEXTURE_SIZE, TEXTURE_SIZE, 4), np.float32)
        texture[..., 3] = self._eyes(random, colour)
        texture[..., :3] = np.clip(colour, 0, 1.2)
        return PaintedHead(texture, hair, skin, bald)

    def _window(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice]:
        """The texture's pixels of a box in the plane."""
        xs, ys = self.chart.x[0], self.chart.y[:, 0]
        columns = np.flatnonzero((xs >= x0) & (xs <= x1))
        rows = np.flatnonzero((ys >= y0) & (ys <= y1))
        return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def _folds(self, random: np.random.Generator) -> Floats:
        """(S,S) shadows that spherical harmonics lack: sockets, nose sides, folds, under the lip.

        Their places are relative to the landmarks; their depths are random.
        """
        ax, y = self.ax, self.chart.y
        wing_x, wing_y = self.places[35]
        ey, mouth = self.eye_y, self.lip_line

        def depth(most: float) -> np.float32:
            return np.float32(random.uniform(0, most))

        dark = (
            depth(0.35)
            * bump(ax - self.eye_x + 0.04, 0.17)
            * bump(y - ey - 0.055 - np.float32(random.normal(0, 0.02)), 0.06)
        )
        dark += depth(0.3) * bump(ax - self.eye_x, 0.12) * bump(y - ey + 0.08, 0.045)
        dark += depth(0.25) * bump(ax - wing_x - 0.045, 0.04) * bump(y - wing_y - 0.04, 0.08)
        fold_x = wing_x + 0.07 + (wing_y + 0.02 - y) * np.float32(0.5)
        dark += depth(0.24) * bump(ax - fold_x, 0.035) * bump(y - wing_y + 0.06, 0.13)
        chin_fold = mouth - self.lower_lip - 0.055
        dark += depth(0.3) * bump(ax, 0.16) * bump(y - chin_fold, 0.05)
        dark += depth(0.25) * bump(ax - 0.13, 0.05) * bump(y - ey - 0.01, 0.1)
        dark -= depth(0.12) * bump(ax, 0.05) * bump(y - ey + 0.21, 0.2)
        if random.random() < 0.15:  # lines of the forehead
            waves = np.sin((y - ey) * np.float32(random.uniform(60, 110)))
            dark += depth(0.12) * np.clip(waves, 0, 1) * bump(y - ey - 0.4, 0.12) * bump(ax, 0.35)
        return dark

    def _blush(self, random: np.random.Generator, colour: Floats) -> None:
        cheek = bump(self.ax - self.eye_x - 0.1, 0.16) * bump(self.chart.y - self.eye_y + 0.3, 0.16)
        strength = np.float32(random.uniform(0, 0.5))
        colour *= 1 + REDDER * (cheek * strength)[..., None]

    def _brows(
        self, random: np.random.Generator, colour: Floats, hair: Floats, grain: Floats
    ) -> None:
        """Paints brows along their five landmarks, which lie on the brow's upper half."""
        brow = self.places[22:27]
        box = self._window(-0.62, 0.62, brow[:, 1].min() - 0.15, brow[:, 1].max() + 0.1)
        ax, y = self.ax[box], self.chart.y[box]
        thickness = random.uniform(0.018, 0.042)
        middle = np.interp(ax, brow[:, 0], brow[:, 1]).astype(np.float32) - 0.5 * thickness
        middle += np.float32(random.normal(0, 0.008))
        start, end = brow[0, 0] - random.uniform(0, 0.04), brow[4, 0] + random.uniform(-0.03, 0.03)
        along = np.clip((ax - start) / (end - start), 0, 1)
        taper = np.float32(thickness) * (np.float32(1.15) - 0.6 * along)
        edge = np.float32(1.5) - np.abs((y - middle) / taper) * np.float32(1.2) + grain[box] * 0.2
        ends = np.clip(np.minimum(ax - start, end - ax) / 0.04 + 0.5, 0, 1)
        mask = np.clip(edge, 0, 1) * ends * np.float32(random.uniform(0.25, 1))
        colour[box] = mix(colour[box], hair * np.float32(random.uniform(0.5, 1)), mask)

    def _eyes(self, random: np.random.Generator, colour: Floats) -> Floats:
        """Paints lash lines, crease and lid shadow into ``colour``; returns the eyeballs' mask."""
        half_width = self.eye_half_width * random.uniform(0.98, 1.05)
        # At the lids' landmarks an ellipse has this share of its height.
        share = np.sqrt(1 - ((self.eye[1, 0] - self.eye_x) / self.eye_half_width) ** 2)
        upper = self.upper_lid / share * random.uniform(0.93, 1.07)
        lower = self.lower_lid / share * random.uniform(0.9, 1.07)
        reach = half_width * 1.3
        mask = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
        slant = random.normal(0, 0.03)
        lashes = random.uniform(0.2, 0.95), random.uniform(0, 0.5), random.uniform(0, 0.4)
        widths = random.uniform(0.006, 0.014), random.uniform(0.02, 0.035)
        shadow, make_up = random.uniform(0.15, 0.5), random.uniform(0, 0.5)
        made_up = random.random() < 0.2
        for side in (-1, 1):
            x0, x1 = sorted((side * (self.eye_x - reach), side * (self.eye_x + reach)))
            box = self._window(x0, x1, self.eye_y - 0.15, self.eye_y + 0.15)
            across = (self.ax[box] - self.eye_x) / np.float32(half_width)
            y = self.chart.y[box] - self.eye_y - np.float32(slant * half_width) * across
            arch = np.sqrt(np.clip(1 - across**2, 0, 1))
            top, bottom = np.float32(upper) * arch, -np.float32(lower) * arch
            inside = ramp(np.minimum(top - y, y - bottom) / 0.008) * (np.abs(across) < 1)
            near = bump(np.clip(np.abs(across) - 1, 0, None), 0.08)
            if made_up:
                lid = bump(y - top - 0.02, 0.03) * near * np.float32(make_up)
                colour[box] *= (1 - lid)[..., None]
            line = bump(y - top, widths[0]) * lashes[0] + bump(y - bottom, 0.008) * lashes[1]
            line += bump(y - top - widths[1], 0.007) * lashes[2]
            line = np.clip(line * near, 0, 1)
            colour[box] = mix(colour[box], np.full(3, 0.05, np.float32), line)
            lid_shadow = 1 - shadow * np.clip((y - top + 0.03) / 0.03, 0, 1)
            lid_shadow = (lid_shadow * (1 - line)).astype(np.float32)
            colour[box] = mix(colour[box], lid_shadow[..., None].repeat(3, 2), inside)
            mask[box] = inside
        return mask

    def _nostrils(self, random: np.random.Generator, colour: Floats) -> None:
        wing_x, base_y = self.places[35, 0], self.places[33, 1]
        hole = bump(self.ax - 0.48 * wing_x, 0.026) * bump(self.chart.y - base_y - 0.03, 0.022)
        colour *= (1 - hole * np.float32(random.uniform(0.3, 0.95)))[..., None]

    def _lip_mask(self, random: np.random.Generator, box: tuple[slice, slice]) -> Floats:
        ax, dy = self.ax[box], self.chart.y[box] - self.lip_line
        arch = np.sqrt(np.clip(1 - (ax / np.float32(self.mouth_half_width * 1.03)) ** 2, 0, None))
        upper = self.upper_lip * arch * np.float32(random.uniform(0.8, 1.1))
        upper -= np.float32(random.uniform(0, 0.2)) * self.upper_lip * bump(ax, 0.03)
        lower = self.lower_lip * arch * np.float32(random.uniform(0.85, 1.15))
        softness = random.uniform(0.008, 0.025)
        return ramp(np.minimum(upper - dy, dy + lower) / np.float32(softness))

    def _lips(self, random: np.random.Generator, colour: Floats, bare: Floats) -> None:
        half = self.mouth_half_width
        box = self._window(-half * 1.1, half * 1.1, self.lip_line - 0.18, self.lip_line + 0.18)
        lip = bare[box] * (1 + REDDER * np.float32(random.uniform(0, 1.5)))
        lip = lip * np.float32(random.uniform(0.6, 1.05))
        if random.random() < 0.15:
            lip = lip * 0.3 + LIPSTICK * np.float32(0.7 * random.uniform(0.5, 1.1))
        mask = self._lip_mask(random, box) * np.float32(random.uniform(0.15, 1))
        painted = mix(colour[box], lip, mask)
        # Where the lips meet: dark when closed, and their inner rims when open.
        dy = self.chart.y[box] - self.lip_line
        line = bump(dy, random.uniform(0.008, 0.018)) * (self.ax[box] < half * 1.02)
        colour[box] = painted * (1 - line * np.float32(random.uniform(0.15, 0.85)))[..., None]

    def _beard(
        self, random: np.random.Generator, colour: Floats, hair: Floats, grain: Floats
    ) -> None:
        ax, y = self.ax, self.chart.y
        nose_base = float(self.places[33, 1])
        area = np.clip((nose_base + 0.04 - y + 0.35 * np.clip(ax - 0.3, 0, 1)) / 0.1, 0, 1)
        area *= np.clip(1 - bump(ax - 0.33, 0.2) * bump(y - nose_base + 0.02, 0.14) * 1.2, 0, 1)
        if random.random() < 0.3:
            area *= ramp((0.28 - ax) / 0.12)
        box = (slice(None), slice(None))
        area *= 1 - self._lip_mask(random, box)
        area *= np.clip(random.uniform(0.3, 1.1) + grain * 0.2, 0, 1) * random.uniform(0.15, 0.9)
        tone = hair * np.float32(random.uniform(0.7, 1.3))
        colour[...] = mix(colour, tone, area.astype(np.float32))

    def _hairline(
        self, random: np.random.Generator, colour: Floats, hair: Floats, grain: Floats
    ) -> None:
        ax, x, y = self.ax, self.chart.x, self.chart.y
        top = self.eye_y + random.uniform(0.33, 0.7)
        if random.random() < 0.22:  # a fringe, down to the brows
            top = self.eye_y + random.uniform(0.17, 0.42)
        line = top - random.uniform(0, 0.6) * ax**2 + random.uniform(-0.15, 0.15) * x
        line = line + grain * random.uniform(0.01, 0.06)
        mask = ramp((y - line) / random.uniform(0.01, 0.08))
        if random.random() < 0.4:  # hair that falls over the temples
            mask = np.maximum(mask, ramp((ax - random.uniform(0.55, 0.8) - grain * 0.02) / 0.03))
        waves = np.sin(x * random.uniform(20, 120) + grain * 2)
        strands = 1 + 0.35 * grain * random.uniform(0, 1) + 0.25 * waves * random.uniform(0, 1)
        tone = hair * strands[..., None].astype(np.float32)
        colour[...] = mix(colour, tone, mask.astype(np.float32))
