"""Writes the dataset card of an output again: ``python -m jobs.card OUTPUT``.

The label job writes it at its end.

Exit codes: 0 done; 2 bad usage, or no output there; 3 a part file is missing or cannot be read;
4 the storage failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.output.card import write_card


@dataclass(frozen=True)
class CardConfig:
    """Write the dataset card of an output."""

    output: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUTPUT")]
    """Folder with the labels, local or s3://."""
    s3_endpoint: Annotated[str, tyro.conf.arg(metavar="URL")] = ""
    """Endpoint of the S3 server, when it is not AWS."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.card") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(CardConfig, prog=prog, args=argv)
    return run_program(lambda: card(config), code_of=reading_code)


def card(config: CardConfig) -> ExitCode:
    """Writes the card and says where it is."""
    print(write_card(config.output, s3_endpoint=config.s3_endpoint or None))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
