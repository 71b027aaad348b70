"""Sizes that an ONNX file computes from the shape of its input, against ONNX Runtime and PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.profiling.cost import count_cost
from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.module import OnnxModule

from .onnx_files import FLOAT, TensorProto, array, conv, node, numbers, numpy_helper, write

INT64 = TensorProto.INT64
SIZES = node("Shape", "x", "shape"), node("Slice", "shape two four", "hw"), node("Slice", "shape zero two", "nc")
NUMBERS = [numbers("zero", 0), numbers("two", 2), numbers("three", 3), numbers("four", 4), numbers("axes", 2, 3)]
HALF = numpy_helper.from_array(np.array([1, 1, 0.5, 1.7], np.float32), "half")


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        pytest.param(
            [
                *SIZES,
                node("Cast", "hw", "f", to=FLOAT),
                node("Mul", "f factor", "m"),
                node("Floor", "m", "l"),
                node("Cast", "l", "i", to=INT64),
                node("Concat", "nc i", "to", axis=0),
                node("Resize", "x   to", "u"),
            ],
            17,
            id="resized to sizes",
        ),
        pytest.param(
            [
                *SIZES,
                node("Mul", "hw three", "i"),
                node("Concat", "nc i", "to", axis=0),
                node("Cast", "to", "a", to=FLOAT),
                node("Cast", "shape", "b", to=FLOAT),
                node("Div", "a b", "s"),
                node("Resize", "x  s", "u"),
            ],
            13,
            id="resized by factors",
        ),
        pytest.param(
            [
                node("Shape", "x", "shape"),
                node("Slice", "shape", "hw", starts=[2], ends=[4]),
                node("Cast", "hw", "f", to=FLOAT),
                node("Div", "f f", "one"),
                node("Mul", "one factor", "m"),
                node("Concat", "one m", "s", axis=0),
                node("Upsample", "x s", "u"),
            ],
            9,
            id="upsampled as in old files",
        ),
        pytest.param(
            [*SIZES, node("Div", "hw two", "h"), node("Slice", "x zero2 h axes", "u")],
            20,
            id="cropped to half",
        ),
        pytest.param(
            [
                *SIZES,
                node("Neg", "hw", "n"),
                node("Mod", "n four", "p"),
                node("Concat", "none none none p", "pads", axis=0),
                node("Pad", "x pads", "u"),
            ],
            20,
            id="padded to a multiple",
        ),
        pytest.param(
            [
                *SIZES,
                node("Div", "shape shape", "ones"),
                node("Mul", "ones two", "r"),
                node("Slice", "r zero two", "r2"),
                node("Slice", "ones zero two", "r1"),
                node("Concat", "r1 r2", "by", axis=0),
                node("Tile", "x by", "u"),
            ],
            20,
            id="tiled",
        ),
        pytest.param(
            [
                *SIZES,
                node("Unsqueeze", "x axes35", "v"),
                node("Gather", "shape at", "to"),
                node("Where", "is_one two to", "big"),
                node("Expand", "v big", "e"),
                node("Mul", "hw two", "h2"),
                node("Concat", "nc h2", "flat", axis=0),
                node("Reshape", "e flat", "u"),
            ],
            20,
            id="expanded and reshaped",
        ),
        pytest.param(
            [
                *SIZES,
                node("Gather", "shape last", "w_"),
                node("Range", "nought w_ unit", "columns"),
                node("Cast", "columns", "cf", to=FLOAT),
                node("Add", "x cf", "y_"),
                node("ReduceProd", "hw", "points"),
                node("Concat", "nc points", "flat", axis=0),
                node("Reshape", "y_ flat", "z_"),
                node("Reshape", "z_ shape", "u"),
            ],
            20,
            id="with a range",
        ),
        pytest.param([node("Resize", "x  half", "u")], 17, id="resized by a constant"),
    ],
)
def test_computed_sizes_are_those_of_onnx_runtime(tmp_path: Path, nodes: list[Any], opset: int) -> None:
    constants = [
        *NUMBERS,
        HALF,
        array("w", 5, 4, 3, 3),
        numbers("zero2", 0, 0),
        numbers("none", 0, 0),
        numbers("axes35", 3, 5),
        numbers("at", 0, 1, 2, 0, 3, 0),
        numpy_helper.from_array(np.array([0, 0, 0, 1, 0, 1], bool), "is_one"),
        numpy_helper.from_array(np.array(3), "last"),
        numpy_helper.from_array(np.array(0), "nought"),
        numpy_helper.from_array(np.array(1), "unit"),
        numpy_helper.from_array(np.array(2.0, np.float32), "factor"),
    ]
    used = {name for step in nodes for name in step.input} | {"w"}
    kept = [constant for constant in constants if constant.name in used]
    path = write(
        tmp_path,
        *nodes,
        conv("u", "y"),
        constants=kept,
        shape=("n", 4, "h", "w"),
        opset=opset,
    )
    for shape in ((1, 4, 6, 8), (2, 4, 11, 8)):
        cost = count_onnx_cost(path, shape)
        (output,) = OnnxModule(path)(torch.zeros(shape))
        assert cost.layers[-1].output_shapes == (tuple(output.shape),)
        assert cost.total.multiply_adds == output.numel() * 4 * 9
        assert cost.uncounted == {}
        assert cost.note is None


class Interpolated(nn.Module):
    def __init__(self, resize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.resize, self.conv = resize, nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.resize(x))


def windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = F.pad(x, (0, -w % 7, 0, -h % 7))
    rows, columns = x.shape[2] // 7, x.shape[3] // 7
    return x.view(n, c, rows, 7, columns, 7).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 7, 7)


@pytest.mark.parametrize(
    "resize",
    [
        pytest.param(lambda x: F.interpolate(x, scale_factor=2.0), id="by a factor"),
        pytest.param(
            lambda x: F.interpolate(x, size=(x.shape[2] * 2, x.shape[3] + 3), mode="bilinear"), id="to a size"
        ),
        pytest.param(lambda x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:]) + x, id="to that of another"),
        pytest.param(windows, id="windows"),
    ],
)
def test_exported_resizing_costs_what_the_module_costs(tmp_path: Path, resize: Callable[[Tensor], Tensor]) -> None:
    module, path = Interpolated(resize).eval(), tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n", 2: "h", 3: "w"}}
        torch.onnx.export(
            module,
            (torch.rand(1, 3, 16, 18),),
            path,
            dynamo=False,
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=17,
        )
    for shape in ((1, 3, 16, 18), (2, 3, 24, 20)):
        cost, expected = count_onnx_cost(path, shape), count_cost(module, shape).total
        assert cost.total.multiply_adds == expected.multiply_adds > 0
        assert cost.total.memory_access_cost == expected.memory_access_cost
        assert cost.total.parameters == expected.parameters
        assert cost.uncounted == {}


# Files from strangers.


def test_huge_values_are_not_made(tmp_path: Path) -> None:
    nodes = (
        node("ConstantOfShape", "sizes", "a"),
        node("Range", "first last step", "b"),
        node("Tile", "few times", "c"),
        node("Expand", "few sizes", "d"),
        node("Pad", "few pads", "e"),
    )
    scalars = [
        numpy_helper.from_array(np.array(number), name)
        for name, number in (("first", 0), ("last", 10**14), ("step", 1))
    ]
    constants = [*scalars, numbers("sizes", 10**6, 10**6), numbers("few", 1), numbers("times", 10**12)]
    constants += [numbers("pads", 0, 10**13), array("w", 4, 4, 3, 3)]
    cost = count_onnx_cost(write(tmp_path, *nodes, conv("x", "y"), constants=constants))
    assert cost.total.multiply_adds == 36 * 4 * 36


def test_sizes_beside_the_file_are_read_only_from_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    content = np.array([1, 4, 12, 12], np.int64).tobytes()
    for folder in (tmp_path, inside):
        (folder / "sizes").write_bytes(bytes(8) + content)
    (inside / "link").symlink_to(tmp_path / "sizes")
    for location, products in (("sizes", 1), ("../sizes", 0), (str(tmp_path / "sizes"), 0), ("link", 0), (".", 0)):
        sizes = TensorProto(name="to", data_type=INT64, dims=[4], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", "8"), ("length", "32")):
            entry = sizes.external_data.add()
            entry.key, entry.value = key, value
        path = write(inside, node("Resize", "x   to", "u"), conv("u", "y"), constants=[sizes, array("w", 4, 4, 3, 3)])
        cost = count_onnx_cost(path)
        assert cost.total.multiply_adds == products * 144 * 4 * 36
        assert bool(cost.uncounted) == (not products)
