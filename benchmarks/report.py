"""Results as tables, on a terminal or in Markdown between two marks of a document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.stages import AFTER_THE_BACKBONE, after_the_backbone
from benchmarks.targets import targets
from tddfa3.errors import UserError

Results = Mapping[str, Any]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_MB = 1e6


@dataclass(frozen=True)
class Grid:
    """A table, for a terminal or Markdown.

    Attributes:
        title: above the table.
        columns: their headings; the first column is text, the others are numbers.
        rows: cells.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def rich(self) -> Table:
        """The table for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The table in Markdown, with its title as a heading."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{table}"


def show(results: Results, console: Console) -> None:
    """Prints one table per section that was measured."""
    console.print("\n".join(heading(results)), soft_wrap=True, highlight=False)
    for grid in grids(results):
        console.print(grid.rich())


def write(results: Results, document: Path) -> None:
    """Puts the tables between the marks of a Markdown file; raises as :func:`around_tables`."""
    before, after = around_tables(document)
    parts = ["\\\n".join(heading(results)), *(grid.markdown() for grid in grids(results))]
    body = "\n\n".join(parts)
    document.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def around_tables(document: Path) -> tuple[str, str]:
    """The parts of a Markdown file before and after its marks.

    Raises:
        UserError: the file is missing, or has no marks.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--write {document}: {error.strerror}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"--write {document}: it needs the lines {BEGIN} and {END}")
    return before, after


def heading(results: Results) -> list[str]:
    """Lines about the machine, the input and the versions."""
    machine = results["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"GPU: {machine['gpu'] or 'none'}; {results['threads']} threads; load before "
        f"{results['load_before']}, after {results['load_after']}",
        f"{results['photographs']} photographs; assets {results['assets']}"
        + ("; in a hurry (`--quick`)" if results["quick"] else ""),
        versions,
    ]


def grids(results: Results) -> list[Grid]:
    """The tables of the sections that were measured, the targets first."""
    sections: Sequence[tuple[str, Callable[[Results], Grid]]] = (
        ("yardstick", yardstick_grid),
        ("ceiling", ceiling_grid),
        ("stages", stages_grid),
        ("decoding", decoding_grid),
        ("library", library_grid),
        ("jobs", jobs_grid),
        ("jobs", idle_grid),
        ("planning", planning_grid),
        ("startup", startup_grid),
        ("drift", drift_grid),
    )
    made = [build(results) for section, build in sections if results.get(section)]
    return [targets_grid(results), *made] if targets(results) else made


def targets_grid(results: Results) -> Grid:
    """The targets and whether they were reached."""
    rows = [
        (target.name, target.wanted, target.measured, "yes" if target.reached else "no")
        for target in targets(results)
    ]
    return Grid("Targets", ("", "wanted", "measured", "reached"), rows)


def yardstick_grid(results: Results) -> Grid:
    """The speed of 3DDFA-V3's own program."""
    found = results["yardstick"]
    how = "measured" if found["measured_here"] else "by calculation"
    return _pairs("The original's speed", [
        ("ResNet-50 in plain PyTorch, one crop: where the original was timed",
         f"{1000 * found['there_seconds']:.0f} ms"),
        ("the same here", f"{1000 * found['plain_resnet50_seconds']:.0f} ms"),
        ("the original there", f"{found['original_images_per_second_there']:.2f} images/s"),
        (f"the original here, {how}",
         f"{found['original_images_per_second_here']:.2f} images/s"),
    ])  # fmt: skip


def ceiling_grid(results: Results) -> Grid:
    """Operations, and the speed that they allow."""
    found = results["ceiling"]
    each = [(name, f"{count / 1e9:.1f} GFLOP") for name, count in found["operations"].items()]
    return _pairs("What the networks allow at most, on CPUs", [
        *each,
        ("matrix products on this machine, all threads",
         f"{found['operations_per_second'] / 1e9:.0f} GFLOP/s"),
        ("photographs, if nothing else took any time",
         f"{found['images_per_second']:.2f} images/s"),
    ])  # fmt: skip


def stages_grid(results: Results) -> Grid:
    """Time per stage."""
    rows = [
        (
            row["stage"],
            f"{row['wall_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            f"{row['share']:.1%}",
            str(row["runs"]),
        )
        for row in results["stages"]
    ]
    after = f"{after_the_backbone(results['stages']):.1f}"
    rows.append((" + ".join(AFTER_THE_BACKBONE), "", after, "", ""))
    return Grid(
        "Stages, everything on: medians per photograph",
        ("stage", "wall ms", "CPU ms", "share of CPU", "runs"),
        rows,
    )


