"""The losses of Mask R-CNN against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from vovnet.losses.mask_rcnn import MaskRCNNLoss
from vovnet.structures import Target


def iou(a: list[float], b: list[float]) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return w * h / (sum(areas) - w * h)


def code(box: list[float], anchor: list[float], weights: tuple[float, float, float, float]) -> list[float]:
    def centre(b: list[float]) -> tuple[float, float, float, float]:
        return (b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]

    x, y, w, h = centre(box)
    ax, ay, aw, ah = centre(anchor)
    return [
        weights[0] * (x - ax) / aw,
        weights[1] * (y - ay) / ah,
        weights[2] * math.log(w / aw),
        weights[3] * math.log(h / ah),
    ]


def smooth_l1(x: float, beta: float) -> float:
    return 0.5 * x * x / beta if abs(x) < beta else abs(x) - 0.5 * beta


def random_boxes(count: int, side: float) -> Tensor:
    corner = torch.rand(count, 2) * side * 0.7
    return torch.cat([corner, corner + 5 + torch.rand(count, 2) * side * 0.4], dim=1)


@pytest.fixture
def case() -> tuple[dict[str, Tensor], list[Target]]:
    """Two images of 100×100 and 80×100 in inputs of 128×128, a third without objects; the first has a crowd."""
    torch.manual_seed(3)
    anchors = torch.cat([random_boxes(60, 110), torch.tensor([[10.0, 10, 40, 40], [-3, 10, 30, 40]])])
    targets = [
        replace(
            Target.make([[0, 0, 90, 90], [11, 11, 41, 41], [50, 40, 95, 90]], [2, 0, 1], crowd=[True, False, False]),
            image_size=(100, 100),
            masks=(torch.rand(3, 128, 128) > 0.5).to(torch.uint8),
        ),
        replace(
            Target.make([[20, 20, 70, 60]], [1], masks=torch.ones(1, 128, 128, dtype=torch.uint8)), image_size=(80, 100)
        ),
        replace(Target.make(masks=torch.zeros(0, 128, 128, dtype=torch.uint8)), image_size=(100, 100)),
    ]
    counts = [4, 3, 2]
    proposals = random_boxes(9, 100)
    proposals[0] = torch.tensor([12.0, 10, 40, 44])
    outputs = {
        "anchors": anchors,
        "objectness_logits": torch.randn(3, 62),
        "anchor_deltas": torch.randn(3, 62, 4),
        "proposals": proposals,
        "proposals_per_image": torch.tensor(counts),
        "class_logits": torch.randn(9, 4),
        "box_deltas": torch.randn(9, 16),
        "p2": torch.zeros(3, 1, 32, 32),
        "proposal_labels": torch.tensor([1, 2, 0, 0, 2, 2, 0, 0, 0]),
        "proposal_objects": torch.tensor([0, 1, 0, 0, 0, 0, 0, 0, 0]),
        "mask_logits": torch.randn(4, 4, 28, 28),
    }
    return outputs, targets


def test_losses_of_the_proposals(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    criterion = MaskRCNNLoss()
    criterion.anchor_sampler = BalancedPositiveNegativeSampler(10**6, 0.5)  # all anchors, so that nothing is random
    losses = criterion(outputs, targets)
    objectness, boxes, count, positives, negatives, ignored = 0.0, 0.0, 0, 0, 0, 0
    for image, target in enumerate(targets):
        height, width = target.image_size or (0, 0)
        objects = target.boxes[~target.crowd].tolist()
        anchors = outputs["anchors"].tolist()
        inside = [a for a in range(62) if min(anchors[a][:2]) >= 0]
        inside = [a for a in inside if anchors[a][2] <= width and anchors[a][3] <= height]
        overlaps = {a: [iou(box, anchors[a]) for box in objects] for a in inside}
        best_of = [max(overlaps[a][m] for a in inside) for m in range(len(objects))]
        for a in inside:
            overlap = max(overlaps[a], default=0.0)
            is_best = any(abs(overlaps[a][m] - best_of[m]) < 1e-9 for m in range(len(objects)))
            logit = float(outputs["objectness_logits"][image, a])
            if overlap >= 0.7 or is_best:
                positives += 1
                objectness += math.log1p(math.exp(-logit))
                delta_target = code(objects[overlaps[a].index(overlap)], anchors[a], (1, 1, 1, 1))
                deltas = outputs["anchor_deltas"][image, a].tolist()
                boxes += sum(smooth_l1(d - t, 1 / 9) for d, t in zip(deltas, delta_target, strict=True))
            elif overlap < 0.3:
                negatives += 1
                objectness += math.log1p(math.exp(logit))
            else:
                ignored += 1
                continue
            count += 1
    assert min(positives, negatives, ignored, 3 * 62 - count - ignored) > 0
    assert float(losses["objectness_loss"]) == pytest.approx(objectness / count, rel=1e-5)
    assert float(losses["anchor_loss"]) == pytest.approx(boxes / count, rel=1e-5)


def test_at_most_256_anchors_per_image_half_of_them_positive() -> None:
    criterion = MaskRCNNLoss()
    label = torch.cat([torch.ones(300), torch.zeros(5000), -torch.ones(10)])
    positive, negative = criterion.anchor_sampler([label])
    assert (int(positive[0].sum()), int(negative[0].sum())) == (128, 128)


def test_losses_of_the_boxes(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    losses = MaskRCNNLoss()(outputs, targets)
    objects = [target.boxes[~target.crowd].tolist() for target in targets]
    images = [0] * 4 + [1] * 3 + [2] * 2
    class_loss = box_loss = 0.0
    for r, image in enumerate(images):
        label = int(outputs["proposal_labels"][r])
        logits = outputs["class_logits"][r].tolist()
        class_loss += math.log(sum(map(math.exp, logits))) - logits[label]
        if label:
            box = objects[image][int(outputs["proposal_objects"][r])]
            delta_target = code(box, outputs["proposals"][r].tolist(), (10, 10, 5, 5))
            deltas = outputs["box_deltas"][r, 4 * label : 4 * label + 4].tolist()
            box_loss += sum(smooth_l1(d - t, 1.0) for d, t in zip(deltas, delta_target, strict=True))
    assert float(losses["class_loss"]) == pytest.approx(class_loss / 9, rel=1e-5)
    assert float(losses["box_loss"]) == pytest.approx(box_loss / 9, rel=1e-5)


def test_the_mask_loss_uses_the_mask_of_the_objects_class(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    # The object of the second image fills it, so the target of its two proposals is 1 everywhere. In the first image it
    # is 0.
    targets[0] = replace(targets[0], masks=torch.zeros(3, 128, 128, dtype=torch.uint8))
    losses = MaskRCNNLoss()(outputs, targets)
    expected = [(0, 1, 0.0), (1, 2, 0.0), (2, 2, 1.0), (3, 2, 1.0)]  # mask, class, target
    total = sum(
        torch.nn.functional.binary_cross_entropy_with_logits(
            outputs["mask_logits"][mask, label], torch.full((28, 28), target)
        )
        for mask, label, target in expected
    )
    assert float(losses["mask_loss"]) == pytest.approx(float(total) / 4, rel=1e-5)


def test_masks_are_needed(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    targets[1] = replace(targets[1], masks=None)
    with pytest.raises(ValueError, match="a bitmap of every object of image 1 of the batch"):
        MaskRCNNLoss()(outputs, targets)


def test_without_masks_there_are_four_losses(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    del outputs["mask_logits"]
    losses = MaskRCNNLoss()(outputs, [replace(target, masks=None) for target in targets])
    assert sorted(losses) == ["anchor_loss", "box_loss", "class_loss", "objectness_loss"]


def test_an_object_that_no_anchor_overlaps_is_matched_to_none(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    """A sliver at the right edge of the image: its largest IoU is 0, and every anchor has it."""
    outputs, _ = case
    targets = [
        replace(Target.make([box, [96.5, 20, 97, 60]], [0, 1]), image_size=(100, 97))
        for box in ([11.0, 11, 41, 41], [50, 40, 95, 90], [20, 20, 70, 60])
    ]
    criterion = MaskRCNNLoss()
    anchors = outputs["anchors"].clamp(max=96)
    label, matched = criterion._match_anchors(anchors, targets[0].boxes)
    assert 0 < (label == 1).sum() < 10
    assert (matched[label == 1] == targets[0].boxes[0]).all()


def test_without_a_single_proposal_the_losses_are_zero_and_finite(case: tuple[dict[str, Tensor], list[Target]]) -> None:
    outputs, targets = case
    targets = [replace(Target.make(), image_size=target.image_size) for target in targets]
    outputs |= {
        "proposals": torch.zeros(0, 4),
        "proposals_per_image": torch.zeros(3, dtype=torch.int64),
        "class_logits": torch.zeros(0, 4, requires_grad=True),
        "box_deltas": torch.zeros(0, 16, requires_grad=True),
        "proposal_labels": torch.zeros(0, dtype=torch.int64),
        "proposal_objects": torch.zeros(0, dtype=torch.int64),
    }
    del outputs["mask_logits"]
    losses = MaskRCNNLoss()(outputs, targets)
    assert losses["class_loss"].item() == losses["box_loss"].item() == 0
    sum(losses.values()).backward()
