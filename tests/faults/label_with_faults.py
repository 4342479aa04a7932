"""``jobs.label`` as a program of its own, with a factory out of ``faults``.

``python -m tests.faults.label_with_faults FACTORY ARGUMENTS-AS-JSON INPUT... OUTPUT --options``;
with ``STRIKE_DRIVER`` in the environment, the driver kills itself at that point.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from jobs.label import main
from jobs.pipeline.drive.reporting import Reporter
from jobs.pipeline.drive.work import ChunkDone, Event, ShardPlanned
from jobs.pipeline.record.layout import MANIFEST
from jobs.pipeline.storage.store import Store
from tests.faults import faults

DRIVER_STEPS = (
    "before the manifest",
    "after the manifest",
    "after the index",
    "when told of a commit",
)


def strike_driver(step: str) -> None:
    def die(here: bool) -> None:
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    publish_new, report = Store.publish_new, Reporter.report

    def publish(store: Store, rel: str, data: bytes) -> bool:
        die(rel == MANIFEST and step == "before the manifest")
        done = publish_new(store, rel, data)
        die(rel == MANIFEST and step == "after the manifest")
        return done

    def told(reporter: Reporter, event: Event) -> None:
        die(isinstance(event, ShardPlanned) and step == "after the index")
        die(isinstance(event, ChunkDone) and step == "when told of a commit")
        report(reporter, event)

    Store.publish_new = publish  # type: ignore[method-assign, assignment]
    Reporter.report = told  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    name, arguments, *line = sys.argv[1:]
    values: dict[str, Any] = json.loads(arguments)
    if name == "StrikesAtCommit":
        values["pid"] = os.getpid()
    if "STRIKE_DRIVER" in os.environ:
        strike_driver(os.environ["STRIKE_DRIVER"])
    sys.exit(main(line, factory=getattr(faults, name)(**values)))
