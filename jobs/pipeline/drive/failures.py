"""Ray's exceptions, cut down to what a person can use."""

from __future__ import annotations

from ray.exceptions import RayError, RayTaskError

from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError


class StoppedEarly(Exception):
    """The run cannot go on now; what is committed stays, and the same command continues."""


def fatal(error: RayTaskError) -> StoppedEarly | None:
    """The end of the run, if no other task could succeed either; else None."""
    cause = error.cause
    return StoppedEarly(str(cause)) if isinstance(cause, StoreError) and cause.fatal else None


def cause_text(error: RayTaskError) -> str:
    """What a task raised, in one line for a person."""
    cause = error.cause
    if isinstance(cause, UserError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}".partition("\n")[0][:500]


def first_line(error: RayError) -> str:
    """Ray's error in one line: the cause of an actor's death, where there is one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in lines if line.startswith("The actor is dead because")), lines[0])
    return cause.partition(" Some common causes")[0][:300]
