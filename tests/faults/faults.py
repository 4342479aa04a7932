"""Factories whose labelers do damage at a chosen point of a chunk's way, once.

They work inside the actor's process, on the store it publishes through; the programs themselves
know nothing of them. ``flag`` is a file: whoever creates it does the damage, so that it happens
once in a run, however many actors there are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.storage import local as store_local
from jobs.pipeline.storage.store import Store
from tests.support.fakes import FunctionLabeler, MeshFactory

#: Points of a chunk's commit, in their order.
COMMIT_STEPS = (
    "before the objects",
    "between two objects",
    "between objects and part file",
    "while the part file is published",
    "after the part file",
)


def first_to(flag: str) -> bool:
    """True for one caller only, whatever its process."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class StrikesAtCommit(MeshFactory):
    """At ``step`` of a commit, kills the driver (``pid``) and the actor itself, as a power cut
    would; with ``spare_actor`` the actor goes on for as long as Ray lets it."""

    step: str = ""
    flag: str = ""
    pid: int = 0
    spare_actor: bool = False

    def build(self, config: LabelConfig, threads: int) -> Any:
        publish_new, link = Store.publish_new, os.link
        objects = 0

        def publish(store: Store, rel: str, data: bytes) -> bool:
            nonlocal objects
            is_part = rel.startswith("annotations/")
            if not is_part:
                objects += 1
            self._strike_if("before the objects", not is_part)
            self._strike_if("between two objects", not is_part and objects > 2)
            self._strike_if("between objects and part file", is_part)
            done = publish_new(store, rel, data)
            self._strike_if("after the part file", is_part)
            return done

        def link_file(source: Any, target: Any) -> None:
            self._strike_if("while the part file is published", "/annotations/" in str(target))
            link(source, target)

        Store.publish_new = publish  # type: ignore[method-assign, assignment]
        store_local.os.link = link_file  # type: ignore[assignment]
        return super().build(config, threads)

    def _strike_if(self, step: str, here: bool) -> None:
        if here and step == self.step and first_to(self.flag):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            if not self.spare_actor:
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class StrikesWhileLabelling(MeshFactory):
    """The labeler does ``damage`` once, when it is called for the second time."""

    flag: str = ""
    damage: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def build(self, config: LabelConfig, threads: int) -> Any:
        labeler, calls = super().build(config, threads), 0

        def labeler_that_strikes(images: Sequence[np.ndarray]) -> list[list[Any]]:
            nonlocal calls
            calls += 1
            if calls > 1 and first_to(self.flag):
                self.damage()
            return labeler(images)

        return FunctionLabeler(labeler_that_strikes)


@dataclass(frozen=True)
class SlowMeshes(MeshFactory):
    """Takes ``seconds`` for every image, so that something can happen in the middle."""

    seconds: float = 0.05

    def build(self, config: LabelConfig, threads: int) -> Any:
        labeler = super().build(config, threads)

        def slow_labeler(images: Sequence[np.ndarray]) -> list[list[Any]]:
            time.sleep(self.seconds * len(images))
            return labeler(images)

        return FunctionLabeler(slow_labeler)
