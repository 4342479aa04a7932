"""All programs under one name: ``tddfa3 label …`` is ``python -m jobs.label …``, and so on.

Only the program that is asked for is imported. ``python -m jobs`` does the same if ``tddfa3`` is
not on the path.

Exit codes: those of the program; 2 if there is no such program.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tddfa3 import __version__
from tddfa3.errors import UserError

PROGRAMS = {
    "label": ("jobs.label", "label every face of a data set"),
    "status": ("jobs.status", "how far a run is"),
    "verify": ("jobs.verify", "prove that every image has its rows, and every file is there"),
    "query": ("jobs.query", "SQL over the labels"),
    "export": ("jobs.export", "meshes, landmarks, masks, WebDataset shards and other files"),
    "report": ("jobs.report", "one HTML page to look through"),
    "compact": ("jobs.compact", "few large Parquet files out of many small ones"),
    "card": ("jobs.card", "write the dataset card again"),
    "submit": ("jobs.submit", "the label job on a Ray cluster"),
    "doctor": ("jobs.doctor", "is this machine, cluster and storage fit for it"),
    "demo": ("jobs.demo", "label a photograph and rendered faces, and show what comes out"),
    "assets": ("tddfa3.assets.__main__", "fetch, convert, make and describe the networks"),
}
"""Program to module and a line of help, in the order in which they are listed."""


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Runs one program; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    prog = prog or started_as(sys.argv[0])
    if not words or words[0] in ("-h", "--help"):
        print(overview(prog))
        return 0
    if words[0] == "--version":
        print(f"tddfa3 {__version__}")
        return 0
    name, *rest = words
    if name not in PROGRAMS:
        from jobs.exits import run_program

        return run_program(lambda: refuse(name, prog))
    program = importlib.import_module(PROGRAMS[name][0])
    code: int = program.main(rest, prog=f"{prog} {name}")
    return code


def started_as(path: str) -> str:
    """The command that starts this program, from the path that the system reports."""
    return "python -m jobs" if Path(path).name == "__main__.py" else Path(path).name


def overview(prog: str) -> str:
    """The help text: all programs with a line each."""
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in PROGRAMS.items()]
    return "\n".join(
        [
            f"usage: {prog} PROGRAM ...",
            "",
            *lines,
            "",
            f"{prog} PROGRAM --help says more; {prog} --version names the version.",
        ]
    )


def refuse(name: str, prog: str) -> int:
    """Raises ``UserError``, which suggests the name that was probably meant."""
    close = difflib.get_close_matches(name, PROGRAMS, n=1)
    remedy = f"did you mean {prog} {close[0]}?" if close else f"{prog} --help lists them"
    raise UserError(f"{prog} has no program {name!r}; {remedy}")


if __name__ == "__main__":
    sys.exit(main())
