"""ONNX files for the tests: exported modules, and graphs written by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet import create_backbone
from vovnet.profiling.cost_types import LayerCost, ModelCost

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT = TensorProto.FLOAT
IMAGE = (1, 4, 6, 6)
PIXELS = 36


class Parts(nn.Module):
    """A norm after a layer with a bias, groups, a transposed convolution, a concatenation, a pool, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.up = nn.ConvTranspose2d(16, 6, 4, 2, 1, groups=2)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.norm(self.stem(x)))
        x = F.max_pool2d(self.up(torch.cat([x, self.grouped(x)], 1)), 3, 2, 1)
        return self.linear(x.mean((2, 3))), F.hardswish(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(12), nn.Linear(12, 36)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x.flatten(2).transpose(1, 2))).chunk(3, -1)
        return F.gelu((q @ k.transpose(1, 2) / 3).softmax(-1) @ v)


@dataclass(frozen=True)
class Exported:
    path: Path
    module: nn.Module
    shape: tuple[int, int, int, int]


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as build

    return build(num_classes=10)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int, int]]] = {
    "parts": (Parts, (2, 3, 16, 16)),
    "attention": (Attention, (1, 12, 4, 4)),
    "vovnet27_slim": (lambda: create_backbone("vovnet27_slim", features_only=True), (1, 3, 64, 64)),
    "resnet18": (resnet18, (1, 3, 64, 64)),
}


def export(name: str, folder: Path) -> Exported:
    """One of `MODELS`, exported to `folder`."""
    build, shape = MODELS[name]
    torch.manual_seed(0)
    module = build().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # a new norm shifts by zero, and the exporter leaves out such a bias
            for values in (part.running_mean, part.bias):
                nn.init.uniform_(values, 0.1, 0.2)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.rand(shape),), folder / f"{name}.onnx", dynamo=True, verbose=False)
    return Exported(folder / f"{name}.onnx", module, shape)


def array(name: str, *shape: int, dtype: Any = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def write(
    folder: Path,
    *nodes: Any,
    constants: Sequence[TensorProto] = (),
    shape: Sequence[int | str] | None = IMAGE,
    elem_type: int = FLOAT,
    outputs: dict[str, int] | None = None,
    inputs: Sequence[Any] | None = None,
    functions: Sequence[Any] = (),
    value_info: Sequence[Any] = (),
    opset: int = 20,
) -> Path:
    """A file with the input x. outputs: name → number format; by default y in float32."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", elem_type, shape)] if inputs is None else inputs,
        [helper.make_tensor_value_info(name, kind, None) for name, kind in (outputs or {"y": FLOAT}).items()],
        constants,
        value_info=value_info,
    )
    opsets = [helper.make_opsetid(*entry) for entry in (("", opset), ("their", 1), ("com.microsoft", 1))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


def conv(x: str, y: str, weight: str = "w") -> Any:
    """A 3×3 convolution that keeps the size."""
    return node("Conv", f"{x} {weight}", y, pads=[1, 1, 1, 1])


def inner(
    nodes: Sequence[Any],
    outputs: str,
    inputs: Sequence[Any] = (),
    constants: Sequence[TensorProto] = (),
) -> Any:
    """A graph inside a node; inputs may be names, of which nothing is stated."""
    values = [helper.make_value_info(name, onnx.TypeProto()) if isinstance(name, str) else name for name in inputs]
    results = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs.split(" ")]
    return helper.make_graph(nodes, "inner", values, results, constants)


def loop_body(nodes: Sequence[Any], state: str = "s", outputs: str = "t", **options: Any) -> Any:
    """The body of a Loop that goes on unless a node gives "on"; "i" is the number of the pass."""
    number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    begin = helper.make_tensor_value_info("begin", TensorProto.BOOL, [])
    ends = any("on" in step.output for step in nodes)
    all_nodes = [*nodes, *([] if ends else [node("Identity", "begin", "on")])]
    return inner(all_nodes, f"on {outputs}", [number, begin, *state.split(" ")], **options)


def depends_on_values(kind: int) -> list[Any]:
    """Nodes that make a single value "v" from x, in this number format."""
    return [node("ReduceSum", "x", "sum", keepdims=0), node("Cast", "sum", "v", to=kind)]


def only(cost: ModelCost) -> LayerCost:
    assert cost.uncounted == {}
    assert cost.note is None
    (row,) = cost.layers
    return row
