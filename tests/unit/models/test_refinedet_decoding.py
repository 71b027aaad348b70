"""RefineDet's decoding against slow loops, and its limits."""

import math

import pytest
import torch
from torch import nn

from vovnet.models.detectors.refinedet import RefineDet
from vovnet.models.preprocessing import Preprocessing


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def toy_detector(num_classes):
    """Decoding uses no weights."""
    with torch.device("meta"):
        return RefineDet(nn.Identity(), (8, 8, 8), num_classes, Preprocessing((128, 128)), width=8)


def oracle_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def move(box, delta):
    cx, cy, w, h = box
    return cx + 0.1 * delta[0] * w, cy + 0.1 * delta[1] * h, w * math.exp(0.2 * delta[2]), h * math.exp(0.2 * delta[3])


def oracle_decode(outputs, image, image_size, input_size, candidates, top_k):
    """(class, score, box) of one image, best first."""
    anchors = outputs["anchors_cxcywh"].tolist()
    probabilities = outputs["class_logits"][image].double().softmax(-1).tolist()
    objectness = outputs["objectness_logits"][image].double().softmax(-1)[:, 1].tolist()
    boxes = []
    for anchor, first, second in zip(
        anchors, outputs["anchor_deltas"][image].tolist(), outputs["box_deltas"][image].tolist(), strict=True
    ):
        cx, cy, w, h = move(move(anchor, first), second)
        boxes.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    detections = []
    for label in range(len(probabilities[0]) - 1):
        scored = [
            (p[label + 1] if o >= 0.01 else 0.0, a)
            for a, (p, o) in enumerate(zip(probabilities, objectness, strict=True))
        ]
        ranked = sorted((s for s in scored if s[0] > 0.01), reverse=True)[:candidates]
        kept = []
        for score, a in ranked:
            if all(oracle_iou(boxes[a], boxes[b]) <= 0.45 for _, b in kept):
                kept.append((score, a))
        detections += [(label, score, boxes[a]) for score, a in kept]
    detections.sort(key=lambda f: -f[1])
    height, width = image_size
    sx, sy = width / input_size[1], height / input_size[0]
    return [
        (
            label,
            score,
            [min(max(v * s, 0), limit) for v, s, limit in zip(box, (sx, sy) * 2, (width, height) * 2, strict=True)],
        )
        for label, score, box in detections[:top_k]
    ]


def random_outputs(n=2, anchors=120, classes=3, side=128):
    centre, size = torch.rand(anchors, 2) * side, torch.rand(anchors, 2) * 40 + 10
    return {
        "objectness_logits": torch.randn(n, anchors, 2) * 3,
        "anchor_deltas": torch.randn(n, anchors, 4),
        "class_logits": torch.randn(n, anchors, classes + 1) * 2,
        "box_deltas": torch.randn(n, anchors, 4),
        "anchors_cxcywh": torch.cat([centre, size], dim=1),
    }


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("candidates", "top_k"), [(1000, 500), (20, 25)])
def test_decode_agrees_with_slow_loops(seed, candidates, top_k):
    torch.manual_seed(seed)
    model, outputs = toy_detector(3), random_outputs()
    sizes = [(256, 100), (60, 300)]
    for image, detections in enumerate(model.decode(outputs, sizes, candidates=candidates, top_k=top_k)):
        expected = oracle_decode(outputs, image, sizes[image], (128, 128), candidates, top_k)
        assert len(expected) > 20
        assert detections.labels.tolist() == [label for label, _, _ in expected]
        torch.testing.assert_close(
            detections.scores, torch.tensor([score for _, score, _ in expected]), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(detections.boxes, torch.tensor([box for *_, box in expected]), rtol=1e-4, atol=1e-3)


def test_published_limits_of_decoding():
    """1000 candidates per class, 500 detections per image, scores above 0.01."""
    model = toy_detector(1)
    anchors = 1600
    outputs = {
        "objectness_logits": torch.zeros(1, anchors, 2),
        "anchor_deltas": torch.zeros(1, anchors, 4),
        "class_logits": torch.stack([torch.zeros(anchors), torch.linspace(0, 2, anchors)], dim=1)[None],
        "box_deltas": torch.zeros(1, anchors, 4),
        "anchors_cxcywh": torch.tensor([[3.2 * (i % 40), 3.2 * (i // 40), 2, 2] for i in range(anchors)]),
    }
    assert len(model.decode(outputs, [(128, 128)])[0]) == 500
    assert len(model.decode(outputs, [(128, 128)], top_k=9999)[0]) == 1000
    outputs["class_logits"][...] = torch.tensor([0.99, 0.01]).log()
    threshold = outputs["class_logits"].softmax(-1)[0, 0, 1].item()
    assert len(model.decode(outputs, [(128, 128)], score_threshold=threshold)[0]) == 0
    assert len(model.decode(outputs, [(128, 128)], score_threshold=threshold - 1e-6)[0]) == 500


def test_filtered_anchors_have_no_detections():
    model, outputs = toy_detector(2), random_outputs(n=1, anchors=2, classes=2)
    outputs["class_logits"][0] = torch.tensor([0.0, 9, 0])
    outputs["anchors_cxcywh"] = torch.tensor([[30.0, 30, 20, 20], [90, 90, 20, 20]])
    for objectness, count in ((0.0101, 2), (0.0099, 1)):
        outputs["objectness_logits"][0] = torch.tensor([0.0, 0.0])
        outputs["objectness_logits"][0, 0] = torch.tensor([1 - objectness, objectness]).log()
        detections = model.decode(outputs, [(128, 128)])[0]
        assert (detections.labels == 0).sum() == count
    outputs["objectness_logits"][0] = torch.tensor([9.0, 0.0])
    assert len(model.decode(outputs, [(128, 128)], score_threshold=0.0)[0]) == 0  # not even with threshold 0


def test_decoding_a_batch_equals_decoding_its_images_alone():
    model, outputs = toy_detector(3), random_outputs(n=2, anchors=600)
    sizes = [(128, 128), (300, 200)]
    for index, detections in enumerate(model.decode(outputs, sizes)):
        single = {k: v if k == "anchors_cxcywh" else v[index : index + 1] for k, v in outputs.items()}
        (alone,) = model.decode(single, sizes[index : index + 1])
        assert torch.equal(detections.labels, alone.labels)
        torch.testing.assert_close(detections.boxes, alone.boxes)
        torch.testing.assert_close(detections.scores, alone.scores)


def test_a_box_over_the_edge_does_not_suppress_another_class():
    """One NMS separates classes by shifts, which negative coordinates must not undo."""
    model, outputs = toy_detector(2), random_outputs(n=1, anchors=2, classes=2)
    for key in ("objectness_logits", "anchor_deltas", "box_deltas"):
        outputs[key].zero_()
    outputs["anchors_cxcywh"] = torch.tensor([[60.0, 60, 80, 80], [-41.0, -41, 84, 84]])  # ends at 100 and at 1
    outputs["class_logits"] = torch.tensor([[[0.0, 9, -9], [0.0, -9, 8]]])
    detections = model.decode(outputs, [(128, 128)], score_threshold=0.5)[0]
    assert detections.labels.tolist() == [0, 1]
    torch.testing.assert_close(detections.boxes, torch.tensor([[20.0, 20, 100, 100], [0, 0, 1, 1]]))
