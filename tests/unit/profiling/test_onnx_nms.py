"""NMS in an exported file: how many boxes it selects depends on values, so as many are counted as it may select."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vovnet.profiling.onnx.cost import count_onnx_cost

onnx = pytest.importorskip("onnx")
BATCH, CLASSES, BOXES = 2, 3, 50


def save(path: Path, most: int | None) -> Path:
    """Scores → the boxes that NMS selects → their batch numbers. most: for each class; None if it is an input."""
    helper, kinds = onnx.helper, onnx.TensorProto
    inputs = [helper.make_tensor_value_info("scores", kinds.FLOAT, [BATCH, CLASSES, BOXES])]
    arrays = [onnx.numpy_helper.from_array(np.zeros((BATCH, BOXES, 4), np.float32), "boxes")]
    arrays.append(onnx.numpy_helper.from_array(np.array(0, np.int64), "first"))
    if most is None:
        inputs.append(helper.make_tensor_value_info("most", kinds.INT64, [1]))
    else:
        arrays.append(onnx.numpy_helper.from_array(np.array([most], np.int64), "most"))
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["selected"], name="nms"),
        helper.make_node("Gather", ["selected", "first"], ["batch"], name="batch", axis=1),
    ]
    outputs = [helper.make_tensor_value_info("batch", kinds.INT64, ["detections"])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, arrays)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@pytest.mark.parametrize(("most", "rows"), [(10, 60), (1000, 300)])
def test_the_most_that_it_may_select_is_counted(most: int, rows: int, tmp_path: Path) -> None:
    cost = count_onnx_cost(save(tmp_path / "nms.onnx", most), (BATCH, CLASSES, BOXES))
    nms, gather = cost.layers
    assert nms.output_shapes == ((rows, 3),)
    assert gather.output_shapes == ((rows,),)
    assert not cost.is_lower_bound
    assert cost.note is not None
    assert "the most boxes that these nodes may select are counted" in cost.note
    assert cost.note.endswith("nms")


def test_without_a_limit_nothing_is_known(tmp_path: Path) -> None:
    cost = count_onnx_cost(save(tmp_path / "nms.onnx", None), (BATCH, CLASSES, BOXES))
    assert cost.is_lower_bound
