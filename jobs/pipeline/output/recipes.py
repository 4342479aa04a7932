"""Labels as training libraries want them: a torch Dataset, and typed Hugging Face ``datasets``.

:class:`FaceTensors` reads an output or a compaction anywhere, :func:`typed_faces` a local one; for
other storage use ``load_dataset`` itself, as ``docs/recipes.md`` shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from jobs.pipeline.output.reading import LabelledRun
from jobs.pipeline.record.parts import read_part
from jobs.pipeline.record.rows import decode_png
from jobs.pipeline.record.schema import STATUSES, list_lengths
from tddfa3.conventions import CROP_SIZE
from tddfa3.errors import UnavailableError, UserError

if TYPE_CHECKING:
    import datasets

MASKS = ("seg", "seg_visible")
"""Columns of label maps, as PNG."""
_MATRICES = {"camera_K": 3, "camera_R": 3}


class FaceTensors(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Labelled faces as tensors, for a ``DataLoader``.

    An item has one tensor per column: landmarks and ``points*`` (N, 2), ``camera_K`` and
    ``camera_R`` (3, 3), masks uint8 (224, 224), other lists (N,), numbers ().

    Args:
        folder: an output or a compaction, local or ``s3://``.
        columns: what is read; it is held in memory, masks as PNG.
        where: which rows, for example ``pc.field("yaw") < 20``; rows in which one of the columns is
            null are left out.

    Raises:
        UserError: there are no part files in ``folder``, one cannot be read, or a column does not
            exist or does not hold numbers.
    """

    def __init__(
        self, folder: str, columns: Sequence[str], where: pc.Expression | None = None
    ) -> None:
        chosen = pc.field("face_index").is_valid()
        for name in columns:
            chosen = chosen & pc.field(name).is_valid()
        if where is not None:
            chosen = chosen & where
        run = _committed(folder)
        for name in columns:
            _check_numbers(run.schema, name)
        table = pa.concat_tables(
            read_part(run.store, part.rel, columns, chosen).replace_schema_metadata(None)
            for part in run.parts
        )
        lengths = list_lengths(run.schema)
        self._rows = table.num_rows
        self._columns = {name: _in_memory(table[name], name, lengths.get(name)) for name in columns}

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: _tensor(values[index]) for name, values in self._columns.items()}


def _committed(folder: str) -> LabelledRun:
    run = LabelledRun(folder)
    if not run.parts:
        raise UserError(f"{folder}: nothing is committed yet")
    return run


def shape_of(name: str, size: int) -> tuple[int, ...]:
    """The shape that the ``size`` numbers of a list column stand for."""
    if name in _MATRICES:
        return _MATRICES[name], size // _MATRICES[name]
    points = name.startswith(("points", "ldm")) and not name.endswith("_visible")
    return (size // 2, 2) if points else (size,)


def typed_features(schema: pa.Schema) -> datasets.Features:
    """Features of the columns for ``load_dataset(..., features=...)``.

    Masks are images, the status is a class label, lists have their lengths.

    Args:
        schema: of a part file, with its metadata.

    Raises:
        UnavailableError: the library ``datasets`` is not installed.
    """
    library = _datasets()
    # Left to itself, the library accepts a feature only for a column of exactly its Arrow type, and
    # lists in the file have no fixed length.
    kept = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    features = library.Features.from_dict(kept)
    for name in MASKS:
        features[name] = library.Image()
    features["status"] = library.ClassLabel(names=list(STATUSES))
    return features


def typed_faces(folder: str) -> datasets.Dataset:
    """All labelled faces, typed.

    Masks are ``Image``, points and matrices ``Array2D``, other lists ``Sequence``, the status is a
    ``ClassLabel``; the additional column ``visible_parts`` lists the parts that are visible, as
    ``ClassLabel``. Columns that were not labelled are left out.

    Args:
        folder: a local output or compaction.

    Raises:
        UserError: there are no part files in ``folder``, or some of version 0.1.
        UnavailableError: the library ``datasets`` is not installed.
    """
    library = _datasets()
    run = _committed(folder)
    if any(about["format"] == 1 for about in run.footers()):
        raise UserError(
            f"{folder}: has part files of tddfa3 0.1, whose lists the library datasets may not "
            f"read; python -m jobs.compact {folder} DEST writes them anew"
        )
    files = [run.store.uri(part.rel) for part in run.parts]
    schema, lengths = run.schema, list_lengths(run.schema)
    dataset = library.load_dataset(
        "parquet", data_files=files, split="train", features=typed_features(schema)
    )
    dataset = dataset.filter(lambda rank: rank is not None, input_columns="face_index")
    dataset = dataset.remove_columns(_null_columns(dataset))
    features, shaped = dataset.features.copy(), {}
    for field in schema:
        if field.name in features and field.name in lengths:
            shape = shape_of(field.name, lengths[field.name])
            if len(shape) == 2:
                shaped[field.name] = shape
                features[field.name] = library.Array2D(shape, "float32")
    if "seg_visible" in features:
        parts = library.ClassLabel(names=list(run.part_names))
        features["visible_parts"] = library.Sequence(parts)

    def convert(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        made: dict[str, list[Any]] = {
            name: [np.reshape(value, shape).tolist() for value in batch[name]]
            for name, shape in shaped.items()
        }
        if "seg_visible" in features:
            labels = [np.unique(np.asarray(image)) for image in batch["seg_visible"]]
            made["visible_parts"] = [(found[found > 0] - 1).tolist() for found in labels]
        return made

    return dataset.map(convert, batched=True, features=features)


def _null_columns(dataset: datasets.Dataset) -> list[str]:
    table = dataset.data.table
    return [name for name in table.column_names if table[name].null_count == table.num_rows]


def _check_numbers(schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        raise UserError(f"no column {name}; there are {', '.join(schema.names)}")
    kind = schema.field(name).type
    if pa.types.is_string(kind):
        raise UserError(f"column {name} is text; tensors hold numbers")


def _in_memory(column: pa.ChunkedArray, name: str, length: int | None) -> Any:
    if name in MASKS:
        return column.combine_chunks()
    if length is not None:
        shape = shape_of(name, length)
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, *shape)  # (rows, *shape)
    return column.to_numpy()


def _tensor(value: Any) -> Tensor:
    if isinstance(value, pa.BinaryScalar):
        labels = decode_png(value.as_py())
        if labels.shape != (CROP_SIZE, CROP_SIZE):
            raise ValueError(f"a mask of {labels.shape}, not {CROP_SIZE} x {CROP_SIZE}")
        return torch.from_numpy(labels)
    return torch.from_numpy(np.array(value))


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise UnavailableError(
            "this needs the library datasets, which is not installed: pip install datasets"
        ) from None
    return datasets
