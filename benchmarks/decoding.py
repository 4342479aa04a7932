"""What reduced decoding saves: a large JPEG decoded whole, and as small as RetinaFace needs it."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.inputs import portrait
from benchmarks.settings import Settings
from benchmarks.timing import measure_in_turn
from jobs.pipeline.label.decode import decode
from tddfa3.networks.detection import RetinaFaceConfig

SIZE = (4000, 3000)


def measure_decoding(settings: Settings) -> list[dict[str, Any]]:
    """One row per ``--decode``."""
    jpeg = portrait(SIZE, quality=90)
    needed = {"full": None, "reduced": RetinaFaceConfig().size}
    calls = {name: partial(decode, jpeg, needed_side=side) for name, side in needed.items()}
    timings = measure_in_turn(calls, seconds=settings.seconds / 4, least=3)
    rows = []
    for name, timing in timings.items():
        image = calls[name]().image
        assert image is not None
        height, width = image.shape[:2]
        rows.append({"decode": name, "width": width, "height": height, "cpu_ms": 1000 * timing.cpu})
    return rows
