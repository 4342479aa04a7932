"""The job with one and with two actors, planning of a million images, and starting up.

Each runs in a process of its own, so that its memory and its start can be measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.inputs import ROOT, Encoded, write_tar
from benchmarks.settings import Settings

_LIMIT_SECONDS = 1800


class ChildFailed(Exception):
    """A measuring process failed; the message is the end of its output."""


def child(name: str, **arguments: Any) -> dict[str, Any]:
    """Runs a function of :mod:`benchmarks.child` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.child", name, json.dumps(arguments, default=str)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=_LIMIT_SECONDS, check=False
    )
    if done.returncode != 0:
        raise ChildFailed(f"{name}: {(done.stderr or done.stdout).strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_jobs(settings: Settings, photos: Sequence[Encoded]) -> list[dict[str, Any]]:
    """One row per number of actors and kind of output."""
    rows = []
    with TemporaryDirectory() as folder:
        shard = Path(folder) / "shard.tar"
        write_tar(shard, photos, settings.job_images)
        for outputs, count in [("everything", 1), ("everything", 2), ("labels", 1)]:
            if settings.threads < count or (settings.quick and outputs == "labels"):
                continue
            row = child(
                "job",
                assets=settings.assets,
                device=settings.device,
                networks=_networks(settings),
                shard=shard,
                output=Path(folder) / f"{outputs}-{count}",
                outputs=outputs,
                actors=count,
                threads=settings.threads // count,
            )
            rows.append({"outputs": outputs, "actors": count, **row})
    return rows


def measure_planning(settings: Settings) -> dict[str, Any]:
    """Planning and resuming, and the driver's time per image."""
    with TemporaryDirectory() as folder:
        return child(
            "planning",
            folder=folder,
            shards=settings.planned_shards,
            images=settings.planned_images,
            loop_images=settings.loop_images,
        )


def measure_startup(settings: Settings) -> dict[str, Any]:
    """From a new process to its first labelled photograph."""
    return child(
        "startup",
        assets=settings.assets,
        device=settings.device,
        networks=_networks(settings),
        threads=settings.threads,
    )


def _networks(settings: Settings) -> dict[str, str]:
    return {"detector": settings.detectors[0], "backbone": settings.backbones[0]}
