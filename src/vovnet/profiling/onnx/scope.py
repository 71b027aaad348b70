"""What is known of the tensors of a graph: their types, and the small values that follow from the sizes of the input.

ONNX infers the type of an output from the types of the inputs and from values that are sizes, and its reference
implementation computes these values, node by node. So the sizes of feature maps are exact however the file computes
them. Values are small by design: a file cannot make this fill the memory.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vovnet.printing import line
from vovnet.profiling.cost_types import Shape
from vovnet.profiling.onnx.inputs import times

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, TypeProto

MAX_VALUES = 2**14  # of one tensor
MAX_VALUES_IN_ALL = 2**24

_NOTHING: frozenset[Any] = frozenset()
# Operators that need no more time or memory than their inputs and outputs take.
_FOLDED = re.compile(
    r"""Abs | Add | And | Bitwise(And|Not|Or|Xor) | Cast(Like)? | Ceil | Clip | Concat | ConstantOfShape | CumSum | Div
    | Equal | Expand | Flatten | Floor | Gather(Elements|ND)? | (Greater|Less)(OrEqual)? | Identity | Max | Mean | Min
    | Mod | Mul | Neg | NonZero | Not | Or | Pad | Pow | Range | Reciprocal | Reduce(Max|Mean|Min|Prod|Sum) | Relu
    | Reshape | Round | Scatter(Elements|ND) | Sign | Slice | Split | Sqrt | (Uns|S)queeze | Sub | Sum | Tile | TopK
    | Transpose | Unique | Where | Xor""",
    re.VERBOSE,
)
_NO_MORE_THAN_READ = {"NonZero", "Unique"}  # the number of outputs depends on values, but not more than inputs × rank


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a tensor.

    type: None if nothing is.
    value: None if it is large or depends on the values of the input.
    origins: the arrays of the file that it is computed from, if it is computed from nothing else and from sizes; each
        is named by the place of its graph and its own name. None if it depends on the values of the input.
    """

    type: TypeProto | None = None
    value: NDArray[Any] | None = None
    origins: frozenset[tuple[Any, ...]] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Known):
            return NotImplemented
        return self.type == other.type and self.origins == other.origins and _equal(self.value, other.value)

    @cached_property
    def shape(self) -> Shape | None:
        """None unless every size is known."""
        if self.type is None or not self.type.tensor_type.HasField("shape"):
            return None
        dims = self.type.tensor_type.shape.dim
        known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
        return tuple(dim.dim_value for dim in dims) if known else None

    @property
    def is_typed(self) -> bool:
        return self.type is not None and (
            self.format != 0 or self.type.WhichOneof("value") not in (None, "tensor_type")
        )

    @property
    def format(self) -> int:
        """Number format, of `TensorProto.DataType`; 0 if it is not known."""
        return 0 if self.type is None else self.type.tensor_type.elem_type


Scope = ChainMap[str, Known]


def tensor_type(elem_type: int, shape: Shape | None) -> TypeProto:
    from onnx import TypeProto

    result = TypeProto()
    result.tensor_type.elem_type = elem_type
    if shape is not None:
        result.tensor_type.shape.SetInParent()
        for size in shape:
            result.tensor_type.shape.dim.add().dim_value = size
    return result


def joined(one: Known, other: Known) -> Known:
    """What holds for both."""
    origins = one.origins if one.origins == other.origins else None
    if one == other:
        return one
    if one.type is None or other.type is None or not one.format or one.format != other.format:
        return Known(origins=origins)
    result = tensor_type(one.format, None)
    declared, others = one.type.tensor_type, other.type.tensor_type
    shaped = declared.HasField("shape") and others.HasField("shape")
    if shaped and len(declared.shape.dim) == len(others.shape.dim):
        result.tensor_type.shape.SetInParent()
        for dim, twin in zip(declared.shape.dim, others.shape.dim, strict=True):
            size = result.tensor_type.shape.dim.add()
            if dim.HasField("dim_value") and dim == twin:
                size.dim_value = dim.dim_value
    return Known(result, one.value if _equal(one.value, other.value) else None, origins)


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))


def stacked(size: int | None, known: Known) -> Known:
    """That many tensors of this type, stacked along a new first dimension."""
    if known.type is None or not known.format:
        return Known()
    result = tensor_type(known.format, None)
    if known.type.tensor_type.HasField("shape"):
        dim = result.tensor_type.shape.dim.add()
        if size is not None:
            dim.dim_value = size
        result.tensor_type.shape.dim.extend(known.type.tensor_type.shape.dim)
    return Known(result)