def decoding_grid(results: Results) -> Grid:
    """Time and memory of whole and reduced decoding."""
    rows = [
        (
            row["decode"],
            f"{row['width']} x {row['height']}",
            f"{3 * row['width'] * row['height'] / _MB:.1f}",
            f"{row['cpu_ms']:.1f}",
        )
        for row in results["decoding"]
    ]
    return Grid("Decoding a JPEG of 12 megapixels", ("`--decode`", "pixels", "MB", "CPU ms"), rows)


def library_grid(results: Results) -> Grid:
    """Speed of the library's variants."""
    rows = [
        (
            row["variant"], f"{row['images_per_second']:.2f}", f"{row['cpu_ms']:.0f}",
            f"{row['networks_cpu_ms']:.0f}", f"{row['over_networks']:.2f}",
            f"{row['speed_against_first']:.2f}", f"{row['bytes_per_face']:,.0f}", str(row["runs"]),
        )
        for row in results["library"]
    ]  # fmt: skip
    return Grid(
        "Library in a loop: decode, label, encode, publish",
        (
            "variant", "images/s", "CPU ms/image", "of it networks", "CPU over networks",
            "speed against the first", "bytes/face", "runs",
        ),
        rows,
    )  # fmt: skip


def jobs_grid(results: Results) -> Grid:
    """Speed and memory of the job."""
    rows = [
        (
            f"{row['outputs']}, {row['actors']}", f"{row['images_per_second']:.2f}",
            _megabytes(row["resident_bytes_per_actor"]),
            _megabytes(row["proportional_bytes_per_actor"]),
            _megabytes(row["unique_bytes_per_actor"]),
            f"{row['startup_seconds']:.1f}", f"{row['driver_cpu_ms_per_image']:.2f}",
        )
        for row in results["jobs"]
    ]  # fmt: skip
    return Grid(
        "Job on this machine, start-up aside",
        (
            "outputs, actors", "images/s", "resident MB", "proportional MB", "unique MB",
            "start-up s", "driver ms/image",
        ),
        rows,
    )  # fmt: skip


def idle_grid(results: Results) -> Grid:
    """Idle shares of the job's stages."""
    stages = list(results["jobs"][0]["idle"])
    rows = [
        (f"{row['outputs']}, {row['actors']}", *(f"{row['idle'][stage]:.0%}" for stage in stages))
        for row in results["jobs"]
    ]
    return Grid("Job: share of the time in which nothing of a kind was done",
                ("outputs, actors", *stages), rows)  # fmt: skip


def planning_grid(results: Results) -> Grid:
    """Time and memory of planning and of the driver."""
    plan = results["planning"]
    return _pairs("Planning, and a labeler that does nothing", [
        ("images, shards, chunks", f"{plan['images']:,}, {plan['shards']:,}, {plan['chunks']:,}"),
        ("planning", f"{plan['plan_seconds']:.1f} s"),
        ("planning again, half of it committed", f"{plan['resume_seconds']:.1f} s"),
        ("memory of the process that plans", f"{plan['planner_bytes'] / _MB:,.0f} MB"),
        ("images through the loop", f"{plan['loop_images']:,}"),
        ("images/s through the loop", f"{plan['loop_images_per_second']:,.0f}"),
        ("driver's CPU per image", f"{plan['loop_driver_cpu_ms_per_image']:.3f} ms"),
        ("driver's memory", f"{plan['loop_driver_bytes'] / _MB:,.0f} MB"),
    ])  # fmt: skip


def startup_grid(results: Results) -> Grid:
    """Time and memory of a new process."""
    start = results["startup"]
    return _pairs("A new process to its first labels", [
        ("imports", f"{start['import_seconds']:.1f} s"),
        ("networks and face model", f"{start['build_seconds']:.1f} s"),
        ("first photograph", f"{start['first_photograph_seconds']:.1f} s"),
        ("memory, resident", f"{start['resident_bytes'] / _MB:,.0f} MB"),
        ("memory, unique", f"{start['unique_bytes'] / _MB:,.0f} MB"),
    ])  # fmt: skip


def drift_grid(results: Results) -> Grid:
    """Time of engines and precisions, and how far they move landmarks."""
    rows = [
        (
            row["engine"],
            f"{row['wall_ms']:.2f}",
            f"{row['cpu_ms']:.2f}",
            f"{row['mean_px']:.1e}",
            f"{row['largest_px']:.1e}",
            str(row["runs"]),
        )
        for row in results["drift"]
    ]
    return Grid(
        "Backbone by engine and precision: where the 68 landmarks go",
        ("engine", "wall ms/crop", "CPU ms/crop", "mean px", "largest px", "runs"),
        rows,
    )


def _pairs(title: str, rows: Sequence[Sequence[str]]) -> Grid:
    return Grid(title, ("", ""), rows)


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / _MB:,.0f}"
