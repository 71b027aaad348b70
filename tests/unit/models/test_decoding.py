"""From scores and boxes to detections, against loops over every score."""

import math

import pytest
import torch

from vovnet import create_model
from vovnet.boxes import pairwise_iou
from vovnet.models.detectors import decoding
from vovnet.models.detectors.decoding import select_detections

SIZES = [(300, 400), (50, 60), (300, 400)]


def every_score(scores, boxes, *, score_threshold, nms_threshold, candidates, top_k):
    """(score, label, anchor) of one image, best first."""
    detections = []
    for label in range(scores.shape[1]):
        least = score_threshold[label]
        passed = [(float(scores[a, label]), label, a) for a in range(len(scores)) if scores[a, label] > least]
        kept = []
        for candidate in sorted(passed, reverse=True)[:candidates]:
            overlaps = [float(pairwise_iou(boxes[candidate[2]][None], boxes[better[2]][None])) for better in kept]
            if all(overlap <= nms_threshold for overlap in overlaps):
                kept.append(candidate)
        detections += kept
    return sorted(detections, reverse=True)[:top_k]


@pytest.mark.parametrize("top_k", [1, 4, 30, 10**9])
@pytest.mark.parametrize("candidates", [5, 1000])
@pytest.mark.parametrize("thresholds", [[0.3] * 4, [0.3, 1.2, 0.0, math.inf]])
def test_equals_a_loop_over_every_score(candidates, top_k, thresholds):
    """Boxes overlap so much that the highest scores alone do not fill the list; the last image has no score."""
    torch.manual_seed(0)
    corner = torch.rand(3, 90, 2, dtype=torch.float64) * 60
    boxes = torch.cat([corner, corner + 150], dim=-1)
    scores = torch.rand(3, 90, 4, dtype=torch.float64)
    scores[:, :40] += 1  # forty anchors at the same position
    boxes[:, :40] = boxes[:, :1] + torch.rand(3, 40, 4, dtype=torch.float64)
    scores[2] = 0
    limits = {"nms_threshold": 0.45, "candidates": candidates, "top_k": top_k}
    threshold = thresholds[0] if len(set(thresholds)) == 1 else torch.tensor(thresholds, dtype=torch.float64)
    per_image = select_detections(scores, boxes, SIZES, (320, 320), score_threshold=threshold, **limits)
    for image, detections in enumerate(per_image):
        expected = every_score(scores[image], boxes[image], score_threshold=thresholds, **limits)
        assert detections.scores.tolist() == [score for score, _, _ in expected]
        assert detections.labels.tolist() == [label for _, label, _ in expected]
        height, width = SIZES[image]
        scaled = torch.stack([boxes[image, anchor] for _, _, anchor in expected]) if expected else torch.zeros(0, 4)
        scaled = scaled * torch.tensor([width / 320, height / 320] * 2)
        torch.testing.assert_close(
            detections.boxes, scaled.clamp(max=torch.tensor([width, height] * 2)).to(torch.float64)
        )
    assert len(per_image[2]) == 0
    assert len(per_image[0]) > 0


def test_small_boxes_of_the_last_class_of_a_large_batch_are_not_rounded():
    """NMS shifts the boxes of each image and class; for eight images of 80 classes, by up to half a million pixels."""
    torch.manual_seed(0)
    corner = torch.rand(400, 2) * 40
    boxes = torch.cat([corner, corner + 4 + torch.rand(400, 2) * 6], dim=-1)
    scores = torch.zeros(8, 400, 80)
    scores[..., 79] = torch.rand(400)
    limits = {"score_threshold": 0.01, "nms_threshold": 0.45, "candidates": 1000, "top_k": 500}
    sizes = [(320, 320)] * 8
    per_image = select_detections(scores, boxes.expand(8, -1, -1), sizes, (320, 320), **limits)
    alone = select_detections(scores[:1, :, 79:], boxes[None], sizes[:1], (320, 320), **limits)
    for detections in per_image:
        assert torch.equal(detections.boxes, alone[0].boxes)


def test_what_ssd_detectors_keep():
    """400 candidates per class, 200 detections per image, threshold 0.01."""
    model = create_model("dsod300_vovnet27_slim", 3).eval()
    seen = {}

    def spy(scores, boxes, image_sizes, input_size, **limits):
        seen.update(limits)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "select_detections", spy)
        outputs = {"class_logits": (1, 1, 4), "box_deltas": (1, 1, 4), "anchors_cxcywh": (1, 4)}
        model.decode({name: torch.zeros(shape) for name, shape in outputs.items()}, [(300, 300)])
    assert seen == {"score_threshold": 0.01, "nms_threshold": 0.45, "candidates": 400, "top_k": 200}
