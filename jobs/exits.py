"""How programs end: the exit codes, and what becomes of an error that ends a program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum

from jobs.pipeline.storage.errors import StoreError
from tddfa3.errors import UserError


class ExitCode(IntEnum):
    """Of all programs; each says in its docstring which of them it can end with."""

    DONE = 0
    CONTRADICTED = 1
    """``jobs.verify`` only: something in the output is not as it should be."""
    UNUSABLE = 2
    """Bad usage or input; nothing was written."""
    INCOMPLETE = 3
    """Done, but something that was named is missing or could not be read."""
    STOPPED = 4
    """Stopped early, or the storage failed; the same command continues."""
    DETACHED = 130
    """``jobs.submit`` only, after Ctrl-C: the run goes on without it."""


def run_program(
    program: Callable[[], int],
    *,
    code_of: Callable[[UserError], ExitCode] | None = None,
    name: str = "error",
    on_interrupt: str = "",
    is_piped: bool = False,
) -> int:
    """Runs a program's work; its exit code, also where the work ends in an error.

    Args:
        program: the work, which returns an exit code.
        code_of: the code for an error that the user can put right; default:
            :data:`ExitCode.UNUSABLE`.
        name: what the line of such an error begins with.
        on_interrupt: said on stderr after Ctrl-C, which is :data:`ExitCode.STOPPED`.
        is_piped: the output is made for other programs, which may have read enough of it before
            its end; that is no error.
    """
    try:
        return program()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return code_of(error) if code_of is not None else ExitCode.UNUSABLE
    except KeyboardInterrupt:
        if on_interrupt:
            print(on_interrupt, file=sys.stderr)
        return ExitCode.STOPPED
    except BrokenPipeError:
        if not is_piped:
            raise
        # Nothing more may be written, not even by the interpreter when it exits.
        sys.stderr.close()
        return ExitCode.DONE


def reading_code(error: UserError) -> ExitCode:
    """The ``code_of`` of programs that read an output.

    What is missing or damaged there, and storage that fails, are not the command's mistakes.
    """
    # Here, not above: what has no part files to read has no use for pyarrow.
    from jobs.pipeline.record.parts import UnreadableError

    if isinstance(error, UnreadableError):
        return ExitCode.INCOMPLETE
    if isinstance(error, StoreError):
        if error.kind == "not_found":
            return ExitCode.INCOMPLETE
        return ExitCode.STOPPED if error.fatal else ExitCode.UNUSABLE
    return ExitCode.UNUSABLE
