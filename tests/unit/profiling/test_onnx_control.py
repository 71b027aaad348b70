"""What runs inside If, Loop, Scan and functions of ONNX files, against PyTorch's count of the same modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from vovnet.profiling.cost import count_cost
from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.tally import Tally

from .onnx_files import (
    FLOAT,
    IMAGE,
    PIXELS,
    TensorProto,
    array,
    conv,
    depends_on_values,
    helper,
    inner,
    loop_body,
    node,
    numbers,
    numpy_helper,
    write,
)

W = array("w", 4, 4, 3, 3)
W2 = array("w2", 4, 4, 3, 3)
ONE = count_cost(nn.Conv2d(4, 4, 3, padding=1, bias=False), IMAGE).total
TRUE = numpy_helper.from_array(np.array(True), "true")


def value(name: str, number: int) -> TensorProto:
    return numpy_helper.from_array(np.array(number, np.int64), name)


def branch(*convolutions: Any, output: str, constants: Any = ()) -> Any:
    return inner(convolutions, output, constants=constants)


SINGLE = branch(conv("x", "a"), output="a")
DOUBLE = branch(conv("x", "b"), conv("b", "c", "w2"), output="c", constants=[W2])


@pytest.mark.parametrize(
    ("condition", "branches", "products", "parameters", "noted"),
    [
        pytest.param([], (SINGLE, DOUBLE), 1, 1, False, id="the first always"),
        pytest.param([], (DOUBLE, SINGLE), 2, 2, False, id="the larger always"),
        pytest.param(depends_on_values(TensorProto.BOOL), (SINGLE, SINGLE), 1, 1, False, id="equal branches"),
        pytest.param(depends_on_values(TensorProto.BOOL), (SINGLE, DOUBLE), 2, 2, True, id="it depends"),
    ],
)
def test_branches(
    tmp_path: Path, condition: list[Any], branches: tuple[Any, Any], products: int, parameters: int, noted: bool
) -> None:
    chosen = node(
        "If", condition[-1].output[0] if condition else "true", then_branch=branches[0], else_branch=branches[1]
    )
    cost = count_onnx_cost(write(tmp_path, *condition, chosen, constants=[W, TRUE]))
    assert cost.total.multiply_adds == products * ONE.multiply_adds
    assert cost.total.memory_access_cost == products * ONE.memory_access_cost
    assert cost.total.parameters == parameters * ONE.parameters
    assert cost.uncounted == {}
    assert (cost.note is not None and "larger branch" in cost.note) == noted


def test_a_condition_on_the_shape_is_known(tmp_path: Path) -> None:
    nodes = node("Shape", "x", "s"), node("Gather", "s last", "width"), node("Greater", "width eight", "wide")
    chosen = node("If", "wide", then_branch=DOUBLE, else_branch=SINGLE)
    constants = [W, value("last", 3), value("eight", 8)]
    path = write(
        tmp_path, *nodes, chosen, conv("y", "z"), constants=constants, shape=(1, 4, "h", "w"), outputs={"z": FLOAT}
    )
    for width, products in ((6, 2), (9, 3)):
        cost = count_onnx_cost(path, (1, 4, 6, width))
        assert cost.total.multiply_adds == products * ONE.multiply_adds * width // 6
        assert cost.note is None


def test_a_branch_that_does_not_fit_does_not_run(tmp_path: Path) -> None:
    misfit = inner([node("Reshape", "x seven", "r"), conv("r", "d")], "d", constants=[numbers("seven", 7)])
    for condition in ([], depends_on_values(TensorProto.BOOL)):
        chosen = node("If", "v" if condition else "true", then_branch=SINGLE, else_branch=misfit)
        cost = count_onnx_cost(write(tmp_path, *condition, chosen, constants=[W, TRUE]))
        assert cost.total.multiply_adds == ONE.multiply_adds
        assert cost.uncounted == {}


def test_branches_with_weights_of_the_same_name(tmp_path: Path) -> None:
    other = inner([conv("x", "c", "own")], "c", constants=[array("own", 4, 4, 3, 3)])
    same = inner([conv("x", "b", "own")], "b", constants=[array("own", 4, 4, 3, 3)])
    nodes = depends_on_values(TensorProto.BOOL)
    cost = count_onnx_cost(write(tmp_path, *nodes, node("If", "v", then_branch=same, else_branch=other)))
    assert cost.total.parameters == 2 * ONE.parameters
    assert cost.total.multiply_adds == ONE.multiply_adds


STEP = loop_body([conv("s", "t")])
COUNTS = loop_body([conv("s", "t"), node("Add", "k one", "next"), node("Less", "next five", "on")], "s k", "t next")
FIRST_TWICE = loop_body(
    [
        node("Equal", "i zero", "first"),
        node(
            "If",
            "first",
            "t",
            then_branch=branch(conv("s", "b"), conv("b", "c"), output="c"),
            else_branch=branch(conv("s", "a"), output="a"),
        ),
    ]
)
TWICE = loop_body([node("Loop", "two  s", "t", body=loop_body([conv("u", "v")], "u", "v"))])
CARRIED = loop_body([conv("s", "t", "k"), node("Identity", "k", "same")], "s k", "t same")


@pytest.mark.parametrize(
    ("loop", "passes"),
    [
        pytest.param(node("Loop", "three  x", body=STEP), 3, id="a constant"),
        pytest.param(node("Loop", "three true x", body=STEP), 3, id="and a condition"),
        pytest.param(node("Loop", "width  x", body=STEP), 6, id="a size"),
        pytest.param(node("Loop", "zero  x", body=STEP), 0, id="none"),
        pytest.param(node("Loop", " true x zero", "y last", body=COUNTS), 5, id="while"),
        pytest.param(node("Loop", "three true x zero", "y last", body=COUNTS), 3, id="while, at most"),
        pytest.param(node("Loop", "three  x", body=FIRST_TWICE), 4, id="a branch in it"),
        pytest.param(node("Loop", "three  x", body=TWICE), 6, id="a loop in it"),
        pytest.param(node("Loop", "three  x w", "y same", body=CARRIED), 3, id="the weight is passed on"),
    ],
)
def test_loops_with_a_known_number_of_passes(tmp_path: Path, loop: Any, passes: int) -> None:
    numbers_of = {"zero": 0, "one": 1, "two": 2, "three": 3, "five": 5}
    constants = [W, TRUE, *(value(name, number) for name, number in numbers_of.items())]
    size = node("Shape", "x", "shape", start=3, end=4), node("Squeeze", "shape", "width")
    cost = count_onnx_cost(write(tmp_path, *size, loop, constants=constants))
    assert cost.total.multiply_adds == passes * ONE.multiply_adds
    assert cost.total.memory_access_cost == passes * ONE.memory_access_cost
    assert cost.total.parameters == (ONE.parameters if passes else 0)
    assert cost.uncounted == {}
    assert cost.note is None


def test_a_loop_whose_state_grows(tmp_path: Path) -> None:
    body = loop_body([node("Concat", "s row", "t", axis=0), node("MatMul", "t m", "p")], outputs="t p")
    constants = [array("row", 1, 6), array("m", 6, 5), value("three", 3)]
    path = write(tmp_path, node("Loop", "three  x", "y z", body=body), constants=constants, shape=(2, 6))
    cost = count_onnx_cost(path)
    assert cost.total.multiply_adds == (3 + 4 + 5) * 6 * 5
    assert cost.total.parameters == 36
    assert cost.uncounted == {}


@pytest.mark.parametrize(
    "loop",
    [
        pytest.param(node("Loop", "v  x", body=STEP), id="passes"),
        pytest.param(
            node(
                "Loop",
                "three  x",
                body=loop_body(
                    [
                        conv("s", "t"),
                        node("ReduceMax", "t", "m", keepdims=0),
                        node("Cast", "m", "on", to=TensorProto.BOOL),
                    ]
                ),
            ),
            id="an exit",
        ),
        pytest.param(node("Loop", " true x", body=STEP), id="no end"),
    ],
)
def test_a_loop_whose_end_depends_on_values_is_a_lower_bound(tmp_path: Path, loop: Any) -> None:
    path = write(tmp_path, *depends_on_values(TensorProto.INT64), loop, constants=[W, TRUE, value("three", 3)])
    cost = count_onnx_cost(path)
    assert cost.total.multiply_adds == ONE.multiply_adds
    assert cost.total.parameters == ONE.parameters
    assert cost.uncounted == {"Loop": 1}
    assert cost.note == "one pass of these loops is counted, since the number of passes depends on values: y"


def test_scan_runs_once_for_each_slice(tmp_path: Path) -> None:
    body = inner(
        [
            node("MatMul", "e m", "p"),
            node("MatMul", "h m", "q"),
            node("Add", "p q", "next"),
            node("Identity", "next", "o"),
        ],
        "next o",
        ["h", "e"],
    )
    constants = [array("m", 6, 6), array("start", 4, 6)]
    for axis, shape in ((0, (7, 4, 6)), (1, (4, 7, 6))):
        scan = node("Scan", "start x", "end y", body=body, num_scan_inputs=1, scan_input_axes=[axis])
        cost = count_onnx_cost(write(tmp_path, scan, constants=constants, shape=shape))
        assert cost.total.multiply_adds == 7 * 2 * 4 * 36
        assert cost.total.parameters == 36
        assert cost.uncounted == {}
    layers = inner([node("MatMul", "h e", "next")], "next", ["h", "e"])
    scan = node("Scan", "x stack", "y", body=layers, num_scan_inputs=1)
    cost = count_onnx_cost(write(tmp_path, scan, constants=[array("stack", 5, 6, 6)], shape=(4, 6)))
    assert (cost.total.multiply_adds, cost.total.parameters) == (5 * 4 * 36, 5 * 36)


def test_other_operators_with_graphs_are_named_and_their_parameters_count(tmp_path: Path) -> None:
    body = inner([conv("e", "f", "own")], "f", ["e"], [array("own", 4, 4, 3, 3)])
    cost = count_onnx_cost(write(tmp_path, node("Repeat", "x", body=body, domain="their")))
    assert cost.uncounted == {"their::Repeat": 1, "Conv": 1}
    assert cost.total.parameters == ONE.parameters


def test_functions_share_their_weights_between_calls(tmp_path: Path) -> None:
    weight = node("Constant", "", "w", value=array("", 4, 4, 3, 3))
    del weight.input[:]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("their", 1)]
    block = helper.make_function("their", "Block", ["a"], ["b"], [weight, conv("a", "b")], opsets)
    chosen = node(
        "If",
        "c",
        "b",
        then_branch=inner([node("Block", "a", "t", domain="their")], "t"),
        else_branch=inner([conv("a", "e")], "e", constants=[W]),
    )
    either = helper.make_function("their", "Either", ["a", "c"], ["b"], [chosen], opsets)
    nodes = *depends_on_values(TensorProto.BOOL), node("Block", "x", "p", domain="their")
    path = write(tmp_path, *nodes, node("Either", "p v", domain="their"), functions=[block, either])
    cost = count_onnx_cost(path)
    assert cost.total.multiply_adds == 2 * ONE.multiply_adds
    assert cost.total.parameters == 2 * ONE.parameters
    assert cost.uncounted == {}


# Files from strangers.


def test_functions_that_never_end(tmp_path: Path) -> None:
    def function(name: str, *calls: str) -> Any:
        names = ["a", *(f"t{i}" for i in range(len(calls) - 1)), "b"]
        nodes = [node(call, names[i], names[i + 1], domain="their") for i, call in enumerate(calls)]
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("their", 1)]
        return helper.make_function("their", name, ["a"], ["b"], nodes, opsets)

    for functions in ([function("F", "F")], [function("F", "G"), function("G", "F")]):
        with pytest.raises(ValueError, match=r"model\.onnx has a function that calls itself: F"):
            count_onnx_cost(write(tmp_path, node("F", "x", domain="their"), functions=functions))
    many = [function(f"F{i}", *[f"F{i + 1}"] * 10) for i in range(40)]
    with pytest.raises(ValueError, match=r"model\.onnx has more than \d+ nodes with those of the functions"):
        count_onnx_cost(write(tmp_path, node("F0", "x", domain="their"), functions=many))


def test_nodes_in_another_order_and_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path, conv("a", "y"), conv("x", "a"), constants=[W])
    assert count_onnx_cost(path).total.multiply_adds == 2 * ONE.multiply_adds
    body = loop_body([conv("s", "b"), node("Add", "b later", "t")])
    path = write(tmp_path, node("Loop", "n  x", body=body), node("Relu", "x", "later"), constants=[W, value("n", 2)])
    assert count_onnx_cost(path).total.multiply_adds == 2 * ONE.multiply_adds
    for nodes in (
        [node("Relu", "b", "a"), node("Relu", "a", "b"), conv("x", "y")],
        [node("If", "true", "y", then_branch=inner([conv("y", "a")], "a"), else_branch=SINGLE)],
    ):
        with pytest.raises(ValueError, match=r"model\.onnx has a cycle: \w+ needs its own output"):
            count_onnx_cost(write(tmp_path, *nodes, constants=[W, TRUE]))


def test_loops_inside_each_other_end(tmp_path: Path) -> None:
    def nested(depth: int) -> Any:
        grown = node("Concat", "s s", "t", axis=2)
        if not depth:
            return loop_body([grown])
        steps = [node("Loop", "three  s", "u", body=nested(depth - 1)), node("MatMul", "u m", "p")]
        steps += [node("Slice", "p zero one axis", "q"), node("Concat", "q s", "t", axis=2)]
        return loop_body(steps)

    constants = [array("m", 6, 6), value("three", 3), numbers("zero", 0), numbers("one", 1), numbers("axis", 2)]
    path = write(tmp_path, node("Loop", "three  x", body=nested(20)), constants=constants)
    cost = count_onnx_cost(path)
    assert cost.uncounted
    assert cost.total.parameters == 36
    steady = loop_body([conv("s", "t")])
    for _ in range(20):
        steady = loop_body([node("Loop", "three  s", "t", body=steady)])
    path = write(tmp_path, node("Loop", "three  x", body=steady), constants=[W, value("three", 3)])
    assert count_onnx_cost(path).total.multiply_adds == 3**21 * ONE.multiply_adds


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(node("Loop", "three  x", body=inner([], "s", ["s"])), id="a body of another form"),
        pytest.param(node("Loop", "three", body=STEP), id="a loop without inputs"),
        pytest.param(node("If", "true", then_branch=SINGLE), id="a branch is missing"),
        pytest.param(node("Scan", "x", body=STEP, num_scan_inputs=9), id="too many slices"),
    ],
)
def test_damaged_control_flow_is_uncounted(tmp_path: Path, damaged: Any) -> None:
    path = write(tmp_path, damaged, conv("x", "z"), constants=[W, TRUE, value("three", 3)], outputs={"z": FLOAT})
    cost = count_onnx_cost(path)
    assert cost.uncounted[damaged.op_type] == 1
    assert cost.total.multiply_adds >= PIXELS * 4 * 36


def test_a_note_shows_hostile_names_of_nodes_short_and_on_one_line() -> None:
    note = Tally(unsized=dict.fromkeys(f"\x1b[2J\n{number}" + "x" * 10_000 for number in range(9))).note()
    assert note is not None
    assert note.isprintable()
    assert len(note) < 500
    assert note.endswith("more")
