"""A part file that is there and cannot be read: every program says so in one line that names it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import card, compact, export, query, report, status, verify
from jobs.pipeline.output.recipes import FaceTensors
from jobs.pipeline.record.parts import UnreadableError
from tddfa3.errors import UserError
from tests.support.fakes import write_images
from tests.support.labelled import label

PART = "annotations/a/000001.parquet"
VERSION = re.escape(pa.__version__)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def wiped(data: bytes) -> bytes:
    """The footer is whole: only who reads the rows sees that they are not."""
    footer = int.from_bytes(data[-8:-4], "little") + 8
    return data[:4] + bytes(len(data) - footer - 4) + data[-footer:]


def foreign(data: bytes) -> bytes:
    return b"<html>404</html>" * 400


@pytest.fixture(params=[cut, wiped, foreign])
def broken(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_images(tmp_path / "in" / "a", 10)
    write_images(tmp_path / "in" / "b", 3)
    out = label(tmp_path)
    path = out / PART
    path.write_bytes(request.param(path.read_bytes()))
    return out


def test_a_proof_says_so_and_calls_nothing_an_orphan(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([str(broken)]) == 1
    said = capsys.readouterr().out
    line = rf"^unreadable: {re.escape(str(broken))}/{PART}: cannot read with pyarrow {VERSION}: ."
    assert re.search(line, said, re.MULTILINE)
    assert "orphan" not in said
    assert "problem" not in said
    assert said.endswith("not proved: there are part files that cannot be read\n")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (compact.main, ["{dest}"]),
        (query.main, ["SELECT sum(yaw) FROM faces"]),
        (export.main, ["{dest}", "--landmarks", "pts"]),
        (report.main, ["--out", "{dest}"]),
        (card.main, []),
    ],
)
def test_programs_end_with_one_line(
    broken: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    program: Callable[[list[str]], int],
    arguments: list[str],
) -> None:
    given = [text.format(dest=tmp_path / "dest") for text in arguments]
    assert program([str(broken), *given]) in (2, 3)
    said = capsys.readouterr()
    assert PART in said.err
    assert "Traceback" not in said.err + said.out


def test_a_status_names_it_where_its_footer_is_damaged(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status reads footers only; rows are the proof's affair."""
    damaged = (broken / PART).read_bytes()[-4:] != b"PAR1"
    assert status.main([str(broken)]) == (3 if damaged else 0)
    assert (f"{PART}: cannot read with pyarrow" in capsys.readouterr().out) == damaged


def test_the_way_out_is_to_delete_it(broken: Path) -> None:
    label(broken.parent)
    assert verify.main([str(broken)]) == 1, "what is committed is left alone"
    (broken / PART).unlink()
    label(broken.parent)
    assert verify.main([str(broken)]) == 0


@pytest.mark.parametrize("broken", [cut], indirect=True)
def test_retry_failed_takes_its_images_for_failed(broken: Path) -> None:
    label(broken.parent, retry_failed=True)
    assert verify.main([str(broken)]) == 0


def test_the_error_passes_between_processes() -> None:
    error = UnreadableError.of("s3://b/x.parquet", ValueError("bad\nmore"))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == f"s3://b/x.parquet: cannot read with pyarrow {pa.__version__}: bad"


def test_training_code_gets_an_error_that_names_it(broken: Path) -> None:
    with pytest.raises(UserError, match=f"{PART}: cannot read with pyarrow {VERSION}"):
        FaceTensors(str(broken), ["yaw", "ldm68"])
