"""The proposals of a two-stage detector beside torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

from vovnet.models.detectors.proposals import best_proposals

SIZES = [(90, 120), (70, 50)]
PER_LEVEL = [600, 200, 30]
COUNTS = {"before": 100, "after": 80}


def random_boxes(seed: int) -> tuple[Tensor, Tensor]:
    """Boxes (2, 830, 4), some without extent or outside the images, and logits (2, 830) all of which differ."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(PER_LEVEL)
    corner = torch.rand(2, count, 2, generator=generator) * 130 - 20
    boxes = torch.cat([corner, corner + torch.rand(2, count, 2, generator=generator) * 60], dim=2)
    boxes[:, ::50, 2] = boxes[:, ::50, 0]
    logits = torch.stack([torch.randperm(count, generator=generator) for _ in SIZES]) / 100
    return boxes, logits


def ours(boxes: Tensor, logits: Tensor) -> list[Tensor]:
    return best_proposals(boxes, logits, SIZES, PER_LEVEL, **COUNTS, nms_threshold=0.7, least_side=1e-3)


def theirs(boxes: Tensor, logits: Tensor) -> list[Tensor]:
    rpn = RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5,
        {"training": 1, "testing": COUNTS["before"]}, {"training": 1, "testing": COUNTS["after"]}, 0.7,
    ).eval()  # fmt: skip
    proposals, _ = rpn.filter_proposals(boxes, logits.reshape(-1, 1), SIZES, PER_LEVEL)
    return proposals


@pytest.mark.parametrize("seed", range(5))
def test_they_are_torchvisions(seed: int) -> None:
    boxes, logits = random_boxes(seed)
    logits = logits - 4
    for own, other in zip(ours(boxes, logits), theirs(boxes, logits), strict=True):
        assert 40 < len(own) <= 80
        assert torch.equal(own, other)


def test_probabilities_that_round_to_one_keep_their_order() -> None:
    """In float64, where they do not round to one, torchvision's are the same."""
    boxes, logits = random_boxes(0)
    logits = logits + 20
    assert (logits.sigmoid() == 1).all()
    exact = theirs(boxes.double(), logits.double())
    assert all(torch.equal(own.double(), other) for own, other in zip(ours(boxes, logits), exact, strict=True))
    assert not all(torch.equal(own.double(), other) for own, other in zip(theirs(boxes, logits), exact, strict=True))


def test_a_level_may_have_fewer_and_an_image_none() -> None:
    boxes, logits = random_boxes(1)
    boxes[1, :, 2:] = boxes[1, :, :2]
    some, none = ours(boxes, logits)
    assert len(some) == 80
    assert none.shape == (0, 4)
