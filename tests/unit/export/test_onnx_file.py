"""Exported ONNX files find what PyTorch finds, leave the model as it is, and hold nothing that is not needed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from vovnet.engine.detector import Detector
from vovnet.export.onnx_file import add_nms, make_network, make_onnx, set_info
from vovnet.export.source import describe_export
from vovnet.models.detectors.decoding import select_detections
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.selection import select_images
from vovnet.weights.detector import LoadedModel, load_weights

from ...exported import bccd_onnx, example_info, in_order, lively, sample_images

BLANK = torch.full((3, 300, 300), 127, dtype=torch.uint8)  # in which no cell is


@pytest.fixture(scope="module")
def bccd() -> LoadedModel:
    return load_weights("bccd")


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> OnnxSession:
    path = tmp_path_factory.mktemp("onnx") / "bccd.onnx"
    path.write_bytes(bccd_onnx())
    return OnnxSession(path, threads=1)


# The shipped detector -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.01, 0.3])
@pytest.mark.parametrize("count", [1, 3])
def test_the_file_finds_what_pytorch_finds(bccd, session, count: int, threshold: float) -> None:
    images = sample_images(count, (300, 300))
    sizes = [(480, 640), (300, 300), (299, 1001)][:count]
    expected = Detector(bccd.model, bccd.info.class_names, bccd.info.category_ids).detect(
        list(images), sizes, score_threshold=threshold
    )
    found = select_images(
        session.run(images.numpy(), threshold),
        sizes,
        (300, 300),
        score_threshold=threshold,
        top_k=session.info.top_k,
    )
    assert sum(map(len, expected)) > 10 * count
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.image_size == theirs.image_size
        np.testing.assert_allclose(
            in_order(ours.labels, ours.boxes, ours.scores),
            in_order(theirs.labels, theirs.boxes, theirs.scores),
            atol=2e-3,
        )
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)  # best first


def test_images_without_objects_give_no_rows(session) -> None:
    cells = sample_images(2, (300, 300))
    rows = session.run(torch.stack([BLANK, cells[0], BLANK, cells[1]]).numpy(), 0.3)
    assert set(rows.image.tolist()) == {1, 3}
    alone = session.run(torch.stack([BLANK, BLANK, BLANK]).numpy(), 0.3)
    shapes = alone.image.shape, alone.boxes.shape, alone.labels.shape, alone.scores.shape
    assert shapes == ((0,), (0, 4), (0,), (0,))
    found = select_images(alone, [(10, 10)] * 3, (300, 300), score_threshold=0.3, top_k=100)
    assert [len(arrays.scores) for arrays in found] == [0, 0, 0]


def test_images_in_any_order_of_memory(session) -> None:
    image = sample_images(1, (300, 300)).numpy()
    strided = np.ascontiguousarray(image.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert not strided.flags.c_contiguous
    expected, found = session.run(image, 0.3), session.run(strided, 0.3)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_the_graph_is_tidy() -> None:
    model = onnx.load_from_string(bccd_onnx())
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["images", "score_threshold"]
    assert [value.name for value in model.graph.output] == ["image", "boxes", "labels", "scores"]
    batch, *size = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch"
    assert [side.dim_value for side in size] == [3, 300, 300]
    used = {name for node in model.graph.node for name in node.input}
    assert [item.name for item in model.graph.initializer if item.name not in used] == []
    made = {name for node in model.graph.node for name in node.output} - {""}
    assert made <= used | {value.name for value in model.graph.output} | {"top_anchors"}
    assert not [node.op_type for node in model.graph.node if "Scatter" in node.op_type]  # anchors are constants
    weights = sum(value.numel() * 4 for value in load_weights("bccd").model.state_dict().values())
    anchors = 8108 * 4 * 4
    assert len(bccd_onnx()) < 1.02 * weights + anchors + 50_000
    assert b"site-packages" not in bccd_onnx()
    assert os.fsencode(Path(__file__).parents[3]) not in bccd_onnx()  # no folder of this machine
    assert model.producer_name == "vovnet"


# Every detector -----------------------------------------------------------------------------------------------------

QUICK = ("ssd300_mobilenet", "refinedet320_vovnet27_slim")
SLOW = (
    "pelee304",
    "ssdfpn320_vovnet19_tiny",
    "dsod300_vovnet27_slim",
    "dsod300_vovnet27_slim_bottleneck",
    "dsod300_densenet67",
    "refinedet320_vovnet39",
    "refinedet512_vovnet57",
    "refinedet320_resnet50",
    "refinedet320_vgg16",
    "refinedet320_densenet201",
    "refinedet320_mobilenet",
    "refinedet320_peleenet",
    "refinedet320_vovnet39_ese",
    "refinedet320_timm/convnext_tiny",
    "refinedet320_timm/mobilenetv3_large_100",
    "refinedet320_timm/efficientnet_b0",
)
ALL_OF_THEM = 100_000
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.mark.parametrize("name", ALL)
def test_every_detector(tmp_path, name: str) -> None:
    """Also with other images and batches than the one of the export."""
    check_export(tmp_path, lively(name, 80 if name == "ssd300_mobilenet" else 3))


def test_default_boxes_that_the_options_list(tmp_path) -> None:
    """Also of another number than the published ones."""
    boxes = [[[33.5, 41.2], [60, 20]], [[90, 80]], *([[140.0 + 20 * level, 120]] * 3 for level in range(4))]
    loaded = lively("ssd300_mobilenet", 3, anchors=boxes)
    assert loaded.info.options == {"anchors": boxes}
    check_export(tmp_path, loaded)


def check_export(tmp_path: Path, loaded: LoadedModel) -> None:
    """The exported file finds what PyTorch finds."""
    network = make_onnx(loaded.model, describe_export(loaded, "float32"))
    (tmp_path / "x.onnx").write_bytes(network.SerializeToString())
    session = OnnxSession(tmp_path / "x.onnx", threads=1)
    size = loaded.model.preprocessing.image_size
    images = sample_images(4, size)[1:]
    detector = Detector(loaded.model, loaded.info.class_names, loaded.info.category_ids)
    for batch in (images, images[:1]):
        # All of them, since equal scores at the end of the best would be cut in any order.
        expected = detector.detect(list(batch), [size] * len(batch), score_threshold=0.3, top_k=ALL_OF_THEM)
        rows, sizes = session.run(batch.numpy(), 0.3), [size] * len(batch)
        found = select_images(rows, sizes, size, score_threshold=0.3, top_k=ALL_OF_THEM)
        assert sum(map(len, expected)) > 20
        # The rounding of 50 layers of random weights moves a box by 0.01 pixels and a score by 0.002. Of thousands of
        # pairs of boxes, some lie that close to the threshold of NMS.
        missed = sum(
            unmatched(
                in_order(ours.labels, ours.boxes, ours.scores), in_order(theirs.labels, theirs.boxes, theirs.scores)
            )
            for ours, theirs in zip(found, expected, strict=True)
        )
        assert missed <= 0.05 * sum(map(len, expected))


def unmatched(ours: np.ndarray, theirs: np.ndarray) -> int:
    """How many detections of either have no equal in the other."""
    close = np.abs(ours[:, None] - theirs[None])  # (D, E, 6): label, box, score
    equal = (close[..., 0] == 0) & (close[..., 1:5] < 0.3).all(-1) & (close[..., 5] < 5e-3)
    return int((~equal.any(0)).sum() + (~equal.any(1)).sum())


# NMS alone ----------------------------------------------------------------------------------------------------------


def nms_session(tmp_path: Path, info: ExportInfo, anchors: int) -> object:
    """What `add_nms` appends, behind a network that passes on its inputs."""
    import onnxruntime

    shapes = {"boxes": ["batch", anchors, 4], "scores": ["batch", anchors, len(info.class_names)]}
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"given_{name}"], [name]) for name in shapes],
        "given",
        [helper.make_tensor_value_info(f"given_{name}", TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    add_nms(model, info)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def run_both(tmp_path, boxes, scores, threshold: float, **changes: object) -> tuple[list, list]:
    classes = scores.shape[2]
    info = example_info(class_names=tuple(map(str, range(classes))), category_ids=tuple(range(classes)), **changes)
    session = nms_session(tmp_path, info, boxes.shape[1])
    inputs = {"given_boxes": boxes, "given_scores": scores, "score_threshold": np.array([threshold], np.float32)}
    rows = session.run(["image", "boxes", "labels", "scores"], inputs)
    from vovnet.runtime.session import Rows

    sizes = [(300, 300)] * len(boxes)
    ours = select_images(Rows(*rows), sizes, (300, 300), score_threshold=threshold, top_k=info.top_k)
    theirs = select_detections(
        torch.from_numpy(scores),
        torch.from_numpy(boxes),
        sizes,
        (300, 300),
        score_threshold=threshold,
        nms_threshold=info.nms_threshold,
        candidates=info.candidates,
        top_k=info.top_k,
    )
    return [[in_order(item.labels, item.boxes, item.scores) for item in side] for side in (ours, theirs)]


def random_boxes(batch: int, anchors: int, rng: np.random.Generator) -> np.ndarray:
    """Some far outside the image, some empty, some with negative sides."""
    start = rng.uniform(-100, 300, (batch, anchors, 2))
    size = rng.uniform(-5, 150, (batch, anchors, 2)) * rng.choice([1, 1, 1, 40], (batch, anchors, 1))
    return np.concatenate([start, start + np.maximum(size, 0)], axis=2).astype(np.float32)


@pytest.mark.parametrize(
    ("batch", "anchors", "classes", "threshold", "changes"),
    [
        (1, 500, 3, 0.3, {}),
        (3, 500, 3, 0.01, {}),
        (2, 900, 3, 0.01, {"candidates": 50}),
        (2, 300, 1, 0.01, {"candidates": 1000, "top_k": 500}),  # more candidates than anchors
        (2, 400, 80, 0.3, {"top_k": 50}),
        (1, 1, 1, 0.01, {}),
        (3, 200, 2, 0.999999, {}),  # nothing passes
        (2, 300, 3, 0.0, {"nms_threshold": 0.0}),
        (2, 300, 3, 0.0, {"nms_threshold": 1.0, "top_k": 100_000}),
    ],
)
def test_nms_selects_as_pytorch(tmp_path, batch, anchors, classes, threshold, changes) -> None:
    rng = np.random.default_rng(0)
    scores = rng.permutation(batch * anchors * classes).reshape(batch, anchors, classes) / (batch * anchors * classes)
    scores = (scores**2).astype(np.float32)  # all different
    ours, theirs = run_both(tmp_path, random_boxes(batch, anchors, rng), scores, threshold, **changes)
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_equal_scores(tmp_path) -> None:
    """Each box occurs three times with the same score, and all boxes of a class share it: once each remains."""
    corners = np.stack(np.meshgrid(np.arange(0, 300, 60), np.arange(0, 300, 60)), -1).reshape(-1, 2)
    boxes = np.tile(np.concatenate([corners, corners + 50], 1), (3, 1)).astype(np.float32)[None].repeat(2, 0)
    scores = np.full((2, 75, 2), 0.5, np.float32)
    scores[..., 1] = 0.25
    ours, theirs = run_both(tmp_path, boxes, scores, 0.1)
    for found, expected in zip(ours, theirs, strict=True):
        assert len(found) == 50
        np.testing.assert_array_equal(found, expected)


def test_a_score_at_the_threshold_does_not_count(tmp_path) -> None:
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 30, 30]]], np.float32)
    scores = np.array([[[0.25], [0.5]]], np.float32)
    ours, theirs = run_both(tmp_path, boxes, scores, 0.25)
    assert len(ours[0]) == len(theirs[0]) == 1


# The model and the user ---------------------------------------------------------------------------------------------


def test_the_model_stays_as_it_is_and_nothing_is_printed(capfd) -> None:
    loaded = lively("ssd300_mobilenet", 3)
    model = loaded.model.train().to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_network(model)
    assert capfd.readouterr() == ("", "")
    assert model.training
    assert all(module.training for module in model.modules())
    assert model.heads[0].cls.weight.is_contiguous(memory_format=torch.channels_last)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    image = sample_images(1, (300, 300))
    outputs = model.eval()(model.preprocessing.normalize(image))  # a fake tensor of the tracing would fail here
    assert len(model.decode(outputs, [(300, 300)])) == 1


class _Stubborn(torch.nn.Module):
    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        if images.sum() > 0:  # depends on the pixels
            images = images + 1
        return self.backbone(images)


def test_an_onnxscript_that_is_too_old_for_pytorch_is_named(monkeypatch) -> None:
    def export(*_, **__):
        raise RuntimeError from ModuleNotFoundError("No module named 'onnxscript.torch_9'")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ValueError, match=r"onnxscript does not fit .*torch_9.*: pip install --upgrade onnxscript"):
        make_network(lively("ssd300_mobilenet", 3).model, "ssd300_mobilenet")


def test_a_network_that_cannot_be_exported_gives_one_sentence(capfd) -> None:
    loaded = lively("ssd300_mobilenet", 3)
    loaded.model.backbone = _Stubborn(loaded.model.backbone)
    with pytest.raises(ValueError, match="^ssd300_mobilenet cannot be exported to ONNX ") as raised:
        make_onnx(loaded.model, describe_export(loaded, "float32"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package(monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=r"export to ONNX needs the packages onnx and onnxscript: pip install"
    ):
        make_network(load_weights("bccd").model)


# The description ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("🩸 red", 'say "cell"', "a\\b\n\t\0", "\ud800", "<script>", "数", "location"),
        tuple(f"class number {number} of LVIS, 物" for number in range(1203)),
    ],
    ids=["strange", "many"],
)
def test_names_of_classes_survive(tmp_path, bccd, names) -> None:
    info = replace(describe_export(bccd, "float32"), class_names=names, category_ids=tuple(range(len(names))))
    model = onnx.load_from_string(bccd_onnx())
    set_info(model, info)
    set_info(model, info)
    assert [entry.key for entry in model.metadata_props] == ["vovnet"]
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    assert OnnxSession(tmp_path / "x.onnx", threads=1).info == info
