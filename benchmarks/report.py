"""Results as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.stages import AFTER_THE_BACKBONE, after_the_backbone

Results = Mapping[str, Any]

_MB = 1e6


def show(results: Results, console: Console) -> None:
    """One table per section that was measured."""
    console.print(heading(results))
    for section, build in (
        ("stages", stages_table),
        ("library", library_table),
        ("jobs", jobs_table),
        ("planning", planning_table),
        ("startup", startup_table),
        ("drift", drift_table),
    ):
        if results.get(section):
            console.print(build(results))


def heading(results: Results) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"GPU: {machine['gpu'] or 'none'}; {results['threads']} threads; load before "
        f"{results['load_before']}, after {results['load_after']}\n"
        f"{results['photographs']} photographs; assets {results['assets']}\n{versions}"
    )


def stages_table(results: Results) -> Table:
    rows = results["stages"]
    table = _table(
        "Stages, everything on: medians per photograph",
        "stage",
        "wall ms",
        "CPU ms",
        "share of CPU",
        "runs",
    )
    for row in rows:
        table.add_row(
            row["stage"],
            f"{row['wall_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            f"{row['share']:.1%}",
            str(row["runs"]),
        )
    table.add_section()
    table.add_row(" + ".join(AFTER_THE_BACKBONE), "", f"{after_the_backbone(rows):.1f}", "", "")
    return table


def library_table(results: Results) -> Table:
    table = _table(
        "Library in a loop: decode, label, encode, publish",
        "variant",
        "images/s",
        "CPU ms/image",
        "of it networks",
        "CPU over networks",
        "speed against the first",
        "bytes/face",
        "runs",
    )
    for row in results["library"]:
        table.add_row(
            row["variant"], f"{row['images_per_second']:.2f}", f"{row['cpu_ms']:.0f}",
            f"{row['networks_cpu_ms']:.0f}", f"{row['over_networks']:.2f}",
            f"{row['speed_against_first']:.2f}", f"{row['bytes_per_face']:,.0f}", str(row["runs"]),
        )  # fmt: skip
    return table


def jobs_table(results: Results) -> Table:
    stages = list(results["jobs"][0]["idle"])
    table = _table(
        "Job on this machine, start-up aside",
        "outputs",
        "actors",
        "images/s",
        "MB per actor",
        "shared out",
        "start-up s",
        "driver ms/image",
        *(f"{stage} idle" for stage in stages),
    )
    for row in results["jobs"]:
        table.add_row(
            row["outputs"], str(row["actors"]), f"{row['images_per_second']:.2f}",
            _megabytes(row["resident_bytes_per_actor"]),
            _megabytes(row["proportional_bytes_per_actor"]),
            f"{row['startup_seconds']:.1f}", f"{row['driver_cpu_ms_per_image']:.2f}",
            *(f"{row['idle'][stage]:.0%}" for stage in stages),
        )  # fmt: skip
    return table


def planning_table(results: Results) -> Table:
    plan = results["planning"]
    return _pairs("Planning, and a labeller that does nothing", [
        ("images, shards, chunks", f"{plan['images']:,}, {plan['shards']:,}, {plan['chunks']:,}"),
        ("planning", f"{plan['plan_seconds']:.1f} s"),
        ("planning again, half of it committed", f"{plan['resume_seconds']:.1f} s"),
        ("memory of the process that plans", f"{plan['planner_bytes'] / _MB:,.0f} MB"),
        ("images through the loop", f"{plan['loop_images']:,}"),
        ("images/s through the loop", f"{plan['loop_images_per_second']:,.0f}"),
        ("driver's CPU per image", f"{plan['loop_driver_cpu_ms_per_image']:.3f} ms"),
        ("driver's memory", f"{plan['loop_driver_bytes'] / _MB:,.0f} MB"),
    ])  # fmt: skip


def startup_table(results: Results) -> Table:
    start = results["startup"]
    return _pairs("A new process to its first labels", [
        ("imports", f"{start['import_seconds']:.1f} s"),
        ("networks and face model", f"{start['build_seconds']:.1f} s"),
        ("first photograph", f"{start['first_photograph_seconds']:.1f} s"),
        ("memory", f"{start['resident_bytes'] / _MB:,.0f} MB"),
    ])  # fmt: skip


def drift_table(results: Results) -> Table:
    table = _table(
        "Backbone by engine and precision: where the 68 landmarks go",
        "engine",
        "wall ms/crop",
        "CPU ms/crop",
        "mean px",
        "largest px",
        "runs",
    )
    for row in results["drift"]:
        table.add_row(
            row["engine"],
            f"{row['wall_ms']:.2f}",
            f"{row['cpu_ms']:.2f}",
            f"{row['mean_px']:.1e}",
            f"{row['largest_px']:.1e}",
            str(row["runs"]),
        )
    return table


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _pairs(title: str, rows: Iterable[Sequence[str]]) -> Table:
    table = _table(title, "", "")
    for row in rows:
        table.add_row(*row)
    return table


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / _MB:,.0f}"
