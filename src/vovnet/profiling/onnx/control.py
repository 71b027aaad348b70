"""Counting nodes with graphs inside them: If, Loop and Scan, and operators that are not known.

If counts the branch that runs. Where that depends on values, it is the larger one, and `Tally.larger` says so. A loop
counts its body as often as it runs. Where that depends on values, one pass is counted, and the loop is uncounted: the
count is a lower bound. The parameters of all graphs count, except those of branches that never run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from vovnet.profiling.cost_types import Cost
from vovnet.profiling.onnx.graph import subgraphs
from vovnet.profiling.onnx.scope import Known, joined, stacked, tensor_type
from vovnet.profiling.onnx.tally import Tally, merged

if TYPE_CHECKING:
    from onnx import NodeProto

CONTROL = {"If", "Loop", "Scan"}
MAX_PASSES = 2**31
MAX_STEPS = 2_000  # passes that are followed one by one, in the whole file
_ROUNDS = 4  # after which the sizes of a loop's state are given up

# Counts a graph of the node with this name and these inputs. Returns its tally and what is known of its outputs.
Body = Callable[[str, Sequence[Known]], tuple[Tally, list[Known]]]


@dataclass
class Steps:
    """How many passes of loops may still be followed one by one."""

    left: int = MAX_STEPS


@dataclass(frozen=True)
class Outcome:
    """complete: False if the tally is a lower bound because of this node itself."""

    tally: Tally
    outputs: list[Known]
    complete: bool = True


def count_inside(node: NodeProto, path: str, inputs: list[Known], body: Body, steps: Steps) -> Outcome:
    """Raises ValueError for a node whose graphs do not fit it."""
    graphs = dict(subgraphs(node))
    kind = node.op_type if node.domain == "" else ""
    if kind == "If" and {"then_branch", "else_branch"} <= graphs.keys():
        return _count_if(path, inputs[0], body)
    if kind in ("Loop", "Scan") and graphs.keys() == {"body"} and len(graphs["body"].input) == len(inputs):
        if kind == "Loop" and len(inputs) > 1:
            return _count_loop(node, path, inputs, body, steps)
        scanned = next((attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs"), 0)
        if kind == "Scan" and 0 < scanned <= len(inputs):
            return _count_scan(node, path, inputs, scanned, body)
    tally = Tally()
    for name in graphs:
        tally.add(body(name, ())[0])
    return Outcome(tally, [Known() for _ in node.output], complete=False)


# If -----------------------------------------------------------------------------------------------------------------


def _count_if(path: str, condition: Known, body: Body) -> Outcome:
    if condition.value is not None and condition.value.size == 1:
        return Outcome(*body("then_branch" if condition.value.item() else "else_branch", ()))
    branches, errors = [], []
    for name in ("then_branch", "else_branch"):
        try:
            branches.append(body(name, ()))
        except ValueError as error:  # a branch that does not fit does not run
            errors.append(error)
    if not branches:
        raise errors[0]
    if len(branches) == 1:
        return Outcome(*branches[0])
    (one, outputs), (other, others) = branches
    larger, smaller = (one, other) if _size(one) >= _size(other) else (other, one)
    total = Tally([*larger.rows, *(replace(row, cost=Cost(), format=None) for row in smaller.rows)])
    total.add(replace(larger, rows=[]))
    total.add(replace(smaller, rows=[]))
    if one.cost != other.cost:
        total.larger[path] = None
    return Outcome(total, [_either(*pair) for pair in zip(outputs, others, strict=False)])


def _either(one: Known, other: Known) -> Known:
    weights = None if one.origins is None or other.origins is None else one.origins | other.origins
    return replace(joined(one, other), origins=weights)


def _size(tally: Tally) -> tuple[int, int]:
    return tally.cost.multiply_adds, tally.cost.elements


# Loops --------------------------------------------------------------------------------------------------------------


def _count_loop(node: NodeProto, path: str, inputs: list[Known], body: Body, steps: Steps) -> Outcome:
    """The inputs are the highest number of passes, whether to begin, and the state. The body takes the number of the
    pass, true, and the state, and returns whether to go on, the state, and elements to stack."""
    limited, limit, state = bool(node.input[0]), _scalar(inputs[0]), inputs[2:]
    begins = _scalar(inputs[1]) if node.input[1] else 1
    loop = _Loop(lambda number, now: body("body", (number, _true(), *now)), path, skip=1)
    general, outputs, steady = loop.steady(state)
    goes_on, elements = _scalar(outputs[0]), outputs[1 + len(state) :]
    if begins == 0 or (limited and limit is not None and limit <= 0):
        return Outcome(Tally(), [*state, *(stacked(0, known) for known in elements)])
    passes = None
    if begins is not None and (limit is not None or not limited):
        passes = 1 if goes_on == 0 else limit if goes_on and limited else None
        vague = general.unsized or general.larger or general.once
        if (goes_on is None or (passes is not None and vague)) and (
            exact := loop.followed(state, steady, limit if limited else None, steps)
        ):
            return exact
    return loop.outcome(general, steady, elements, passes) or loop.one_pass(state, steady, elements)


def _count_scan(node: NodeProto, path: str, inputs: list[Known], scanned: int, body: Body) -> Outcome:
    """The last inputs are read slice by slice, and what the body returns after the state is stacked in the same way."""
    axes = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    state, sequences = inputs[:-scanned], inputs[-scanned:]
    slices, lengths = [], set[int]()
    for known, axis in zip(sequences, axes.get("scan_input_axes") or [0] * scanned, strict=False):
        if known.shape is None or not -len(known.shape) <= axis < len(known.shape):
            slices.append(Known(origins=known.origins))
            continue
        sizes = list(known.shape)
        lengths.add(sizes.pop(axis))
        slices.append(Known(tensor_type(known.format, tuple(sizes)), origins=known.origins))
    loop = _Loop(lambda number, now: body("body", (*now, *slices)), path, skip=0)
    general, outputs, steady = loop.steady(state)
    elements = outputs[len(state) :]
    passes = lengths.pop() if len(lengths) == 1 else None
    if any(axes.get("scan_output_axes", ())):
        elements = [Known() for _ in elements]  # ONNX knows their sizes
    return loop.outcome(general, steady, elements, passes) or loop.one_pass(state, steady, elements)


@dataclass(frozen=True)
class _Loop:
    """run: the number of the pass and the state before it → its tally and outputs. skip: outputs before the state."""

    run: Callable[[Known, list[Known]], tuple[Tally, list[Known]]]
    path: str
    skip: int

    def steady(self, state: list[Known]) -> tuple[Tally, list[Known], list[Known]]:
        """The tally and outputs of any pass, and what is known of the state before and after any pass."""
        now = state
        for attempt in range(_ROUNDS):
            tally, outputs = self.run(_number(None), now)
            after = self._state(outputs, now)
            if after == now:
                return tally, outputs, now
            now = after if attempt < _ROUNDS - 2 else [Known() for _ in after]
        return tally, outputs, now

    def _state(self, outputs: list[Known], now: list[Known]) -> list[Known]:
        if len(outputs) < self.skip + len(now):
            raise ValueError(f"the loop {self.path} has a body that returns less than the state of the loop")
        return [joined(*pair) for pair in zip(now, outputs[self.skip :], strict=False)]

    def followed(self, state: list[Known], steady: list[Known], limit: int | None, steps: Steps) -> Outcome | None:
        """Pass by pass; None if that takes long, or whether a pass follows depends on values."""
        tallies, stack = list[Tally](), list[Known]()
        now = _without_constants(state, steady)
        while limit is None or len(tallies) < limit:
            steps.left -= 1
            if steps.left < 0:
                return None
            tally, (goes_on, *outputs) = self.run(_number(len(tallies)), now)
            now, elements = _without_constants(outputs, steady), outputs[len(state) :]
            stack = [joined(*pair) for pair in zip(stack, elements, strict=True)] if tallies else elements
            tallies.append(tally)
            if _scalar(goes_on) is None:
                return None
            if not _scalar(goes_on):
                break
        return Outcome(merged(tallies), [*now, *(stacked(len(tallies), known) for known in stack)])

    def outcome(self, general: Tally, steady: list[Known], elements: list[Known], passes: int | None) -> Outcome | None:
        if passes is None or passes > MAX_PASSES:
            return None
        return Outcome(general.repeated(passes), [*steady, *(stacked(passes, known) for known in elements)])

    def one_pass(self, state: list[Known], steady: list[Known], elements: list[Known]) -> Outcome:
        tally, _ = self.run(_number(0), _without_constants(state, steady))
        tally.once[self.path] = None
        return Outcome(tally, [*steady, *(stacked(None, known) for known in elements)], complete=False)


def _without_constants(state: list[Known], steady: list[Known]) -> list[Known]:
    """The state before a pass, in which only what no pass changes is computed from nothing but arrays of the file."""
    return [replace(known, origins=any_pass.origins) for known, any_pass in zip(state, steady, strict=False)]


def _scalar(known: Known) -> int | None:
    return int(known.value.item()) if known.value is not None and known.value.size == 1 else None


def _number(number: int | None) -> Known:
    from onnx import TensorProto

    return Known(tensor_type(TensorProto.INT64, ()), None if number is None else np.array(number, np.int64))


@cache
def _true() -> Known:
    from onnx import TensorProto

    return Known(tensor_type(TensorProto.BOOL, ()), np.array(True))
