"""The targets of the project, and whether they were reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.stages import after_the_backbone

Results = Mapping[str, Any]


class Target(NamedTuple):
    """One figure and its target.

    Attributes:
        name: of the figure.
        wanted: its limit, as text.
        measured: its value, as text.
        reached: whether the value is within the limit.
    """

    name: str
    wanted: str
    measured: str
    reached: bool


def targets(results: Results) -> list[Target]:
    """The targets for which everything that they need was measured."""
    return [*_speed(results), *_stages(results), *_jobs(results), *_planning(results)]


def _speed(results: Results) -> Iterator[Target]:
    library, yardstick = results.get("library"), results.get("yardstick")
    if not library:
        return
    labels, everything = library[0], library[1]
    yield _most(
        "labels only: CPU time over that of the networks alone",
        labels["over_networks"],
        1.4,
        "{:.2f}",
    )
    if not yardstick:
        return
    original = yardstick["original_images_per_second_here"]
    rates = {"library": everything["images_per_second"]}
    if job := _job(results, "everything", 1):
        rates["job, one actor"] = job["images_per_second"]
    for where, rate in rates.items():
        yield _least(f"everything on, {where}: speed over the original's", rate / original, 10)
    rate = labels["images_per_second"]
    yield _least("labels only, library: speed over the original's", rate / original, 12)


def _stages(results: Results) -> Iterator[Target]:
    if rows := results.get("stages"):
        yield _most("after the backbone, per face", after_the_backbone(rows), 25, "{:.1f} ms")


def _jobs(results: Results) -> Iterator[Target]:
    one, two = (_job(results, "everything", actors) for actors in (1, 2))
    if one and (library := results.get("library")):
        share = one["images_per_second"] / library[1]["images_per_second"]
        yield _least("job with one actor over the library in a loop", share, 0.95)
    if one and two:
        share = two["images_per_second"] / one["images_per_second"]
        yield _least("two actors of half the threads over one", share, 1)
    for job, name, column, most in (
        (one, "one actor: resident", "resident_bytes_per_actor", 1.2e9),
        (two, "a second actor adds", "unique_bytes_per_actor", 0.6e9),
    ):
        if job and job[column] is not None:
            yield _most(name, job[column] / 1e6, most / 1e6, "{:,.0f} MB")


def _planning(results: Results) -> Iterator[Target]:
    plan = results.get("planning")
    if not plan:
        return
    yield _most("planning", plan["plan_seconds"], 30, "{:.1f} s")
    yield _most("planning again, half committed", plan["resume_seconds"], 30, "{:.1f} s")
    yield _most("memory of the driver", plan["loop_driver_bytes"] / 1e6, 400, "{:,.0f} MB")
    yield _most("driver's time per image", plan["loop_driver_cpu_ms_per_image"], 1, "{:.3f} ms")


def _job(results: Results, outputs: str, actors: int) -> dict[str, Any] | None:
    rows: Sequence[dict[str, Any]] = results.get("jobs") or ()
    return next((r for r in rows if (r["outputs"], r["actors"]) == (outputs, actors)), None)


def _most(name: str, value: float, limit: float, text: str) -> Target:
    return Target(name, f"at most {text.format(limit)}", text.format(value), value <= limit)


def _least(name: str, value: float, limit: float) -> Target:
    number: Callable[..., str] = "{:.2f}".format
    return Target(name, f"at least {limit:g}", number(value), value >= limit)