class Inference:
    """Infers what is known of the outputs of nodes, within a budget of values."""

    def __init__(self, path: Path, opsets: dict[str, int]) -> None:
        from onnx import helper

        self.path = path
        self.opsets = opsets
        self._imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        self._left = MAX_VALUES_IN_ALL

    def array(self, array: TensorProto, place: tuple[Any, ...], sparse_shape: Shape | None = None) -> Known:
        """An array of the file; one that is stored beside it is read only if it is small and in the same folder.

        sparse_shape: if `array` only has the values of a sparse one.
        """
        shape = tuple(array.dims) if sparse_shape is None else sparse_shape
        small = sparse_shape is None and math.prod(shape) <= MAX_VALUES
        value = self._kept(_read(array, self.path.parent)) if small else None
        return Known(tensor_type(array.data_type, shape), value, frozenset({place}))

    def outputs(self, node: NodeProto, inputs: list[Known]) -> list[Known]:
        """For each output of a node without graphs inside it.

        Raises ValueError for a node that does not fit its inputs.
        """
        if node.op_type in ("Shape", "Size") and node.domain == "" and inputs[0].shape is not None:
            return [self._size(node, inputs[0].shape)]
        types = self._types(node, inputs)
        for name, output in zip(node.output, types, strict=True):
            self.check(name, output)
        values = self._values(node, inputs, types)
        return [
            Known(output.type if value is None else _type_of(value, output), value)
            for output, value in zip(types, values, strict=True)
        ]

    def check(self, name: str, known: Known) -> None:
        """Raises ValueError for sizes that inference accepts in damaged or malicious files."""
        dims = () if known.type is None else known.type.tensor_type.shape.dim
        sizes = [dim.dim_value for dim in dims if dim.HasField("dim_value")]
        if sizes and (min(sizes) < 0 or math.prod(sizes) >= 2**63):
            raise ValueError(f"{self.path} gives {line(name)} an impossible size: {line(times(sizes))}")

    def _size(self, node: NodeProto, shape: Shape) -> Known:
        if node.op_type == "Size":
            value = np.array(math.prod(shape), np.int64)
        else:
            limits = {attribute.name: attribute.i for attribute in node.attribute}
            value = np.array(shape[limits.get("start", 0) : limits.get("end", len(shape))], np.int64)
        return Known(_type_of(value), value, _NOTHING)

    def _types(self, node: NodeProto, inputs: list[Known]) -> list[Known]:
        from onnx import defs

        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except defs.SchemaError:
            try:  # ONNX Runtime has some operators before ONNX has them
                schema = defs.get_schema(node.op_type, node.domain)
            except defs.SchemaError:
                return [Known() for _ in node.output]
        named = {name: known for name, known in zip(node.input, inputs, strict=True) if name}
        try:
            found = self._inferred(schema, node, named)
        except _inference_errors() as error:
            if not all(known.is_typed for known in named.values()):
                return [Known() for _ in node.output]
            # ONNX Runtime has quantised forms of operators that take only floating-point numbers in ONNX.
            real = {name: _as_float(known) for name, known in named.items()}
            try:
                found = {
                    name: _as_float(Known(value), inputs[0].format).type
                    for name, value in self._inferred(schema, node, real).items()
                }
            except _inference_errors() as another:
                if re.search("(unsupported|inconsistent) type", str(another)):  # but perhaps ONNX Runtime takes it
                    return [Known() for _ in node.output]
                raise unfit(self.path, error) from None
        return [Known(found.get(name)) for name in node.output]

    def _inferred(self, schema: Any, node: NodeProto, named: dict[str, Known]) -> dict[str, Any]:
        from onnx import TypeProto, numpy_helper, shape_inference

        types = {name: known.type or TypeProto() for name, known in named.items()}
        data = {
            name: numpy_helper.from_array(known.value, name) for name, known in named.items() if known.value is not None
        }
        return shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=self._imports)

    def _values(self, node: NodeProto, inputs: list[Known], outputs: list[Known]) -> list[NDArray[Any] | None]:
        nothing: list[NDArray[Any] | None] = [None for _ in node.output]
        given = {name: known.value for name, known in zip(node.input, inputs, strict=True) if name}
        if node.domain or not _FOLDED.fullmatch(node.op_type) or any(value is None for value in given.values()):
            return nothing
        sizes = [output.shape for name, output in zip(node.output, outputs, strict=True) if name]
        if node.op_type not in _NO_MORE_THAN_READ:
            if any(shape is None for shape in sizes):
                return nothing
            if sum(math.prod(shape) for shape in sizes if shape is not None) > MAX_VALUES:
                return nothing
        from onnx.reference import ReferenceEvaluator

        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(node, opsets=self.opsets).run(None, given)
        except Exception:  # of any kind: the node is from a stranger, and its value only stays unknown
            return nothing
        computed = dict(zip([name for name in node.output if name], results, strict=False))
        return [self._kept(computed.get(name)) for name in node.output]

    def _kept(self, value: Any) -> NDArray[Any] | None:
        """The value, if it is an array of numbers within the budget."""
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "biuf":
            return None
        value = np.asarray(value)
        if value.size > min(MAX_VALUES, self._left):
            return None
        self._left -= value.size
        return value


def _inference_errors() -> tuple[type[Exception], ...]:
    from onnx import checker, shape_inference

    return shape_inference.InferenceError, checker.ValidationError, RuntimeError, ValueError, KeyError


def _as_float(known: Known, elem_type: int | None = None) -> Known:
    """The same with another number format: float32 in place of one of quantised values, or `elem_type`."""
    from onnx import TensorProto, TypeProto

    quantised = known.format in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)
    if known.type is None or (elem_type is None and not quantised):
        return known
    result = TypeProto()
    result.CopyFrom(known.type)
    result.tensor_type.elem_type = TensorProto.FLOAT if elem_type is None else elem_type
    return Known(result)


def unfit(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} has a node that does not fit its inputs: {line(str(error), 250)}")


def _type_of(value: NDArray[Any], inferred: Known | None = None) -> TypeProto:
    from onnx import helper

    elem_type = inferred.format if inferred and inferred.format else helper.np_dtype_to_tensor_dtype(value.dtype)
    return tensor_type(elem_type, value.shape)


def _read(array: TensorProto, folder: Path) -> NDArray[Any] | None:
    """The values of a small array; None for one that is damaged or lies elsewhere than in the folder."""
    from onnx import TensorProto, helper, numpy_helper

    try:
        if array.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(array)
        where = {entry.key: entry.value for entry in array.external_data}
        file = (folder / where["location"]).resolve(strict=True)
        if not file.is_file() or not file.is_relative_to(folder.resolve()):
            return None
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(array.data_type))
        with file.open("rb") as stream:
            stream.seek(int(where.get("offset", 0)))
            content = stream.read(math.prod(array.dims) * dtype.itemsize)
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(tuple(array.dims))
    except (KeyError, ValueError, TypeError, OSError, OverflowError):
        return None
