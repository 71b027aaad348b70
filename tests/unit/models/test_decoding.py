"""From scores to detections, against loops that look at every score."""

import pytest
import torch

from vovnet.boxes import pairwise_iou
from vovnet.models.detectors.decoding import select_detections

SIZES = [(300, 400), (50, 60), (300, 400)]


def every_score(scores, boxes, *, score_threshold, nms_threshold, candidates, top_k):
    """(score, label, anchor) of one image, best first."""
    found = []
    for label in range(scores.shape[1]):
        passed = [(float(scores[a, label]), label, a) for a in range(len(scores)) if scores[a, label] > score_threshold]
        kept = []
        for one in sorted(passed, reverse=True)[:candidates]:
            overlaps = [float(pairwise_iou(boxes[one[2]][None], boxes[other[2]][None])) for other in kept]
            if all(overlap <= nms_threshold for overlap in overlaps):
                kept.append(one)
        found += kept
    return sorted(found, reverse=True)[:top_k]


@pytest.mark.parametrize("top_k", [1, 4, 30, 10**9])
@pytest.mark.parametrize("candidates", [5, 1000])
def test_as_if_every_score_were_looked_at(candidates, top_k):
    """Boxes overlap so much that the highest scores alone do not fill the list; the last image has nothing at all."""
    torch.manual_seed(0)
    corner = torch.rand(3, 90, 2, dtype=torch.float64) * 60
    boxes = torch.cat([corner, corner + 150], dim=-1)
    scores = torch.rand(3, 90, 4, dtype=torch.float64)
    scores[:, :40] += 1  # forty anchors in one place
    boxes[:, :40] = boxes[:, :1] + torch.rand(3, 40, 4, dtype=torch.float64)
    scores[2] = 0
    limits = {"score_threshold": 0.3, "nms_threshold": 0.45, "candidates": candidates, "top_k": top_k}
    found = select_detections(scores, lambda image, anchor: boxes[image, anchor], SIZES, (320, 320), **limits)
    for image, detections in enumerate(found):
        expected = every_score(scores[image], boxes[image], **limits)
        assert detections.scores.tolist() == [score for score, _, _ in expected]
        assert detections.labels.tolist() == [label for _, label, _ in expected]
        height, width = SIZES[image]
        scaled = torch.stack([boxes[image, anchor] for _, _, anchor in expected]) if expected else torch.zeros(0, 4)
        scaled = scaled * torch.tensor([width / 320, height / 320] * 2)
        torch.testing.assert_close(
            detections.boxes, scaled.clamp(max=torch.tensor([width, height] * 2)).to(torch.float64)
        )
    assert len(found[2]) == 0
    assert len(found[0]) > 0
