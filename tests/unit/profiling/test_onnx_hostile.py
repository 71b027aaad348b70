"""ONNX files of strangers: neighbours are not read, and what a refusal says is short and printable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

from vovnet.profiling.onnx.graph import read_graph
from vovnet.profiling.onnx.module import OnnxModule

ESCAPES = "e\x1b[2J\n" * 500


def model(nodes: list[object], arrays: tuple[TensorProto, ...] = ()) -> ModelProto:
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [images], [output], initializer=list(arrays))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def beside(location: str) -> ModelProto:
    array = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    array.external_data.add(key="location", value=location)
    return model([helper.make_node("Add", ["x", "w"], ["y"])], (array,))


@pytest.mark.parametrize("where", ["up", "absolute", "device", "link"])
def test_weights_elsewhere_are_not_read(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    os.symlink("/dev/zero", folder / "zero")
    locations = {"up": "../secret.bin", "absolute": f"{tmp_path}/secret.bin", "device": "/dev/zero", "link": "zero"}
    (folder / "a.onnx").write_bytes(beside(locations[where]).SerializeToString())
    with pytest.raises(ValueError, match=r"a\.onnx cannot be loaded by ONNX Runtime: .*[Ee]xternal data") as caught:
        OnnxModule(folder / "a.onnx")
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    "content",
    [
        model([helper.make_node("Evil", ["x"], ["y"], domain=ESCAPES)]),
        model([helper.make_node("Add", ["x", ESCAPES], ["y"])]),
        model([helper.make_node("Relu", ["x"], ["y"], name=ESCAPES), helper.make_node("Relu", ["y"], ["y"])]),
    ],
)
def test_what_a_file_says_is_shown_short_and_printable(content: ModelProto, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content.SerializeToString())
    with pytest.raises(ValueError, match=r"a\.onnx cannot be loaded") as caught:
        OnnxModule(tmp_path / "a.onnx")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 500


def test_a_cycle_with_a_hostile_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name=ESCAPES), helper.make_node("Relu", ["a"], ["b"])]
    (tmp_path / "a.onnx").write_bytes(model([*nodes, helper.make_node("Relu", ["b"], ["y"])]).SerializeToString())
    with pytest.raises(ValueError, match=r"a\.onnx has a cycle") as caught:
        read_graph(tmp_path / "a.onnx", None)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 500


@pytest.mark.parametrize("read", [OnnxModule, lambda path: read_graph(path, None)])
def test_a_file_without_end_or_above_the_limit_is_not_read(
    read: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(read)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match=r"pipe\.onnx is not a file"):
        read(tmp_path / "pipe.onnx")
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(ValueError, match=r"large\.onnx has more than 2,147,483,648 bytes: .*--limit weights_bytes=N"):
        read(tmp_path / "large.onnx")


def test_a_name_that_is_not_utf8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(
        content.replace(b"\x0a\x01y", b"\x0a\x01\xff").replace(b"\x12\x01y", b"\x12\x01\xff")
    )
    with pytest.raises(ValueError, match=r"a\.onnx cannot be loaded by ONNX Runtime: .*codec can't decode"):
        OnnxModule(tmp_path / "a.onnx")
    assert capfd.readouterr().out == ""
