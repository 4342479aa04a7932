"""``docs/schema.md`` is what the code says, and files of earlier versions stay readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import schema_doc
from jobs.pipeline.output.database import Database
from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.facts import AssetFacts
from jobs.pipeline.record.layout import ANNOTATIONS
from jobs.pipeline.record.parts import decode_part
from jobs.pipeline.record.schema import STATUSES, columns, list_lengths, read_metadata
from tddfa3.from_row import FaceNumbers
from tddfa3.geometry.crop import CropTransform

DATA = Path(__file__).resolve().parent.parent / "data"
FORMAT_1 = DATA / "part-format-1.parquet"


def test_the_document_is_up_to_date(tmp_path: Path) -> None:
    assert schema_doc.main([str(tmp_path / "schema.md")]) == 0
    fresh = (tmp_path / "schema.md").read_text(encoding="utf-8")
    assert schema_doc.DOCUMENT.read_text(encoding="utf-8") == fresh, "run python -m jobs.schema_doc"


def test_the_document_has_every_column_and_status() -> None:
    text = schema_doc.document()
    for column in columns(AssetFacts("", "")):
        assert f"| `{column.name}` | " in text
    for status in STATUSES:
        assert f"| `{status}` | " in text


def test_a_file_of_format_1_is_readable() -> None:
    """Written by version 0.1.0: one photograph with a face, one damaged file."""
    assert FORMAT_1.stat().st_size < 100_000
    table = decode_part(FORMAT_1.read_bytes())
    about = read_metadata(table.schema)
    assert about["format"] == 1
    assert about["counts"]["status"] == {"decode_error": 1, "ok": 1}
    assert about["parts"][4] == "nose"
    rows = {row["status"]: row for row in table.to_pylist()}
    assert rows["decode_error"]["error"]
    face = rows["ok"]
    assert face["image_id"] == "photos/astronaut.png"
    assert (face["image_width"], face["image_height"]) == (512, 512)
    # What the numbers were when the file was written.
    np.testing.assert_allclose(face["ldm68"][:2], FIRST_POINT, atol=1e-3)
    np.testing.assert_allclose(face["yaw"], YAW, atol=1e-5)
    crop = CropTransform.from_params(face["crop_params"])
    assert crop == FaceNumbers.from_row(face).crop
    nose = np.reshape(face["ldm68"], (68, 2))[30]
    x0, y0, x1, y1 = face["box"]
    assert x0 < nose[0] < x1
    assert y0 < nose[1] < y1


def test_columns_only_grow() -> None:
    """Every column of the file is there today, under its name, with its type and length."""
    now = {c.name: (c.type, c.length) for c in columns(AssetFacts("", ""))}
    schema = decode_part(FORMAT_1.read_bytes()).schema
    lengths = list_lengths(schema)
    assert lengths["ldm68"] == 136
    for field in schema:
        assert now[field.name] == (field.type, lengths.get(field.name)), field.name


def test_the_programs_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "out" / ANNOTATIONS / "photos"
    folder.mkdir(parents=True)
    (folder / "000000.parquet").write_bytes(FORMAT_1.read_bytes())
    with Database(LabelledRun(str(tmp_path / "out"))) as database:
        [row] = database.table(
            "SELECT yaw, part_area(seg_visible, 'skin') AS skin FROM faces"
        ).to_pylist()
    assert row["yaw"] == pytest.approx(YAW, abs=1e-5)
    assert row["skin"] > 1000


FIRST_POINT = (177.38451, 99.98853)
YAW = 0.7035966
