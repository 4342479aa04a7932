"""``jobs.label`` with a labeler that only waits, for tests on a cluster.

Every actor leaves a file in the folder of ``--assets`` that says where it was placed.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import label
from jobs.pipeline.record.config import LabelConfig
from tests.support.fakes import FakeFactory


@dataclass(frozen=True)
class PlacedFactory(FakeFactory):
    def build(self, config: LabelConfig, threads: int) -> Any:
        import ray

        context = ray.get_runtime_context()
        placed = {
            "node": context.get_node_id(),
            "gpus": context.get_accelerator_ids()["GPU"],
            "resources": context.get_assigned_resources(),
            "threads": threads,
        }
        Path(config.assets, f"{os.getpid()}.json").write_text(json.dumps(placed))
        return super().build(config, threads)


if __name__ == "__main__":
    # By its importable name: a class of __main__ would not be found by the actors.
    from tests.support import fake_label

    sys.exit(label.main(factory=fake_label.PlacedFactory()))
