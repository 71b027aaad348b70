"""int8 for ONNX Runtime keeps what the detector finds, in a quarter of the bytes where it is used."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from vovnet.export import onnx_int8
from vovnet.export.onnx_int8 import quantise_onnx
from vovnet.runtime.onnx_runtime import OnnxSession

from ...exported import bccd_onnx, example_info, sample_images


@pytest.fixture(scope="module")
def calibration() -> list[np.ndarray]:
    return [image[None].numpy() for image in sample_images(8, (300, 300))]


def described(data: bytes):
    from vovnet.runtime.export_info import ExportInfo
    from vovnet.runtime.onnx_format import read_description

    return ExportInfo.from_json(read_description(data))


@pytest.fixture(scope="module")
def quantised(calibration, tmp_path_factory) -> onnx.ModelProto:
    network = onnx.load_from_string(bccd_onnx())
    result = quantise_onnx(network, described(bccd_onnx()), calibration)
    assert network.SerializeToString() == bccd_onnx()  # it is left as it is
    return result


def run(model: onnx.ModelProto | bytes, folder: Path, images: np.ndarray, threshold: float):
    path = folder / "x.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return OnnxSession(path, threads=1).run(images, threshold)


def test_int8_finds_nearly_the_same(quantised, tmp_path) -> None:
    """On images that calibration has not seen."""
    images = sample_images(12, (300, 300))[8:].numpy()
    expected, found = run(bccd_onnx(), tmp_path, images, 0.4), run(quantised, tmp_path, images, 0.3)
    assert len(expected.scores) > 30
    for image, box, label, score in zip(expected.image, expected.boxes, expected.labels, expected.scores, strict=True):
        same = (found.image == image) & (found.labels == label)
        near = np.abs(found.boxes[same] - box).max(axis=1)
        assert near.min() < 6
        assert abs(found.scores[same][near.argmin()] - score) < 0.1


def test_the_description_says_int8(quantised) -> None:
    info = described(quantised.SerializeToString())
    assert info.precision == "int8"
    assert info.class_names == described(bccd_onnx()).class_names
    assert quantised.producer_name == "vovnet"


def test_convolutions_are_int8_and_predictions_float(quantised) -> None:
    makers = {name: node for node in quantised.graph.node for name in node.output}
    kinds = [makers.get(node.input[1]) for node in quantised.graph.node if node.op_type == "Conv"]
    assert sum(kind is not None and kind.op_type == "DequantizeLinear" for kind in kinds) == 36
    assert sum(kind is None for kind in kinds) == 12  # six heads for boxes and six for classes
    weights = {item.name: item for item in quantised.graph.initializer}
    scales = [len(weights[kind.input[1]].dims) for kind in kinds if kind is not None]
    assert set(scales) == {1}  # one per output channel
    assert len(quantised.SerializeToString()) < 0.45 * len(bccd_onnx())


@pytest.mark.parametrize(("saturates", "largest"), [(True, 64), (False, 127)])
def test_weights_keep_to_7_bits_where_products_saturate(monkeypatch, saturates: bool, largest: int) -> None:
    monkeypatch.setattr(onnx_int8, "int8_saturates", lambda: saturates)
    images = [np.random.default_rng(0).integers(0, 255, (1, 3, 8, 8), np.uint8)]
    model = quantise_onnx(_one_convolution(), example_info(image_size=(8, 8)), images)
    (weights,) = [
        onnx.numpy_helper.to_array(item)
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.INT8 and len(item.dims) == 4
    ]
    assert np.abs(weights.astype(int)).max() == pytest.approx(largest, abs=1)


def _one_convolution() -> onnx.ModelProto:
    """A convolution to quantise, and one that predicts."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Conv", ["pixels", "w"], ["map"], name="first"),
        helper.make_node("Conv", ["map", "v"], ["boxes"], name="last"),
        helper.make_node("Identity", ["score_threshold"], ["same"], name="same"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 8, 8]),
            helper.make_tensor_value_info("score_threshold", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 4, 8, 8]),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, [1]),
        ],
        [
            numpy_helper.from_array(rng.normal(size=(5, 3, 1, 1)).astype(np.float32), "w"),
            numpy_helper.from_array(rng.normal(size=(4, 5, 1, 1)).astype(np.float32), "v"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_it_prints_nothing_and_leaves_no_files(monkeypatch, tmp_path, capfd) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quantise_onnx(_one_convolution(), example_info(image_size=(8, 8)), [np.zeros((1, 3, 8, 8), np.uint8)])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_without_images() -> None:
    with pytest.raises(ValueError, match="int8 needs at least one image of the training"):
        quantise_onnx(_one_convolution(), example_info(), [])


def test_images_that_do_not_fit(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="^dsod300_vovnet27_slim cannot be quantised for ONNX Runtime") as raised:
        quantise_onnx(_one_convolution(), example_info(), [np.zeros((1, 3, 9, 9), np.uint8)])
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_missing_package(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"int8 for ONNX Runtime needs the packages onnx and onnxruntime: pip"
    ):
        quantise_onnx(_one_convolution(), example_info(), [np.zeros((1, 3, 8, 8), np.uint8)])
