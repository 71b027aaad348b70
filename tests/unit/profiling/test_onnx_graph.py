from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.module import OnnxModule

from .onnx_files import FLOAT, IMAGE, PIXELS, TensorProto, array, helper, node, numbers, only, write


def test_functions_of_the_file_are_inlined(tmp_path: Path) -> None:
    body = [node("Conv", "a w", "c"), node("Relu", "c", "b")]
    function = helper.make_function("their", "Block", ["a", "w"], ["b"], body, [helper.make_opsetid("", 20)])
    path = write(
        tmp_path, node("Block", "x w", domain="their"), constants=[array("w", 8, 4, 1, 1)], functions=[function]
    )
    cost = count_onnx_cost(path)
    assert [row.kind for row in cost.layers] == ["Conv", "Relu"]
    assert cost.total.multiply_adds == PIXELS * 32


def test_sizes_computed_from_an_open_batch_are_known_and_free(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Concat", "n rest", "r", axis=0),
        node("Reshape", "x r", "flat"),
        node("Gemm", "flat w"),
        constants=[numbers("zero", 0), numbers("rest", -1), array("w", 144, 5)],
        shape=("batch", *IMAGE[1:]),
    )
    for batch in (1, 3):
        cost = count_onnx_cost(path, (batch, *IMAGE[1:]))
        assert only(cost).multiply_adds == batch * 144 * 5
        assert cost.input_shapes == ((batch, *IMAGE[1:]),)
    with pytest.raises(ValueError, match="leaves the shape of its input x open: give input_shape"):
        count_onnx_cost(path)


@pytest.mark.parametrize(
    ("weight", "inputs", "message"),
    [
        pytest.param(
            TensorProto(name="w", data_type=FLOAT, dims=[-8, 4, 1, 1]), "x w", "impossible size", id="negative"
        ),
        pytest.param(
            TensorProto(name="w", data_type=FLOAT, dims=[2**62, 4, 1, 1]), "x w", "impossible size", id="huge"
        ),
        pytest.param(TensorProto(name="w", data_type=99, dims=[8, 4, 1, 1]), "x w", "format that does", id="format"),
        pytest.param(array("w", 8, 4, 1, 1), "x", "without the inputs or outputs", id="no weight"),
    ],
)
def test_damage_that_shape_inference_accepts(tmp_path: Path, weight: TensorProto, inputs: str, message: str) -> None:
    path = write(tmp_path, node("Conv", inputs), constants=[weight])
    with pytest.raises(ValueError, match=f"model.onnx .*{message}"):
        count_onnx_cost(path)
    with pytest.raises(ValueError, match=r"model\.onnx cannot be loaded"):
        OnnxModule(path)


@pytest.mark.parametrize("place", ["node", "input"])
def test_a_name_that_is_not_text(tmp_path: Path, place: str) -> None:
    inputs = [helper.make_tensor_value_info("abcdef" if place == "input" else "x", FLOAT, IMAGE)]
    path = write(tmp_path, node("Relu", inputs[0].name, name="abcdef" if place == "node" else ""), inputs=inputs)
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"ab\xff\xfeef"))
    with pytest.raises(ValueError, match="not UTF-8"):
        count_onnx_cost(path)
