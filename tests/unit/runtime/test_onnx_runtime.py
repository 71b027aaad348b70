"""ONNX files from strangers end in one sentence; so do wrong images. PyTorch is not needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vovnet.export.onnx_file import add_nms, set_info
from vovnet.runtime.onnx_format import read_description
from vovnet.runtime.onnx_runtime import OnnxSession

from ...exported import example_info


def small_model(**changes: object) -> onnx.ModelProto:
    """An exported detector of 8×8 pixels in every respect, except that the pixels themselves are boxes and scores."""
    info = example_info(image_size=(8, 8), **changes)
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Reshape", ["pixels", "rows"], ["by_anchor"], name="reshape"),
        helper.make_node("Slice", ["by_anchor", "zero", "four", "two"], ["boxes"], name="boxes"),
        helper.make_node("Slice", ["by_anchor", "four", "seven", "two"], ["hundreds"], name="hundreds"),
        helper.make_node("Mul", ["hundreds", "factor"], ["scores"], name="scores"),
    ]
    constants = {"rows": [0, -1, 8], "zero": [0], "two": [2], "four": [4], "seven": [7]}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 24, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 24, 3]),
        ],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
        + [numpy_helper.from_array(np.array(0.01, np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    add_nms(model, info)
    set_info(model, info)
    return model


def with_description(**changes: object) -> onnx.ModelProto:
    """A small model whose description holds other values, of any kind; `...` removes one."""
    model = small_model()
    values = json.loads(model.metadata_props[0].value) | changes
    model.metadata_props[0].value = json.dumps({name: value for name, value in values.items() if value is not ...})
    return model


def save(path: Path, content: onnx.ModelProto | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def refusal(path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(ValueError, match=r"^" + re.escape(str(path)[:20])) as raised:
        OnnxSession(path, threads=1)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


def test_the_small_model_is_sound(tmp_path) -> None:
    session = OnnxSession(save(tmp_path / "x.onnx", small_model()), threads=1)
    assert session.info == example_info(image_size=(8, 8))
    rng = np.random.default_rng(0)
    rows = session.run(rng.integers(0, 100, (2, 3, 8, 8), np.uint8), 0.5)
    assert len(rows.scores) > 4
    assert rows.scores.min() > 0.5
    assert set(rows.labels.tolist()) <= {0, 1, 2}


# Files --------------------------------------------------------------------------------------------------------------

FOREIGN = "is no detector that vovnet exported: export one with vovnet export"
NO_ONNX = "is no ONNX file, or is damaged or cut short: export it again"


def foreign_model() -> onnx.ModelProto:
    model = small_model()
    del model.metadata_props[:]
    return model


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", NO_ONNX),
        (b"hello world" * 100, NO_ONNX),
        (b"\xff" * 100, NO_ONNX),
        (b"\x00" * 100, NO_ONNX),
        (small_model().SerializeToString()[:-400], NO_ONNX),
        (foreign_model(), FOREIGN),
        (with_description(format="1"), FOREIGN),
        (with_description(format=True), FOREIGN),
        (with_description(format=2, vovnet="9.9.9\x1b[2J"), r"was exported by vovnet '9.9.9\x1b[2J', newer than this"),
    ],
    ids=["empty", "text", "ones", "zeros", "cut", "foreign", "text format", "true format", "newer"],
)
def test_files_that_are_none_of_ours(tmp_path, capfd, content, reason: str) -> None:
    assert reason in refusal(save(tmp_path / "x.onnx", content))
    assert capfd.readouterr() == ("", "")


def test_no_file(tmp_path) -> None:
    assert refusal(tmp_path / "none.onnx").endswith("does not exist")
    (tmp_path / "folder.onnx").mkdir()
    assert refusal(tmp_path / "folder.onnx").endswith("is a folder, not a file")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.onnx")
        assert "special file" in refusal(tmp_path / "pipe.onnx")


def test_every_prefix_and_many_changes_of_a_file_end_in_a_sentence(tmp_path, capfd) -> None:
    data = small_model().SerializeToString()
    rng = np.random.default_rng(0)
    reasons: list[str] = []
    for number in range(300):
        changed = bytearray(data)
        if number < 100:
            changed = changed[: len(data) * number // 100]
        else:
            for position in rng.integers(0, len(data), 1 + number % 3):
                changed[position] = rng.integers(0, 256)
        path = save(tmp_path / f"{number}.onnx", bytes(changed))
        try:
            session = OnnxSession(path, threads=1)
            session.run(np.full((1, 3, 8, 8), 77, np.uint8), 0.3)
        except ValueError as error:
            reasons.append(str(error))
    assert 100 < len(reasons) < 300  # a name that nobody reads may change
    assert not [reason for reason in reasons if "\n" in reason or len(reason) > 700]
    assert capfd.readouterr() == ("", "")


def test_a_limit_holds_for_the_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "weights_bytes=1000")
    assert "raise the limit with --limit weights_bytes=N" in refusal(save(tmp_path / "x.onnx", small_model()))


@pytest.mark.parametrize(("version", "opset"), [(99, 18), (10, 99)])
def test_a_format_newer_than_the_runtime(tmp_path, capfd, version: int, opset: int) -> None:
    model = small_model()
    model.ir_version = version
    model.opset_import[0].version = opset
    text = refusal(save(tmp_path / "x.onnx", model))
    assert f"cannot be opened by ONNX Runtime {onnxruntime.__version__}" in text
    assert "update onnxruntime" in text
    assert capfd.readouterr() == ("", "")


# What a file may not hold -------------------------------------------------------------------------------------------


def external(location: str) -> onnx.ModelProto:
    model = small_model()
    tensor = next(item for item in model.graph.initializer if item.name == "factor")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value="4")
    return model


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "beside.bin"])
def test_weights_in_other_files_are_not_read(tmp_path, monkeypatch, location: str) -> None:
    (tmp_path / "beside.bin").write_bytes(np.array([0.01], np.float32).tobytes())
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)  # which is not reached
    assert "keeps weights in another file" in refusal(save(tmp_path / "x.onnx", external(location)))


def test_weights_in_other_files_are_not_read_for_constants(tmp_path) -> None:
    model = small_model()
    model.graph.node.append(
        helper.make_node("Constant", [], ["unused"], value=external("beside.bin").graph.initializer[-1])
    )
    tensor = model.graph.node[-1].attribute[0].t
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="beside.bin")
    assert "keeps weights in another file" in refusal(save(tmp_path / "x.onnx", model))


def test_foreign_operators_and_nested_graphs(tmp_path) -> None:
    model = small_model()
    model.graph.node.append(helper.make_node("Run", ["images"], ["own"], domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "holds operators that are not part of ONNX" in refusal(save(tmp_path / "x.onnx", model))

    model = small_model()
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["flag"], ["own"], then_branch=branch, else_branch=branch))
    assert "holds graphs in its graph" in refusal(save(tmp_path / "x.onnx", model))

    model = small_model()
    model.functions.append(helper.make_function("own", "F", ["x"], ["x"], [], [helper.make_opsetid("", 18)]))
    assert "holds functions" in refusal(save(tmp_path / "x.onnx", model))

    model = small_model()
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(dims=[2]))
    assert "holds sparse weights" in refusal(save(tmp_path / "x.onnx", model))


def test_the_description_is_that_of_the_library() -> None:
    model = small_model()
    assert read_description(model.SerializeToString()).decode() == model.metadata_props[0].value


# The description ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"detector": ...}, "lacks detector in its description"),
        ({"detector": 3}, "has detector 3 in its description, expected a name"),
        ({"detector": ""}, "expected a name"),
        ({"detector": "x" * 1000}, "expected a name"),
        ({"class_names": "abc"}, "has class_names 'abc' in its description, expected a list of different names"),
        ({"class_names": []}, "expected a list of different names"),
        ({"class_names": ["a", 1, "b"]}, "expected a list of different names"),
        ({"class_names": ["a", "b", "a"]}, "expected a list of different names"),
        ({"class_names": ["a", "b"]}, "has 2 class names and 3 category ids"),
        ({"category_ids": [1, 2, 2.5]}, "expected a list of different whole numbers"),
        ({"category_ids": [1, 2, True]}, "expected a list of different whole numbers"),
        ({"category_ids": [1, 2, 10**400]}, "401 digits"),
        ({"image_size": 300}, "expected [height, width]"),
        ({"image_size": [300]}, "expected [height, width]"),
        ({"image_size": [300, 0]}, "expected [height, width]"),
        ({"image_size": [300, 300.0]}, "expected [height, width]"),
        ({"image_size": [5000, 5000]}, "--limit network_pixels=N"),
        ({"keep_ratio": 1}, "expected true or false"),
        ({"antialias": None}, "expected true or false"),
        ({"score_threshold": "0.3"}, "expected a number from 0 to 1"),
        ({"score_threshold": float("nan")}, "expected a number from 0 to 1"),
        ({"score_threshold": True}, "expected a number from 0 to 1"),
        ({"nms_threshold": 1.5}, "expected a number from 0 to 1"),
        ({"candidates": 0}, "expected a whole number of at least 1"),
        ({"top_k": 2**40}, "expected a whole number of at least 1"),
        ({"top_k": 10.0}, "expected a whole number of at least 1"),
        ({"masks": "no"}, "expected true or false"),
        ({"precision": "float64"}, "expected one of float32, bf16, int8"),
        ({"precision": ["int8"]}, "expected one of float32, bf16, int8"),
        ({"weights_sha256": "abc"}, "expected 64 hexadecimal digits"),
        ({"vovnet": None}, "expected a version"),
        ({"record": []}, "expected an object"),
        ({"gate": "passed"}, "expected an object"),
    ],
)
def test_descriptions_with_wrong_values(tmp_path, changes, reason: str) -> None:
    text = refusal(save(tmp_path / "x.onnx", with_description(**changes)))
    assert reason in text
    assert "export it again" in text or "raise the limit" in text or "64 bits" in text


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[" * 100_000, '{"format": 1', '"\\ud800"', "NaN"])
def test_descriptions_that_are_no_object(tmp_path, text: str) -> None:
    model = small_model()
    model.metadata_props[0].value = text
    refusal(save(tmp_path / "x.onnx", model))


def test_a_description_without_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "header_bytes=300")
    text = refusal(save(tmp_path / "x.onnx", small_model()))
    assert "holds a description that has more than 300 bytes" in text


def test_further_entries_do_not_matter(tmp_path) -> None:
    session = OnnxSession(save(tmp_path / "x.onnx", with_description(colour="red")), threads=1)
    assert "colour" not in asdict(session.info)


def test_a_network_that_differs_from_its_description(tmp_path) -> None:
    """Another size, other names, other kinds."""
    other = "does not hold the network that its description states: export it again"
    assert other in refusal(save(tmp_path / "size.onnx", with_description(image_size=[8, 16])))
    assert other in refusal(save(tmp_path / "masks.onnx", with_description(masks=True)))
    model = small_model()
    del model.graph.output[3]
    assert other in refusal(save(tmp_path / "outputs.onnx", model))
    model = small_model()
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    assert other in refusal(save(tmp_path / "inputs.onnx", model))


def test_a_network_with_more_classes_than_names(tmp_path) -> None:
    path = save(tmp_path / "x.onnx", with_description(class_names=["a", "b"], category_ids=[1, 2]))
    session = OnnxSession(path, threads=1)
    images = np.random.default_rng(0).integers(0, 100, (2, 3, 8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"finds images or classes that do not exist: .* do not belong together"):
        session.run(images, 0.01)


def test_a_network_that_takes_one_image(tmp_path) -> None:
    """A frozen batch fails on another one, in a sentence."""
    model = small_model()
    rows = next(item for item in model.graph.initializer if item.name == "rows")
    rows.CopyFrom(numpy_helper.from_array(np.array([1, 24, 8], np.int64), "rows"))
    session = OnnxSession(save(tmp_path / "x.onnx", model), threads=1)
    session.run(np.zeros((1, 3, 8, 8), np.uint8), 0.3)
    with pytest.raises(ValueError, match="fails in ONNX Runtime on 2 images") as raised:
        session.run(np.zeros((2, 3, 8, 8), np.uint8), 0.3)
    assert "\n" not in str(raised.value)


# Arguments of `run` -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), "got float32 (1, 3, 8, 8)"),
        (np.zeros((3, 8, 8), np.uint8), "got uint8 (3, 8, 8)"),
        (np.zeros((1, 8, 8, 3), np.uint8), "got uint8 (1, 8, 8, 3)"),
        (np.zeros((1, 3, 8, 9), np.uint8), "got uint8 (1, 3, 8, 9)"),
        (np.zeros((0, 3, 8, 8), np.uint8), "got uint8 (0, 3, 8, 8)"),
        ([[1]], "got list"),
    ],
)
def test_wrong_images(tmp_path, images, found: str) -> None:
    session = OnnxSession(save(tmp_path / "x.onnx", small_model()), threads=1)
    with pytest.raises(ValueError, match=r"images must be a NumPy array of uint8 RGB \(N, 3, 8, 8\)") as raised:
        session.run(images, 0.3)
    assert str(raised.value).endswith(found)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_wrong_thresholds(tmp_path, threshold: float) -> None:
    session = OnnxSession(save(tmp_path / "x.onnx", small_model()), threads=1)
    with pytest.raises(ValueError, match=r"score_threshold must lie in 0…1"):
        session.run(np.zeros((1, 3, 8, 8), np.uint8), threshold)


# The surroundings ---------------------------------------------------------------------------------------------------


def test_a_missing_runtime(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "x.onnx", small_model())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'x.onnx needs the package onnxruntime: pip install "vovnet\[onnx\]"'
    ):
        OnnxSession(path)


def test_pytorch_is_not_imported(tmp_path) -> None:
    path = save(tmp_path / "x.onnx", small_model())
    code = f"""
import sys
for name in ("torch", "torchvision", "onnx", "pydantic", "rich", "cyclopts"):
    sys.modules[name] = None
import numpy as np
from pathlib import Path
from vovnet.runtime.onnx_runtime import OnnxSession
rows = OnnxSession(Path({str(path)!r})).run(np.full((1, 3, 8, 8), 60, np.uint8), 0.3)
print(len(rows.scores))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "72"
