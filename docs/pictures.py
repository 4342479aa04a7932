"""Makes the pictures of README.md and docs/library.md: ``python docs/pictures.py``.

Run ``make demo`` before. The pictures show the photograph of Eileen Collins (NASA, public domain)
and faces rendered by tddfa3.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from jobs.demo import OUTPUT
from tddfa3.assets.bundle import AssetBundle
from tddfa3.drawing.draw import overlay
from tddfa3.drawing.sample import rendered_faces
from tddfa3.labeler import FaceLabeler

IMAGES = Path(__file__).parent / "images"
SHEET_SIDE, OVERLAY_SIDE = 960, 360
QUALITY = 88


def main() -> None:
    """Makes both pictures."""
    with Image.open(next(OUTPUT.glob("overlays/photos/astronaut*"))) as sheet:
        save(sheet.resize((SHEET_SIDE, SHEET_SIDE), Image.Resampling.LANCZOS), "sheet.jpg")
    bundle = AssetBundle.load()
    labeler = FaceLabeler(bundle)
    photos = [np.ascontiguousarray(skimage.data.astronaut()), *rendered_faces(bundle, 2)]
    side = (OVERLAY_SIDE, OVERLAY_SIDE)
    drawn = [
        Image.fromarray(overlay(photo, faces)).resize(side, Image.Resampling.LANCZOS)
        for photo, faces in zip(photos, labeler(photos), strict=True)
    ]
    save(Image.fromarray(np.concatenate([np.asarray(picture) for picture in drawn], 1)),
         "overlays.jpg")  # fmt: skip


def save(picture: Image.Image, name: str) -> None:
    """Writes a picture into ``docs/images`` and prints its path."""
    picture.save(IMAGES / name, quality=QUALITY)
    print(IMAGES / name)


if __name__ == "__main__":
    main()
