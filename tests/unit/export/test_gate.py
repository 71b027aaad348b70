"""What is wrong with an exported file must fail the gate, for a reason that names it; what is right must pass."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import vovnet.export.gate as gate
from vovnet.data.formats import open_dataset
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector, ExportedResizing
from vovnet.errors import UsageError
from vovnet.export.gate import judge
from vovnet.export.judging_images import JudgingImages
from vovnet.export.onnx_file import set_info
from vovnet.export.source import describe_export
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.session import Rows
from vovnet.structures import Detections
from vovnet.weights.detector import load_weights

from ...exported import bccd_onnx
from ...small_voc import write_small_voc


class RememberingDetector(Detector):
    """PyTorch's detections of the same images are computed once for all tests."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.known: dict[object, object] = {}

    def detect(self, images, image_sizes=None, **options):
        key = (tuple(image.numpy().tobytes() for image in images), str(image_sizes), str(options))
        if key not in self.known:
            self.known[key] = super().detect(images, image_sizes, **options)
        return self.known[key]


@dataclasses.dataclass
class Shipped:
    """The shipped detector, a right export of it, and three labelled images."""

    detector: Detector
    info: object
    session: OnnxSession
    images: JudgingImages
    path: Path

    def judge(self, session=None, *, info=None, images=None, max_drop=0.005):
        candidate = ExportedDetector(session or self.session, self.path)
        return judge(self.detector, candidate, images or self.images, info or self.info, max_drop=max_drop)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    loaded = load_weights("bccd")
    info = describe_export(loaded, "float32")
    path = folder / "bccd.onnx"
    path.write_bytes(described(info).SerializeToString())
    write_small_voc(folder / "data", train=1, val=3)
    dataset = open_dataset(folder / "data", "val", class_names=info.class_names)
    images = JudgingImages(tuple(sample.image_path for sample in dataset), "data", "val", dataset)
    detector = RememberingDetector(loaded.model, info.class_names, info.category_ids)
    return Shipped(detector, info, OnnxSession(path, threads=1), images, path)


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch):
    monkeypatch.setattr(gate, "times_ms", lambda *arguments: (2.0, 1.0))


def described(info):
    """The right network with this description."""
    network = onnx.load_from_string(bccd_onnx())
    set_info(network, info)
    return network


class Changed:
    """A session that is not what it seems: its inputs or its rows are changed."""

    runtime = "onnxruntime"

    def __init__(self, session, *, pixels=lambda images: images, rows=lambda rows, images: rows, threshold=None):
        self.session, self.info = session, session.info
        self.pixels, self.rows, self.threshold = pixels, rows, threshold

    def run(self, images, score_threshold):
        threshold = score_threshold if self.threshold is None else self.threshold
        return self.rows(self.session.run(np.ascontiguousarray(self.pixels(images)), threshold), images)


def keep(rows: Rows, kept) -> Rows:
    return Rows(rows.image[kept], rows.boxes[kept], rows.labels[kept], rows.scores[kept])


def only_first(rows, images):
    """What a batch that is frozen at one image finds."""
    return keep(rows, rows.image == 0)


def first_for_all(rows, images):
    first = keep(rows, rows.image == 0)
    count = len(images)
    image = np.repeat(np.arange(count), len(first.image))
    return Rows(image, np.tile(first.boxes, (count, 1)), np.tile(first.labels, count), np.tile(first.scores, count))


def refuse_batches(images):
    if len(images) != 1:
        raise ValueError("it takes one image")
    return images


def contrast(images):
    return np.clip((images.astype(np.float32) - 120) * 1.05 + 120, 0, 255).astype(np.uint8)


