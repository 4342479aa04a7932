"""MTCNN's weights keep their values on the way from Keras' layout to torch's."""

from __future__ import annotations

import sys

import joblib
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tddfa3.assets import convert, mtcnn_weights
from tddfa3.errors import AssetError


def test_names_and_shapes_are_those_of_the_three_networks() -> None:
    tensors = convert.read_mtcnn()
    assert tensors["pnet.convs.0.weight"].shape == (10, 3, 3, 3)
    assert tensors["pnet.heads.0.weight"].shape == (4, 32, 1, 1)
    assert tensors["rnet.prelus.2.weight"].shape == (64,)
    assert tensors["rnet.fc.weight"].shape == (128, 576)
    assert tensors["onet.convs.3.weight"].shape == (128, 64, 2, 2)
    assert tensors["onet.fc_prelu.weight"].shape == (256,)
    assert [len(tensors[f"onet.heads.{i}.bias"]) for i in range(3)] == [4, 10, 2]
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert not any(key.startswith("pnet.fc") for key in tensors)


def test_a_layer_computes_what_keras_computes() -> None:
    """First convolution and first dense layer against the definition, on the arrays as stored."""
    tensors = convert.read_mtcnn()
    arrays = joblib.load(mtcnn_weights.package_files()["rnet"])
    patch = np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)  # H, W, channels
    keras = np.einsum("hwi,hwio->o", patch, arrays[0]) + arrays[1]
    x = torch.from_numpy(patch.transpose(2, 0, 1))[None]
    ours = F.conv2d(x, tensors["rnet.convs.0.weight"], tensors["rnet.convs.0.bias"])
    np.testing.assert_allclose(ours.ravel(), keras, atol=1e-4)
    features = np.random.default_rng(1).normal(size=576).astype(np.float32)
    keras = features @ arrays[9] + arrays[10]
    ours = F.linear(torch.from_numpy(features), tensors["rnet.fc.weight"], tensors["rnet.fc.bias"])
    np.testing.assert_allclose(ours, keras, atol=1e-4)


def test_the_package_is_not_imported() -> None:
    convert.read_mtcnn()
    assert "mtcnn" not in sys.modules
    assert "tensorflow" not in sys.modules


def test_arrays_of_another_network() -> None:
    pnet, rnet, _ = mtcnn_weights.STAGES
    arrays = convert.read_joblib_arrays(mtcnn_weights.package_files()["rnet"])
    with pytest.raises(AssetError, match="has 16 arrays, pnet needs 13"):
        mtcnn_weights.torch_tensors(pnet, arrays, "pnet.lz4")
    swapped = [*arrays[:-4], *arrays[-2:], *arrays[-4:-2]]
    with pytest.raises(AssetError, match=r"heads give \(2, 4\) numbers, rnet needs \(4, 2\)"):
        mtcnn_weights.torch_tensors(rnet, swapped, "rnet.lz4")
