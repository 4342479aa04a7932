"""Batches through the labeler; one bad image, or too small a GPU, does not cost the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from jobs.pipeline.label.loading import LoadedImage, Stopwatch

if TYPE_CHECKING:
    from tddfa3.face import Face
    from tddfa3.images.photo import Photo


class BatchLabeler:
    """Calls a labeler with a limited number of images, and returns faces or an error for each.

    When the device runs out of memory, ``size`` is halved for good and the images are tried again.
    When a batch raises anything else, its images are tried one by one, and only the one that raises
    is given up.

    Attributes:
        size: most images per call.
    """

    def __init__(self, labeler: Callable[[Sequence[Photo]], list[list[Face]]], size: int) -> None:
        self._labeler = labeler
        self.size = size

    def __call__(self, images: Sequence[Photo]) -> list[list[Face] | Exception]:
        """For each image its faces, or what the labeler raised for it alone."""
        outcomes: list[list[Face] | Exception] = []
        while len(outcomes) < len(images):
            batch = images[len(outcomes) : len(outcomes) + self.size]
            try:
                outcomes += self._call(batch)
            except Exception as error:
                if len(batch) == 1:
                    outcomes.append(error)
                elif is_out_of_memory(error):
                    self.size = max(1, len(batch) // 2)
                    _free_device_memory()
                else:
                    outcomes += [self._alone(image) for image in batch]
        return outcomes

    def _call(self, batch: Sequence[Photo]) -> list[list[Face]]:
        found = self._labeler(batch)
        if len(found) != len(batch):
            raise ValueError(f"the labeler gave {len(found)} results for {len(batch)} images")
        return list(found)

    def _alone(self, image: Photo) -> list[Face] | Exception:
        try:
            return self._call([image])[0]
        except Exception as error:
            return error


def is_out_of_memory(error: Exception) -> bool:
    """Whether CUDA ran out of memory, by name: some libraries raise a plain RuntimeError."""
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "out of memory" in str(error))


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def label_in_batches(
    images: Iterable[LoadedImage], labeler: BatchLabeler, size: int, watch: Stopwatch
) -> Iterator[tuple[LoadedImage, list[Face] | Exception | None]]:
    """Label images as they come, ``size`` at a time, in order.

    Args:
        images: some of them may have no pixels.
        labeler: labels those that have.
        size: images per batch, with or without pixels.
        watch: takes the seconds of "wait" (for images) and "label".

    Yields:
        Each image with its faces, with what the labeler raised for it, or with None where it has no
        pixels.
    """
    source = iter(images)
    while True:
        with watch.timed("wait"):
            batch = list(islice(source, size))
        if not batch:
            return
        with watch.timed("label"):
            outcomes = iter(labeler([one.image for one in batch if one.image is not None]))
        for one in batch:
            yield one, next(outcomes) if one.image is not None else None
