"""How a chunk's deaths lead to the image that causes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.pipeline.drive.work import Work
from jobs.pipeline.record.chunks import Chunk
from jobs.pipeline.record.orders import ChunkOrder
from jobs.pipeline.shards import Shard

SHARD = Shard("s", "/s.tar", "tar", 1, "e")


def new_work(images: int = 5) -> Work:
    return Work(ChunkOrder(SHARD, Chunk("s", 0, 0, images, 0, 1)))


def drive(work: Work, dies: Callable[[ChunkOrder, int | None], bool]) -> tuple[ChunkOrder, int]:
    """Runs a chunk to its commit with actors that die as told; its last order, and the deaths."""
    deaths = 0
    for _ in range(1000):
        order, position = work.current_order(), work.probing
        if dies(order, position):
            deaths += 1
            work.died()
        elif position is None:
            return order, deaths
        else:
            work.survived_probe()
    raise AssertionError("never committed")


def kills(*positions: int) -> Callable[[ChunkOrder, int | None], bool]:
    def dies(order: ChunkOrder, position: int | None) -> bool:
        touched = set(range(order.chunk.count)) - order.crashed if position is None else {position}
        return bool(touched & set(positions))

    return dies


def test_a_chunk_that_kills_nobody_is_sent_once_as_it_is() -> None:
    order, deaths = drive(new_work(), kills())
    assert (order.crashed, order.careful, deaths) == (frozenset(), False, 0)


@pytest.mark.parametrize("culprits", [(0,), (4,), (1, 2), (0, 4), (0, 1, 2, 3, 4)])
def test_exactly_the_images_that_kill_are_left_out(culprits: tuple[int, ...]) -> None:
    order, deaths = drive(new_work(), kills(*culprits))
    assert order.crashed == set(culprits)
    assert order.careful
    assert deaths == 2 + len(culprits)


def test_after_one_death_the_chunk_has_an_actor_for_itself() -> None:
    work = new_work()
    assert not work.exclusive
    work.died()
    assert work.exclusive
    assert work.probing is None


def test_one_death_by_bad_luck_costs_no_image() -> None:
    luck = iter([True, False])
    order, _ = drive(new_work(), lambda order, position: next(luck))
    assert order.crashed == frozenset()


def test_images_that_kill_only_together_are_given_up_in_the_end() -> None:
    def dies(order: ChunkOrder, position: int | None) -> bool:
        return position is None and len(order.crashed) < order.chunk.count

    order, deaths = drive(new_work(), dies)
    assert order.crashed == set(range(5))
    assert deaths == 4
