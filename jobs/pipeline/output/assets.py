"""The assets that an output was labelled with: only they turn its rows into faces again."""

from __future__ import annotations

from jobs.pipeline.output.reading import LabelledRun
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UserError


def assets_of(run: LabelledRun) -> str:
    """The ``--assets`` that the label job was given; empty if it is not known."""
    return str((run.manifest or {}).get("config", {}).get("assets", ""))


def require_assets_of(run: LabelledRun, assets: str) -> None:
    """Refuse assets other than the run's: its coefficients are those of one face model.

    Raises:
        UserError: ``assets`` is empty, is no bundle, or is not the one of the run.
    """
    if not assets:
        raise UserError("--assets DIR is missing; give the bundle that the labels were made with")
    digest = run.about["assets"]["digest"]
    bundle = AssetBundle.load(assets)
    if bundle.digest != digest:
        raise UserError(
            f"--assets {assets} is {bundle.name} ({bundle.digest[:12]}…), but the labels were made "
            f"with {run.about['assets']['name']} ({digest[:12]}…)"
        )
