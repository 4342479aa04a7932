"""How programs end: the exit codes, and how an error that ends a program is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum

from jobs.pipeline.storage.errors import StoreError
from tddfa3.errors import UserError


class ExitCode(IntEnum):
    """Exit codes of all programs; each says in its docstring which of them it can end with.

    Attributes:
        DONE: everything was done.
        CONTRADICTED: ``jobs.verify`` only: something in the output is wrong.
        UNUSABLE: bad usage or input; nothing was written.
        INCOMPLETE: done, but something that was named is missing or could not be read.
        STOPPED: stopped early, or the storage failed; the same command continues.
        DETACHED: ``jobs.submit`` only, after Ctrl-C: the run continues without it.
    """

    DONE = 0
    CONTRADICTED = 1
    UNUSABLE = 2
    INCOMPLETE = 3
    STOPPED = 4
    DETACHED = 130


def run_program(
    program: Callable[[], int],
    *,
    code_of: Callable[[UserError], ExitCode] | None = None,
    name: str = "error",
    on_interrupt: str = "",
    is_piped: bool = False,
) -> int:
    """Runs a program's work and returns its exit code, also if the work ends in an error.

    Args:
        program: the work, which returns an exit code.
        code_of: the code for an error that the user can put right; default:
            :data:`ExitCode.UNUSABLE`.
        name: what the line of such an error begins with.
        on_interrupt: printed on stderr after Ctrl-C, whose code is :data:`ExitCode.STOPPED`.
        is_piped: the output is meant for other programs, so it is no error if they stop reading
            before its end.
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
    """``code_of`` of the programs that read an output.

    Missing or damaged files in the output, and storage that fails, are not mistakes in the command.
    """
    # Imported here, because programs that read no part files do not need pyarrow.
    from jobs.pipeline.record.parts import UnreadableError

    if isinstance(error, UnreadableError):
        return ExitCode.INCOMPLETE
    if isinstance(error, StoreError):
        if error.kind == "not_found":
            return ExitCode.INCOMPLETE
        return ExitCode.STOPPED if error.fatal else ExitCode.UNUSABLE
    return ExitCode.UNUSABLE
