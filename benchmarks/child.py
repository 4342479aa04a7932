"""Measurements in a process of their own: ``python -m benchmarks.child NAME JSON`` prints JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any


def job(
    *,
    assets: str,
    device: str,
    networks: dict[str, Any],
    shard: str,
    output: str,
    outputs: str,
    actors: int,
    threads: int,
) -> dict[str, Any]:
    """Labels a shard with Ray actors on this machine; ``networks``: options of ``jobs.label``."""
    from benchmarks import settings as variants
    from benchmarks.running import run_job
    from jobs.pipeline.label.factory import FaceLabelerFactory
    from jobs.pipeline.record.config import LabelConfig

    config = LabelConfig(
        paths=(shard, output),
        assets=assets,
        device="cuda" if device.startswith("cuda") else "cpu",
        actors=variants.actors(actors),
        cpus_per_actor=threads,
        chunk_images=8,
        **{**networks, **variants.OUTPUTS[outputs]},
    )
    return run_job(config, FaceLabelerFactory())


def planning(*, folder: str, shards: int, images: int, loop_images: int) -> dict[str, Any]:
    """Plans ``shards`` of ``images`` each, and labels some with a labeler that does nothing."""
    from benchmarks.planned import measure_loop, measure_plans

    root = Path(folder)
    return measure_plans(root, shards, images) | measure_loop(root, images, loop_images)


def startup(*, assets: str, device: str, networks: dict[str, Any], threads: int) -> dict[str, Any]:
    """Imports, builds the labeler, labels one photograph."""
    from skimage import data

    photograph = data.astronaut()
    started = perf_counter()
    from benchmarks.machine import memory
    from tddfa3.assets.bundle import AssetBundle
    from tddfa3.labeler import FaceLabeler

    imported = perf_counter()
    labeler = FaceLabeler(AssetBundle.load(assets), **networks, device=device, threads=threads)
    built = perf_counter()
    labeler([photograph])
    first = perf_counter()
    used = memory()
    return {
        "import_seconds": imported - started,
        "build_seconds": built - imported,
        "first_photograph_seconds": first - built,
        "resident_bytes": used.resident,
        "proportional_bytes": used.proportional,
        "unique_bytes": used.unique,
    }


def main(name: str, arguments: str) -> None:
    """Calls a function with arguments in JSON, and prints its result as JSON."""
    functions: dict[str, Callable[..., dict[str, Any]]]
    functions = {"job": job, "planning": planning, "startup": startup}
    print(json.dumps(functions[name](**json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
