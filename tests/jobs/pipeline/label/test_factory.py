"""The real labeler behind the job's door: what the options turn into."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image

from jobs.pipeline.label.factory import FaceLabelerFactory
from jobs.pipeline.record.config import LabelConfig
from jobs.pipeline.record.rows import ImageRecord, image_rows, to_table
from jobs.pipeline.record.schema import LabelSchema
from tddfa3.assets.bundle import AssetBundle
from tddfa3.errors import UnavailableError, UserError
from tddfa3.face import Face


def config(bundle: AssetBundle, **options: Any) -> LabelConfig:
    given = {"detector": "mtcnn", "backbone": "mbnetv3", "device": "cpu", **options}
    return LabelConfig(assets=str(bundle.path), **given)


def astronaut(factory: FaceLabelerFactory, options: LabelConfig) -> Face:
    [[face]] = factory.build(options, threads=1)([np.ascontiguousarray(skimage.data.astronaut())])
    return face


def test_facts_come_from_the_bundle(small_bundle: AssetBundle) -> None:
    facts = FaceLabelerFactory().facts(config(small_bundle))
    assert facts.digest == small_bundle.digest
    assert facts.part_names == small_bundle.face_model().part_names
    assert facts.coefficients["id"] == small_bundle.sizes.id


def test_a_real_face_fits_the_schema(small_bundle: AssetBundle, tmp_path: Path) -> None:
    factory = FaceLabelerFactory()
    options = config(small_bundle, masks=("seg", "seg_visible", "rle"), points106=True)
    face = astronaut(factory, options)
    rows = image_rows(ImageRecord("s", "k", 512, 512, "0"), [face])
    table = to_table(rows, LabelSchema(factory.facts(options), "f", {}), {})
    pq.write_table(table, tmp_path / "a.parquet")
    [row] = pq.read_table(tmp_path / "a.parquet").to_pylist()
    np.testing.assert_array_equal(np.reshape(row["ldm134"], (134, 2)), face.landmarks["134"])
    np.testing.assert_allclose(np.reshape(row["camera_K"], (3, 3)), face.camera.K, rtol=1e-6)
    assert set(json.loads(row["masks_rle"])) == set(small_bundle.face_model().part_names)
    assert row["points106"] is None  # MTCNN has none


@pytest.mark.slow
def test_only_a_detector_that_needs_fewer_pixels_is_given_fewer(
    full_bundle: AssetBundle,
) -> None:
    factory = FaceLabelerFactory()
    with pytest.raises(UserError, match=r"--decode reduced: the detector mtcnn looks at every"):
        factory.facts(config(full_bundle, decode="reduced"))
    retinaface = config(full_bundle, decode="reduced", detector="retinaface")
    assert factory.facts(retinaface).chosen["detector"] == "retinaface"
    assert factory.build(retinaface, threads=1).needed_side == 512
    assert factory.build(config(full_bundle), threads=1).needed_side is None


def test_only_what_is_asked_for_is_computed(small_bundle: AssetBundle) -> None:
    face = astronaut(FaceLabelerFactory(), config(small_bundle, landmarks=("68",), masks=()))
    assert list(face.landmarks) == ["68"]
    assert face.seg is face.seg_visible is face.masks_rle is None
    assert face.meshes == face.textures == face.renders == {}


def test_the_frame_of_meshes(small_bundle: AssetBundle) -> None:
    crop = astronaut(FaceLabelerFactory(), config(small_bundle, meshes="pca"))
    image = astronaut(FaceLabelerFactory(), config(small_bundle, meshes="pca", mesh_frame="image"))
    assert abs(crop.meshes["pca"].vertices[:, 2]).max() < 2
    assert image.meshes["pca"].vertices[:, 2].min() > 5


def test_it_says_what_it_computed_with(small_bundle: AssetBundle) -> None:
    labeler = FaceLabelerFactory().build(config(small_bundle, detector="none"), threads=1)
    assert labeler.computed_with["device"] == "cpu"
    assert labeler.computed_with["rasterizer"] == "cpu"


def test_what_the_bundle_lacks_is_refused(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match=r"backbone: .* no 'resnet50' \(they have: mbnetv3\)"):
        FaceLabelerFactory().facts(config(small_bundle, backbone="resnet50"))
    with pytest.raises(UserError, match=r"detector: .* no 'retinaface' \(they have: mtcnn, none\)"):
        FaceLabelerFactory().facts(config(small_bundle, detector="retinaface"))
    with pytest.raises(UserError, match="no asset bundle"):
        FaceLabelerFactory().facts(LabelConfig(assets="nowhere"))


def test_what_is_left_to_the_assets_is_chosen_by_them(small_bundle: AssetBundle) -> None:
    left = LabelConfig(assets=str(small_bundle.path))
    chosen = FaceLabelerFactory().facts(left).chosen
    assert chosen == {"detector": "mtcnn", "backbone": "mbnetv3", "lighting": "network",
                      "refine": "none"}  # fmt: skip
    given = config(small_bundle, detector="none", lighting="solve")
    assert FaceLabelerFactory().facts(given).chosen == {
        **chosen,
        "detector": "none",
        "lighting": "solve",
    }


def test_points_to_refine_by_need_a_detector(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="refine"):
        FaceLabelerFactory().facts(config(small_bundle, detector="none", refine="points"))


def test_refining_brings_the_landmarks_to_the_points(small_bundle: AssetBundle) -> None:
    plain = astronaut(FaceLabelerFactory(), config(small_bundle))
    refined = astronaut(FaceLabelerFactory(), config(small_bundle, refine="points"))
    assert plain.quality_points is not None
    assert refined.quality_points is not None
    assert refined.quality_points < 0.8 * plain.quality_points


def test_a_rasterizer_that_is_not_installed_is_refused(small_bundle: AssetBundle) -> None:
    if importlib.util.find_spec("nvdiffrast") is not None:
        pytest.skip("nvdiffrast is installed")
    with pytest.raises(UnavailableError, match="nvdiffrast"):
        FaceLabelerFactory().facts(config(small_bundle, rasterizer="nvdiffrast"))


def test_a_precision_that_the_device_lacks_is_refused(small_bundle: AssetBundle) -> None:
    with pytest.raises(UserError, match="precision"):
        FaceLabelerFactory().facts(config(small_bundle, precision="bf16"))
    with pytest.raises(UserError, match="compilation are for CUDA"):
        FaceLabelerFactory().facts(config(small_bundle, compiled=True))


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_engines_agree(small_bundle: AssetBundle, engine: str) -> None:
    labeler = FaceLabelerFactory().build(
        config(small_bundle, detector="none", engine=engine), threads=1
    )
    assert labeler.computed_with["engine"] == engine
    crop = np.ascontiguousarray(skimage.data.astronaut()[20:244, 110:334])
    [[face]] = labeler([crop])
    [[auto]] = FaceLabelerFactory().build(config(small_bundle, detector="none"), threads=1)([crop])
    np.testing.assert_allclose(face.landmarks["68"], auto.landmarks["68"], rtol=0, atol=0.01)


def test_images_of_any_size_go_through(small_bundle: AssetBundle) -> None:
    photo = Image.fromarray(skimage.data.astronaut())
    sizes = [(512, 512), (1, 1), (97, 311), (1300, 700)]
    labeler = FaceLabelerFactory().build(config(small_bundle), threads=2)
    found = labeler([np.asarray(photo.resize(size)) for size in sizes])
    assert [len(faces) for faces in found][:2] == [1, 0]
