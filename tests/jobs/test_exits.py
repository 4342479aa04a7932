"""How programs end: one table of exit codes, and what becomes of an error."""

from __future__ import annotations

import pytest

from jobs.exits import ExitCode, reading_code, run_program
from jobs.pipeline.record.parts import UnreadableError
from jobs.pipeline.storage.store import StoreError
from tddfa3.errors import UserError


def raising(error: BaseException) -> int:
    """The exit code of a program whose work raises ``error``."""

    def work() -> int:
        raise error

    return run_program(work, code_of=reading_code, on_interrupt="stopped", is_piped=True)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("no such folder"), 2, "error: no such folder\n"),
        (StoreError("refused", "gs://x", "not opened"), 2, "error: "),
        (StoreError("failed", "s3://x", "odd"), 2, "error: "),
        (StoreError("not_found", "s3://x", "gone"), 3, "error: "),
        (StoreError("unavailable", "s3://x", "no route"), 4, "error: "),
        (StoreError("denied", "s3://x", "no key"), 4, "error: "),
        (UnreadableError("s3://x", "cut short"), 3, "error: "),
        (KeyboardInterrupt(), 4, "stopped\n"),
    ],
)
def test_errors(
    error: BaseException, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(error) == code
    shown = capsys.readouterr().err
    assert shown.startswith(says)
    assert shown.count("\n") == 1


def test_without_a_rule_every_mistake_is_one_of_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> int:
        raise StoreError("unavailable", "s3://x", "no route")

    assert run_program(work, name="submit") == ExitCode.UNUSABLE
    assert capsys.readouterr().err.startswith("submit: ")


def test_a_pipe_that_is_closed_is_an_error_only_where_nobody_reads() -> None:
    def work() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_program(work)


def test_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        raising(ZeroDivisionError())


def test_the_code_of_the_work_is_passed_on() -> None:
    assert run_program(lambda: ExitCode.CONTRADICTED) == 1
