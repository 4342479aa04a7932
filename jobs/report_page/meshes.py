"""Chosen faces as GLB, made again from their rows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from jobs.pipeline.output.assets import assets_of, require_assets_of
from jobs.pipeline.output.reading import LabelledRun
from jobs.report_page.gallery import Name
from tddfa3.errors import UserError

_THREADS = 2


def parse_face(text: str) -> Name:
    """The name of a face from ``IMAGE_ID:FACE``; the image's id may contain colons itself.

    Raises:
        UserError: the text is not like that.
    """
    image, colon, face = text.rpartition(":")
    if not colon or not image or not (face.isascii() and face.isdigit()):
        raise UserError(f"--open-face {text}: write IMAGE_ID:FACE, for example photos/a.jpg:0")
    return image, int(face)


def glbs(run: LabelledRun, assets: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The faces of some rows, with the model's texture, each as base64 of a GLB file.

    Args:
        run: the output that the rows are from.
        assets: the bundle; empty: the one that the label job used.
        rows: whole rows of faces.

    Raises:
        UserError: the assets are not there, or not those the labels were made with.
    """
    if not rows:
        return []
    assets = assets or assets_of(run)
    require_assets_of(run, assets)
    # Here, not above: a report without a mesh needs no torch.
    from tddfa3.assets.bundle import AssetBundle
    from tddfa3.drawing.mesh import encode_mesh
    from tddfa3.from_row import FaceNumbers, FaceRebuilder
    from tddfa3.outputs import Outputs

    outputs = Outputs(landmarks=(), masks=(), meshes=("pca",))
    rebuild = FaceRebuilder(AssetBundle.load(assets), outputs, device="cpu", threads=_THREADS)
    faces = rebuild([FaceNumbers.from_row(row) for row in rows])
    return [
        {
            "id": row["image_id"],
            "face": row["face_index"],
            "vertices": len(face.meshes["pca"].vertices),
            "triangles": len(face.meshes["pca"].triangles),
            "glb": base64.b64encode(encode_mesh(face.meshes["pca"], "glb")).decode(),
        }
        for row, face in zip(rows, faces, strict=True)
    ]
