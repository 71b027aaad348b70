"""The cost of layers and models: parameters, multiply-adds, memory access."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any

import torch
from pydantic import AfterValidator

from vovnet.profiling.ranges import Count, NonNegative

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """Counts of a layer or of a whole model, for the whole batch. Costs can be added.

    memory_access_cost: elements that products read and write, Eq. (1) of the paper.
    memory_access_bound: the least memory access cost possible for the same multiply-adds.
    other_elements: elements that all other operations read and write.
    batch_norm_elements: outputs of batch norms. With the multiply-adds, they are the FLOPs of the paper's Table 4.
    uncounted_calls: calls of operations whose arithmetic is not known. With any, multiply-adds and memory access cost
        are lower bounds, since the operation may be a product.
    unsized_calls: those of them whose sizes are not known either. With any, the elements are a lower bound too.
    """

    parameters: Count = 0
    multiply_adds: Count = 0
    memory_access_cost: Count = 0
    memory_access_bound: NonNegative = 0.0
    other_elements: Count = 0
    batch_norm_elements: Count = 0
    uncounted_calls: Count = 0
    unsized_calls: Count = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)))

    @classmethod
    def of_product(cls, *, multiply_adds: int, read: int, written: int, weight: int, times: int = 1) -> Cost:
        """The cost of a convolution or matrix product with these elements of input, output and weight."""
        return cls(
            multiply_adds=times * multiply_adds,
            memory_access_cost=times * (read + written + weight),
            memory_access_bound=times * (2 * math.sqrt(read * written) + weight),
        )

    @property
    def elements(self) -> int:
        """All elements read and written."""
        return self.memory_access_cost + self.other_elements

    @property
    def flops(self) -> int:
        """Two per multiply-add; the arithmetic of norms, activations and pools is not included."""
        return 2 * self.multiply_adds

    @property
    def memory_access_ratio(self) -> float | None:
        """Memory access cost over its bound, at least 1; None without a product, and if something is uncounted."""
        if self.uncounted_calls or not self.memory_access_bound:
            return None
        return self.memory_access_cost / self.memory_access_bound

    def flops_per_byte(self, element_bytes: int) -> float | None:
        """Arithmetic intensity if every operation reads and writes memory; a lower bound if something is uncounted.

        None if nothing is read or written, and if sizes are not known: the ratio of two lower bounds says nothing.
        """
        return None if self.unsized_calls or not self.elements else self.flops / (self.elements * element_bytes)


@dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """The cost of one call of one module, without the modules inside it.

    A module that is called twice has two of these, and the first one has its parameters. A module with parameters that
    is never called has one without shapes.

    path: its name in `named_modules()`; "" for the model itself.
    kind: name of its class.
    """

    path: str
    kind: str
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()


def check_dtype(name: str) -> str:
    """`name`; ValueError if PyTorch has no number format of this name."""
    if not isinstance(getattr(torch, name, None), torch.dtype):
        raise ValueError(f'dtype must be the name of a PyTorch number format such as "float32", got {name!r}')
    return name


@dataclass(frozen=True)
class ModelCost:
    """The layers of a model in the order of their calls.

    kind: class name of the model, or the name of its file.
    uncounted: operation → number of calls; their arithmetic is not known and not counted.
    note: what limits the counts, if anything.
    """

    kind: str
    input_shapes: tuple[Shape, ...]
    dtype: Annotated[str, AfterValidator(check_dtype)]
    layers: tuple[LayerCost, ...]
    uncounted: dict[str, int]
    note: str | None

    @property
    def total(self) -> Cost:
        total = sum(self.layers, Cost())
        if total.uncounted_calls or not self.uncounted:
            return total
        return replace(total, uncounted_calls=sum(self.uncounted.values()))  # old records do not say it for each layer

    @property
    def is_lower_bound(self) -> bool:
        """Whether the multiply-adds are a lower bound."""
        return bool(self.uncounted)

    @property
    def element_bytes(self) -> int:
        return getattr(torch, self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """All fields with the values derived from them, ready for JSON."""

        def row(cost: Cost) -> dict[str, Any]:
            derived = {"flops": cost.flops, "memory_access_ratio": cost.memory_access_ratio}
            return asdict(cost) | derived | {"flops_per_byte": cost.flops_per_byte(self.element_bytes)}

        return {
            **{key: getattr(self, key) for key in ("kind", "input_shapes", "dtype", "uncounted", "note")},
            "total": row(self.total),
            "layers": [row(layer) for layer in self.layers],
        }
