"""One bad image, or too small a GPU, does not cost the other images of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from jobs.pipeline.label.batching import BatchLabeler, is_out_of_memory, label_in_batches
from jobs.pipeline.label.decode import DecodeFailure
from jobs.pipeline.label.loading import LoadedImage, Stopwatch
from jobs.pipeline.record.rows import ImageRecord


class Recorder:
    """Gives each image its own value as its only face; fails as told."""

    def __init__(self, most: int = 100, bad: tuple[int, ...] = ()) -> None:
        self.most, self.bad = most, bad
        self.sizes: list[int] = []

    def __call__(self, images: Sequence[Any]) -> list[list[Any]]:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        values = [int(image[0, 0, 0]) for image in images]
        for value in values:
            if value in self.bad:
                raise ValueError(f"image {value} is bad")
        return [[value] for value in values]


def images(count: int) -> list[np.ndarray]:
    return [np.full((1, 1, 3), i, np.uint8) for i in range(count)]


def test_batches_keep_their_order() -> None:
    recorder = Recorder()
    assert BatchLabeler(recorder, 4)(images(10)) == [[i] for i in range(10)]
    assert recorder.sizes == [4, 4, 2]


def test_no_images_no_call() -> None:
    recorder = Recorder()
    assert BatchLabeler(recorder, 4)([]) == []
    assert recorder.sizes == []


def test_only_the_image_that_raises_is_given_up() -> None:
    outcomes = BatchLabeler(Recorder(bad=(2, 7)), 4)(images(8))
    assert [o for o in outcomes if isinstance(o, list)] == [[0], [1], [3], [4], [5], [6]]
    assert str(outcomes[2]) == "image 2 is bad"
    assert str(outcomes[7]) == "image 7 is bad"


def test_out_of_memory_halves_the_batch_for_good() -> None:
    recorder = Recorder(most=3)
    labeler = BatchLabeler(recorder, 8)
    assert labeler(images(8)) == [[i] for i in range(8)]
    assert recorder.sizes == [8, 4, 2, 2, 2, 2]
    assert labeler.size == 2
    labeler(images(4))
    assert recorder.sizes[6:] == [2, 2]


def test_an_image_too_large_for_the_device_by_itself_is_given_up() -> None:
    outcomes = BatchLabeler(Recorder(most=0), 2)(images(2))
    assert all(isinstance(o, RuntimeError) for o in outcomes)


def test_a_labeler_that_loses_an_image_is_an_error_not_a_shift() -> None:
    face: Any = 0
    outcomes = BatchLabeler(lambda batch: [[face]] * (len(batch) - 1), 4)(images(3))
    assert all(isinstance(o, ValueError) for o in outcomes)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("x"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_images_without_pixels_keep_their_place() -> None:
    failure = DecodeFailure("decode_error", "x")
    loaded = [
        LoadedImage(ImageRecord("s", str(i)), None if i in (1, 4) else image, failure)
        for i, image in enumerate(images(6))
    ]
    labelled = label_in_batches(loaded, BatchLabeler(Recorder(), 8), 4, Stopwatch())
    assert [(one.record.key, outcome) for one, outcome in labelled] == [
        ("0", [0]), ("1", None), ("2", [2]), ("3", [3]), ("4", None), ("5", [5]),
    ]  # fmt: skip
