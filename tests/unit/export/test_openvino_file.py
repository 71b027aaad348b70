"""Folders for OpenVINO are written whole or not at all, and int8 finds nearly what float32 finds."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vovnet.boxes import pairwise_iou
from vovnet.errors import UsageError
from vovnet.export import openvino_file, openvino_int8
from vovnet.export.network_folder import set_folder_info, write_folder
from vovnet.export.openvino_file import write_openvino
from vovnet.runtime.openvino import OpenVinoSession
from vovnet.weights.detector import load_weights

from ..shipped_network import bccd_images, bccd_network, ordered


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The shipped detector in float32 and in int8, calibrated with 20 images."""
    root = tmp_path_factory.mktemp("exported")
    network, info = bccd_network()
    before, logger = torch_says(), logging.getLoggerClass()
    calibration = [image[None] for image in bccd_images("train", 20)]
    write_openvino(network, info, root / "float32_openvino")
    write_openvino(network, replace(info, precision="int8"), root / "int8_openvino", calibration)
    assert logging.getLoggerClass() is logger
    assert torch.equal(before, torch_says()), "NNCF has changed PyTorch"
    return {name: OpenVinoSession(root / f"{name}_openvino", 1) for name in ("float32", "int8")}


def torch_says() -> torch.Tensor:
    model = load_weights("bccd").model
    with torch.no_grad():
        outputs = model(model.preprocessing.normalize(torch.from_numpy(bccd_images("val", 1))))
    return torch.cat([tensor.flatten() for tensor in outputs.values()])


def test_int8_finds_what_float32_finds(sessions):
    images = bccd_images("val", 4)
    expected, found = (session.run(images, 0.3) for session in (sessions["float32"], sessions["int8"]))
    assert not np.array_equal(ordered(found).scores, ordered(expected).scores), "not quantised"
    certain = expected.scores > 0.5
    assert certain.sum() > 40
    for image, label, box, score in zip(
        expected.image[certain],
        expected.labels[certain],
        expected.boxes[certain],
        expected.scores[certain],
        strict=True,
    ):
        same = (found.image == image) & (found.labels == label)
        overlaps = pairwise_iou(torch.from_numpy(box[None]), torch.from_numpy(found.boxes[same]))[0]
        assert overlaps.max() > 0.85
        assert abs(found.scores[same][overlaps.argmax()] - score) < 0.15


def test_int8_is_int8_where_it_pays(sessions):
    network = sessions["int8"]._network
    quantised, kept = set(), set()
    for operation in network.get_ops():
        sources = [port.get_source_output().get_node().get_type_name() for port in operation.inputs()]
        (quantised if "FakeQuantize" in sources else kept).add(operation.get_type_name())
    assert "Convolution" in quantised
    convolutions = sum(operation.get_type_name() == "Convolution" for operation in network.get_ops())
    constants = [operation for operation in network.get_ops() if operation.get_type_name() == "Constant"]
    weights = [constant for constant in constants if constant.get_element_type().to_string() == "i8"]
    assert len(weights) == convolutions == 48
    assert {"Power", "ReduceSum", "Sqrt", "Divide", "Softmax", "Exp", "TopK", "NonMaxSuppression"} <= kept - quantised


def test_int8_without_images(tmp_path):
    network, info = bccd_network()
    for calibration in (None, []):
        with pytest.raises(UsageError, match="int8 needs training images to calibrate with, got none"):
            write_openvino(network, replace(info, precision="int8"), tmp_path / "x_openvino", calibration)
    assert list(tmp_path.iterdir()) == []


def test_int8_without_nncf(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_int8, "find_spec", lambda name: None)
    network, info = bccd_network()
    with pytest.raises(
        ModuleNotFoundError, match=r'int8 for OpenVINO needs an extra: pip install "vovnet\[openvino\]"'
    ):
        write_openvino(network, replace(info, precision="int8"), tmp_path / "x_openvino", list(bccd_images("train", 1)))
    assert list(tmp_path.iterdir()) == []


def test_what_nncf_cannot_quantise(tmp_path):
    with pytest.raises(
        RuntimeError, match="NNCF could not quantise the network .*export it with --precision"
    ) as caught:
        openvino_int8.quantise(b"no network", [bccd_images("train", 1)], score_threshold=0.1, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_bf16_is_refused_on_a_cpu_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_file, "has_bf16", lambda core: False)
    network, info = bccd_network()
    with pytest.raises(UsageError, match="this CPU has no bf16 instructions, so bf16 could not be tried here"):
        write_openvino(network, replace(info, precision="bf16"), tmp_path / "x_openvino")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    network, info = bccd_network()
    with pytest.raises(FileExistsError, match="is there already and holds files"):
        write_openvino(network, info, tmp_path)
    with pytest.raises(FileExistsError, match="is there already and holds files"):
        write_folder(tmp_path, {"model.xml": b"", "model.bin": b""}, info)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        write_folder(tmp_path / "x_openvino", {"model.xml": b"1"}, bccd_network()[1])
    assert list(tmp_path.iterdir()) == []


def test_a_new_description_keeps_the_digests(tmp_path):
    info = bccd_network()[1]
    write_folder(tmp_path / "x", {"model.xml": b"1", "model.bin": b"22"}, info)
    before = json.loads((tmp_path / "x/vovnet.json").read_text())
    set_folder_info(tmp_path / "x", replace(info, gate={"passed": True}))
    assert json.loads((tmp_path / "x/vovnet.json").read_text()) == before | {"gate": {"passed": True}}
    assert [before["files"][name]["bytes"] for name in ("model.xml", "model.bin")] == [1, 2]