WRONG = {
    "a wrong mean": ({"pixels": lambda images: np.clip(images.astype(int) + 4, 0, 255).astype(np.uint8)}, "scores"),
    "a wrong standard deviation": ({"pixels": contrast}, "scores"),
    "swapped channels": ({"pixels": lambda images: images[:, ::-1]}, "scores"),
    "a batch frozen at one": ({"pixels": refuse_batches}, "fails on a batch of three"),
    "a batch of which only the first image counts": ({"rows": only_first}, "boxes in a batch of three are missing"),
    "the first image's results for all": ({"rows": first_for_all}, "in a batch of three should not be there"),
    "results for another image of the batch": (
        {"rows": lambda rows, images: dataclasses.replace(rows, image=(rows.image + 1) % len(images))},
        "in a batch of three",
    ),
    "classes in another order": (
        {"rows": lambda rows, images: dataclasses.replace(rows, labels=(rows.labels + 1) % 3)},
        "are there as another class",
    ),
    "a class left out": ({"rows": lambda rows, images: keep(rows, rows.labels != 0)}, "are missing"),
    "boxes one pixel away": (
        {"rows": lambda rows, images: dataclasses.replace(rows, boxes=rows.boxes + np.float32(1))},
        "have moved",
    ),
    "scores 0.01 too low": (
        {"rows": lambda rows, images: keep(dataclasses.replace(rows, scores=rows.scores - 0.01), rows.scores > 0.02)},
        "have other scores: they differ by up to 0.01",
    ),
    "the score threshold ignored": ({"threshold": 0.01}, "ignores the score threshold"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_fails_for_a_reason_that_names_it(shipped, name):
    changes, symptom = WRONG[name]
    verdict = shipped.judge(Changed(shipped.session, **changes))
    assert not verdict.passed
    assert any(symptom in reason for reason in verdict.reasons), verdict.reasons


def test_what_is_right_passes(shipped, monkeypatch):
    monkeypatch.undo()  # with timing
    verdict = shipped.judge()
    assert verdict.reasons == ()
    assert verdict.parity.compared > 20
    assert verdict.parity.worst_score < 1e-4
    assert verdict.parity.worst_iou > 0.999
    assert [change.metric for change in verdict.accuracy] == ["VOC07 mAP", "COCO AP"]
    assert all(change.before > 0.4 and abs(change.drop) < 0.005 for change in verdict.accuracy)
    assert verdict.ms_before > 0
    assert verdict.ms_after > 0


def test_the_other_order_of_rows_passes(shipped):
    turned = Changed(shipped.session, rows=lambda rows, images: keep(rows, np.arange(len(rows.image))[::-1]))
    assert shipped.judge(turned).passed


@pytest.mark.parametrize("antialias", [True, False])
def test_another_resizing_fails(shipped, monkeypatch, antialias):
    def nearest(self, image, size=None):
        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        resized = picture.resize(self.info.image_size[::-1], Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)

    session = shipped.session
    if antialias:
        monkeypatch.setattr(ExportedResizing, "resize", nearest)
    else:
        session = Changed(shipped.session)
        session.info = dataclasses.replace(session.info, antialias=False)
    reasons = shipped.judge(session).reasons
    assert any("resized otherwise" in reason for reason in reasons)
    assert antialias or any("description says antialias False" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_names", ("WBC", "RBC", "Platelets")),
        ("category_ids", (7, 8, 9)),
        ("image_size", (320, 320)),
        ("weights_sha256", "0" * 64),
        ("precision", "int8"),
    ],
)
def test_a_description_of_another_detector_fails(shipped, field, value):
    session = Changed(shipped.session)
    session.info = dataclasses.replace(session.info, **{field: value})
    assert any(f"its description says {field}" in reason for reason in shipped.judge(session).reasons)


def edited(shipped, tmp_path, change, info=None):
    """A session of the right network after `change` of its graph."""
    info = info or shipped.info
    network = described(info)
    change(network.graph)
    path = tmp_path / "changed.onnx"
    path.write_bytes(network.SerializeToString())
    return OnnxSession(path, threads=1)


def test_another_threshold_of_nms_in_the_graph_fails(shipped, tmp_path):
    from onnx import numpy_helper

    def change(graph):
        (threshold,) = [item for item in graph.initializer if item.name == "nms_iou"]
        threshold.CopyFrom(numpy_helper.from_array(np.array([0.75], np.float32), "nms_iou"))

    reasons = shipped.judge(edited(shipped, tmp_path, change)).reasons
    assert any("should not be there" in reason for reason in reasons)


def test_a_quantisation_that_saturates_fails_by_average_precision(shipped, tmp_path):
    from onnx import numpy_helper

    def saturate(graph):
        for tensor in graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.ndim == 4 and values.dtype == np.float32:
                limit = 0.25 * np.abs(values).max(axis=(1, 2, 3), keepdims=True)
                tensor.CopyFrom(numpy_helper.from_array(np.clip(values, -limit, limit), tensor.name))

    info = dataclasses.replace(shipped.info, precision="int8")
    verdict = shipped.judge(edited(shipped, tmp_path, saturate, info), info=info)
    assert any("VOC07 mAP drops by" in reason for reason in verdict.reasons)
    assert not verdict.exact
    assert shipped.judge(edited(shipped, tmp_path, lambda graph: None, info), info=info).passed


def test_in_int8_small_differences_pass_and_are_reported(shipped):
    info = dataclasses.replace(shipped.info, precision="int8")
    session = Changed(
        shipped.session, rows=lambda rows, images: dataclasses.replace(rows, scores=np.float32(0.995) * rows.scores)
    )
    session.info = info
    verdict = shipped.judge(session, info=info)
    assert verdict.passed
    assert verdict.parity.worst_score > 0.001


def test_plain_images_are_compared_without_average_precision(shipped):
    images = dataclasses.replace(shipped.images, dataset=None)
    assert shipped.judge(images=images).accuracy == ()


def test_a_detector_that_is_unsure_is_compared_down_to_its_own_threshold(shipped):
    def found(*scores):
        boxes = torch.tensor([[10.0, 10, 50, 50]]).expand(len(scores), 4)
        return Detections(boxes, torch.zeros(len(scores), dtype=torch.int64), torch.tensor(scores), (300, 300))

    assert gate._threshold([found(0.9), found(0.8)], shipped.images, shipped.info) == 0.3
    assert gate._threshold([found(0.9), found(0.2)], shipped.images, shipped.info) == 0.01
    with pytest.raises(UsageError, match="finds nothing in 1 image of data.*--data"):
        gate._threshold([found(0.005)], shipped.images, shipped.info)


def test_the_verdict_is_json(shipped):
    verdict = shipped.judge()
    assert json.loads(json.dumps(dataclasses.asdict(verdict)))["parity"]["missing"] == 0
