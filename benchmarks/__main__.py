"""Measures everything in one run, as tables and as JSON: ``python -m benchmarks``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from benchmarks import machine
from benchmarks.ceiling import measure_ceiling
from benchmarks.decoding import measure_decoding
from benchmarks.drift import measure_drift
from benchmarks.inputs import ROOT, Encoded, photographs
from benchmarks.jobs import measure_jobs, measure_planning, measure_startup
from benchmarks.library import measure_library
from benchmarks.report import around_tables, show, write
from benchmarks.settings import BACKBONES, DETECTORS, Settings
from benchmarks.stages import measure_stages
from benchmarks.yardstick import measure_yardstick
from jobs.exits import ExitCode, run_program
from tddfa3.assets.bundle import AssetBundle
from tddfa3.assets.generators.synthetic import synthesize
from tddfa3.errors import UserError

ASSETS = ROOT / "assets" / "synthetic-0"
Section = Literal[
    "yardstick", "ceiling", "stages", "decoding", "library", "drift", "startup", "jobs", "planning"
]
SECTIONS: dict[Section, Callable[[Settings, Sequence[Encoded]], Any]] = {
    "yardstick": lambda settings, _: measure_yardstick(settings),
    "ceiling": lambda settings, _: measure_ceiling(settings),
    "stages": measure_stages,
    "decoding": lambda settings, _: measure_decoding(settings),
    "library": measure_library,
    "drift": measure_drift,
    "startup": lambda settings, _: measure_startup(settings),
    "jobs": measure_jobs,
    "planning": lambda settings, _: measure_planning(settings),
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """Everything measured in one run, as tables and as JSON."""

    quick: bool = False
    """Fewer variants, fewer repetitions."""
    only: tuple[Section, ...] = ()
    """These sections; default: all."""
    assets: Annotated[Path, tyro.conf.arg(metavar="DIR")] = ASSETS
    """Bundle; the synthetic one is made where it is missing."""
    photos: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Photographs to label; made ones where there are none."""
    threads: Annotated[int, tyro.conf.arg(metavar="N")] = field(
        default_factory=lambda: len(os.sched_getaffinity(0))
    )
    """Of the networks; default: one for each core."""
    seconds: Annotated[float | None, tyro.conf.arg(metavar="S")] = None
    """For each comparison."""
    original: Annotated[float | None, tyro.conf.arg(metavar="S")] = None
    """Seconds that 3DDFA-V3's own program takes for a photograph on this machine, everything on,
    where you have timed it."""
    write: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Put the tables between the marks of this Markdown file."""
    json: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("benchmarks.json")
    """Where the JSON is written."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    given = tyro.cli(
        BenchmarkConfig,
        prog="python -m benchmarks",
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    return run_program(lambda: measure(given, Console()))


def measure(given: BenchmarkConfig, console: Console) -> ExitCode:
    """Measures, and writes the results where the options say."""
    if given.write is not None:
        around_tables(given.write)  # fails now rather than after minutes of measuring
    if given.assets == ASSETS:
        synthesize(ASSETS, seed=0)
    settings = settings_for(given, AssetBundle.load(given.assets.resolve()))
    results = measure_all(settings, given.only or list(SECTIONS), console)
    show(results, console)
    given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.write is not None:
        write(results, given.write)
    console.print(f"The same as JSON: {given.json}", highlight=False, soft_wrap=True)
    return ExitCode.DONE


def measure_all(
    settings: Settings, sections: Sequence[Section], console: Console
) -> dict[str, Any]:
    """Measures the sections one after the other; also says what machine this is and how busy."""
    torch.set_num_threads(settings.threads)
    photos = photographs(settings.photos)[: 6 if settings.quick else 8]
    results: dict[str, Any] = {
        "machine": machine.describe(),
        "load_before": machine.load(),
        "threads": settings.threads,
        "device": settings.device,
        "photographs": len(photos),
        "assets": settings.assets.name,
        "quick": settings.quick,
    }
    for name in sections:
        console.print(f"measuring {name} ...")
        results[name] = SECTIONS[name](settings, photos)
    results["load_after"] = machine.load()
    return results


def settings_for(given: BenchmarkConfig, bundle: AssetBundle) -> Settings:
    """What the options mean for a bundle.

    Raises:
        UserError: the bundle has none of the networks that are measured.
    """
    quick = given.quick
    detectors = tuple(name for name in DETECTORS if name in bundle.detectors)
    backbones = tuple(name for name in BACKBONES if name in bundle.backbones)
    if not detectors or not backbones:
        names = ", ".join((*DETECTORS, *BACKBONES))
        raise UserError(f"--assets {given.assets}: no detector and backbone of {names}")
    return Settings(
        assets=given.assets.resolve(),
        photos=given.photos,
        threads=given.threads,
        seconds=given.seconds or (2 if quick else 8),
        rounds=2 if quick else 3,
        job_images=40 if quick else 96,
        planned_shards=10 if quick else 100,
        planned_images=10_000,
        loop_images=2_000 if quick else 20_000,
        quick=quick,
        original_seconds=given.original,
        device="cuda" if torch.cuda.is_available() else "cpu",
        detectors=detectors,
        backbones=backbones,
    )


if __name__ == "__main__":
    sys.exit(main())
