"""Which input takes the images, and what the others are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.inputs import OnnxInput, image_input
from vovnet.profiling.onnx.module import OnnxModule

from .onnx_files import FLOAT, TensorProto, array, conv, helper, node, numbers, write


def tensor(name: str, *shape: int | str | None, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((1, 3, 64, 48), "NCHW", (1, 3, 64, 48)),
        ((2, 1, 64, 64), "NCHW", (2, 1, 64, 64)),
        (("n", 6, "h", "w"), "NCHW", (1, 6, 224, 224)),
        ((None, None, None, None), "NCHW", (1, 3, 224, 224)),
        ((1, 64, 48, 3), "NHWC", (1, 64, 48, 3)),
        (("n", "h", "w", 3), "NHWC", (1, 224, 224, 3)),
        ((1, 32, 48, 1), "NHWC", (1, 32, 48, 1)),
        ((3, 64, 48), "CHW", (1, 3, 64, 48)),
        (("h", "w", 4), "HWC", (1, 224, 224, 4)),
        (("n", 28, 28), "NHW", (1, 1, 28, 28)),
        ((1, 77), "", None),
        ((1, 3, 8, 64, 64), "", None),
        ((), "", None),
    ],
)
def test_layouts(shape: tuple[int | str | None, ...], layout: str, expected: tuple[int, ...] | None) -> None:
    value = OnnxInput("x", "float32", shape)
    assert value.layout == layout
    if expected is None:
        assert image_input([value]) is None
        return
    assert value.batch_shape(None, None) == expected
    own = value.own_shape(expected)
    assert len(own) == len(shape)
    assert all(
        size in (stated, size) and (size == stated or not isinstance(stated, int))
        for size, stated in zip(own, shape, strict=True)
    )
    assert value.batch_shape(5, 32)[0] == 5


MASK = OnnxInput("a", "float32", ("n", 1, "h", "w"))
IMAGE = OnnxInput("b", "float32", ("n", 3, "h", "w"))


@pytest.mark.parametrize(
    ("others", "image"),
    [
        ([MASK], IMAGE),
        ([OnnxInput("attention_mask", "float32", (1, 3, 64, 64))], IMAGE),
        ([OnnxInput("ids", "int64", (1, 77)), OnnxInput("scale", "float32", ())], IMAGE),
        ([OnnxInput("earlier", "float16", (1, 64, 16, 16))], OnnxInput("grey", "uint8", (1, 1, 64, 64))),
        ([OnnxInput("points", "float32", (1, 5, 2))], OnnxInput("x", "float32", (1, 64, 64, 3))),
    ],
)
def test_the_image_among_several_inputs(others: list[OnnxInput], image: OnnxInput) -> None:
    assert image_input([*others, image]) is image_input([image, *others]) is image


PIXELS = 8 * 6


@pytest.mark.parametrize(
    ("inputs", "nodes", "shape", "fed"),
    [
        pytest.param([tensor("x", 1, 1, 8, 6)], [conv("x", "y", "w1")], (1, 1, 8, 6), {}, id="grey"),
        pytest.param(
            [tensor("x", "n", 8, 6, 3)],
            [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t", "y")],
            (1, 8, 6, 3),
            {},
            id="channels last",
        ),
        pytest.param(
            [tensor("x", 3, 8, 6)],
            [node("Unsqueeze", "x zero", "t"), conv("t", "y")],
            (1, 3, 8, 6),
            {},
            id="one image",
        ),
        pytest.param(
            [tensor("m", "n", "h", "w", kind=TensorProto.BOOL), tensor("x", "n", 3, "h", "w")],
            [
                node("Cast", "m", "f", to=FLOAT),
                node("Unsqueeze", "f one", "g"),
                node("Mul", "x g", "t"),
                conv("t", "y"),
            ],
            (1, 3, 8, 6),
            {"m": "1 × 8 × 6 in bool"},
            id="a mask first",
        ),
        pytest.param(
            [
                tensor("x", 1, 3, 8, 6),
                tensor("size", "n", 2, kind=TensorProto.INT64),
                tensor("k", kind=TensorProto.FLOAT16),
            ],
            [
                node("Cast", "size", "s", to=FLOAT),
                node("Cast", "k", "c", to=FLOAT),
                node("Mul", "x c", "t"),
                conv("t", "y"),
            ],
            (1, 3, 8, 6),
            {"size": "1 × 2 in int64", "k": "a single number in float16"},
            id="sizes and a number",
        ),
        pytest.param(
            [tensor("x", "n", 3, "h", "w"), tensor("z", "m", 3, "i", "j")],
            [node("Sub", "x z", "t"), conv("t", "y")],
            (1, 3, 8, 6),
            {"z": "1 × 3 × 8 × 6 in float32"},
            id="two images",
        ),
        pytest.param(
            [tensor("x", 1, 3, 8, 6), tensor("w", 8, 3, 3, 3)],
            [conv("x", "y")],
            (1, 3, 8, 6),
            {},
            id="an array as input",
        ),
        pytest.param(
            [tensor("x", 1, 3, 8, 6, kind=TensorProto.INT8)],
            [node("Cast", "x", "t", to=FLOAT), conv("t", "y")],
            (1, 3, 8, 6),
            {},
            id="whole numbers",
        ),
    ],
)
def test_files_run_and_count(
    tmp_path: Path, inputs: list[Any], nodes: list[Any], shape: tuple[int, ...], fed: dict[str, str]
) -> None:
    constants = [numbers("zero", 0), numbers("one", 1), array("w", 8, 3, 3, 3), array("w1", 8, 1, 3, 3)]
    path = write(tmp_path, *nodes, inputs=inputs, constants=constants)
    module = OnnxModule(path)
    assert module.other_inputs(shape) == fed
    (output,) = module(torch.ones(shape).to(module.input_dtype))
    assert output.shape == (1, 8, 8, 6)
    channels = 1 if "w1" in nodes[-1].input else 3
    assert output.max() == (9 if not fed.get("z") else 0) * channels  # the other inputs are ones
    cost = count_onnx_cost(path, shape)
    assert cost.total.multiply_adds == PIXELS * 8 * 9 * channels
    assert cost.uncounted == {}


def test_other_inputs_follow_the_batch(tmp_path: Path) -> None:
    inputs = [tensor("x", "n", 3, 8, 6), tensor("k", "n", 1, 1, 1)]
    path = write(tmp_path, node("Mul", "x k", "t"), conv("t", "y"), inputs=inputs, constants=[array("w", 8, 3, 3, 3)])
    module = OnnxModule(path)
    for batch in (1, 3, 2):
        assert module.other_inputs((batch, 3, 8, 6)) == {"k": f"{batch} × 1 × 1 × 1 in float32"}
        assert module(torch.ones(batch, 3, 8, 6))[0].shape == (batch, 8, 8, 6)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (tensor("k", 1, "length"), r"leaves the shape of its input k \(1 × any, float32\) open"),
        (tensor("k", 10**6, 10**6), r"an input of more than \d+ elements: k"),
        (tensor("k", 1, kind=TensorProto.STRING), r"must take tensors of numbers .* but has an input k \(1, string\)"),
    ],
)
def test_inputs_that_cannot_be_given(tmp_path: Path, other: Any, message: str) -> None:
    inputs = [tensor("x", 1, 3, 8, 6), other]
    path = write(
        tmp_path, conv("x", "y"), node("Identity", "k", "z"), inputs=inputs, constants=[array("w", 8, 3, 3, 3)]
    )
    with pytest.raises(ValueError, match=message):
        OnnxModule(path)(torch.ones(1, 3, 8, 6))


def test_a_size_that_the_file_fixes(tmp_path: Path) -> None:
    path = write(tmp_path, node("Relu", "x"), inputs=[tensor("x", 3, 8, 6)])
    for shape in ((2, 3, 8, 6), (1, 3, 8, 8)):
        assert not OnnxModule(path).takes(shape)
        with pytest.raises(ValueError, match="takes 3 × 8 × 6, got an input of"):
            count_onnx_cost(path, shape)
