"""Timing of calls: medians over repetitions, variants in turn so that their ratios are reliable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Call = Callable[[], object]

_MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class Timing:
    """Medians in seconds.

    Attributes:
        wall: by the clock; on CUDA between two events on the stream, synchronised.
        cpu: of all threads of this process. Other programs hardly change it, so compare this on a
            machine that is not idle.
        runs: number of repetitions.
    """

    wall: float
    cpu: float
    runs: int

    def per(self, count: int) -> Timing:
        """The time for one of ``count`` things that each call does."""
        return Timing(self.wall / count, self.cpu / count, self.runs)


def measure_in_turn(
    calls: Mapping[str, Call], *, seconds: float, least: int = 3, cuda: bool = False
) -> dict[str, Timing]:
    """Times several calls, one of each in every round, after a round that is not counted.

    If the machine becomes slower or busier, that affects all calls.

    Args:
        calls: by name.
        seconds: no round begins after this time, once there are ``least`` rounds.
        least: number of rounds.
        cuda: measure on the current CUDA stream.
    """
    for call in calls.values():
        call()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for round_ in range(_MOST_RUNS):
        if round_ >= least and time.perf_counter() > end:
            break
        for name, call in calls.items():
            taken[name].append(_once(call, cuda))
    return {
        name: Timing(median(wall for wall, _ in runs), median(cpu for _, cpu in runs), len(runs))
        for name, runs in taken.items()
    }


def _once(call: Call, cuda: bool) -> tuple[float, float]:
    cpu = time.process_time()
    if cuda:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000, time.process_time() - cpu
    wall = time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


class Clock:
    """Adds up the time of wrapped calls inside a longer one."""

    def __init__(self, *, cuda: bool = False) -> None:
        self._cuda = cuda
        self.wall = self.cpu = 0.0
        self.calls = 0

    def wrap(self, call: Callable) -> Callable:
        """The same callable, timed."""

        def timed(*args: object, **settings: object) -> object:
            result: list[object] = []
            wall, cpu = _once(lambda: result.append(call(*args, **settings)), self._cuda)
            self.wall += wall
            self.cpu += cpu
            self.calls += 1
            return result[0]

        return timed
