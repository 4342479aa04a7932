"""``docs/schema.md``, generated from the code: ``python -m jobs.schema_doc [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jobs.exits import ExitCode, run_program
from jobs.pipeline.output.schema_document import document

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "schema.md"


@dataclass(frozen=True)
class SchemaDocConfig:
    """Write the document that says what is in an output."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")] = DOCUMENT
    """Where to; default: docs/schema.md of this checkout."""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m jobs.schema_doc") -> int:
    """Runs the program; returns its exit code."""
    config = tyro.cli(SchemaDocConfig, prog=prog, args=argv)
    return run_program(lambda: write(config.file))


def write(file: Path) -> ExitCode:
    """Writes the document and says where it is."""
    file.write_text(document(), encoding="utf-8")
    print(file)
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
