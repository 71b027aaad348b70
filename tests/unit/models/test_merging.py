"""Every rule by hand on a few boxes, and against plain loops over pairs.

A box of 10×10 pixels is (0, 0, 9, 9) here: the rules count x2 − x1 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from vovnet.models.detectors.merging import mirror, select_sizes, soft_nms, vote_boxes
from vovnet.structures import Detections

Box = tuple[float, float, float, float]
SIZE = (200, 300)
A: Box = (0, 0, 9, 9)
HALF: Box = (0, 0, 9, 4)  # IoU 50 / 100 with A
FAR: Box = (100, 100, 119, 119)


def make(*detections: tuple[Box, int, float]) -> Detections:
    boxes, labels, scores = zip(*detections, strict=True) if detections else ((), (), ())
    return Detections(
        torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(labels).long(), torch.tensor(scores), SIZE
    )


def listed(detections: Detections) -> list[tuple[Box, int, float]]:
    assert detections.image_size == SIZE
    boxes = [tuple(round(x, 3) for x in box) for box in detections.boxes.tolist()]
    scores = [round(score, 4) for score in detections.scores.tolist()]
    return list(zip(boxes, detections.labels.tolist(), scores, strict=True))


def random_detections(seed: int, count: int = 120, classes: int = 4) -> Detections:
    """Clusters of boxes around a few positions, some with equal scores."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 2, (count, 2), generator=rng) * 40 + torch.rand(count, 2, generator=rng) * 15
    boxes = torch.cat([corner, corner + 25 + torch.rand(count, 2, generator=rng) * 25], dim=1)
    labels = torch.randint(0, classes, (count,), generator=rng) * 3  # with gaps
    scores = (torch.rand(count, generator=rng) * 60).round().clamp(min=1) / 60 + 0.005
    return Detections(boxes, labels, scores, SIZE)


def iou_in_pixels(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (both - width * height)


# Soft-NMS


def test_soft_nms_lowers_by_the_overlap_in_pixels() -> None:
    """Without the + 1, the IoU would be 4 / 9 and the score 0.444."""
    assert listed(soft_nms(make((A, 0, 0.9), (HALF, 0, 0.8)))) == [(A, 0, 0.9), (HALF, 0, 0.4)]


def test_soft_nms_ignores_an_overlap_equal_to_the_threshold() -> None:
    at, above = (0, 0, 9, 2), (0, 0, 9, 2.1)  # IoU 0.30 and 0.31 with A
    assert listed(soft_nms(make((A, 0, 0.9), (at, 0, 0.5)))) == [(A, 0, 0.9), (at, 0, 0.5)]
    assert listed(soft_nms(make((A, 0, 0.9), (above, 0, 0.5)))) == [(A, 0, 0.9), ((0, 0, 9, 2.1), 0, 0.345)]


def test_soft_nms_drops_scores_below_the_threshold() -> None:
    assert listed(soft_nms(make((A, 0, 0.9), (HALF, 0, 0.0199)))) == [(A, 0, 0.9)]
    assert listed(soft_nms(make((A, 0, 0.9), (HALF, 0, 0.0202)))) == [(A, 0, 0.9), (HALF, 0, 0.0101)]
    assert listed(soft_nms(make((A, 0, 0.9), (HALF, 0, 0.5)), score_threshold=0.3)) == [(A, 0, 0.9)]
    assert listed(soft_nms(make((A, 0, 0.9), (A, 0, 0.9)))) == [(A, 0, 0.9)]


def test_soft_nms_treats_classes_separately() -> None:
    detections = make((A, 0, 0.9), (HALF, 1, 0.8), (A, 1, 0.6))
    assert listed(soft_nms(detections)) == [(A, 0, 0.9), (HALF, 1, 0.8), (A, 1, 0.3)]


def test_soft_nms_continues_with_the_best_lowered_score() -> None:
    """HALF falls below FAR and its neighbour, and comes last; what it lowers in turn is lowered twice."""
    quarter = (0, 0, 4, 4)  # IoU 0.25 with A, 0.5 with HALF
    detections = make((A, 0, 0.9), (HALF, 0, 0.8), (FAR, 0, 0.5), (quarter, 0, 0.3))
    assert listed(soft_nms(detections)) == [(A, 0, 0.9), (FAR, 0, 0.5), (HALF, 0, 0.4), (quarter, 0, 0.15)]


def test_soft_nms_does_not_change_its_input() -> None:
    detections = make((A, 0, 0.9), (HALF, 0, 0.8))
    soft_nms(detections)
    assert listed(detections) == [(A, 0, 0.9), (HALF, 0, 0.8)]


def soft_nms_by_loops(detections: Detections, nt: float, confidence: float) -> list[tuple[int, float]]:
    """(index, score) of the remaining detections, class by class."""
    left = []
    for label in set(detections.labels.tolist()):
        rest = {i: detections.scores[i].item() for i in range(len(detections)) if detections.labels[i] == label}
        rest = {i: score for i, score in rest.items() if score >= confidence}
        while rest:
            best = max(rest, key=lambda i: (rest[i], -i))
            left.append((best, rest.pop(best)))
            for i in list(rest):
                iou = iou_in_pixels(detections.boxes[best].tolist(), detections.boxes[i].tolist())
                if iou > nt:
                    rest[i] *= 1 - iou
                if rest[i] < confidence:
                    del rest[i]
    return left


@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_equals_loops_over_pairs(seed: int) -> None:
    detections = random_detections(seed)
    result, expected = soft_nms(detections, score_threshold=0.05), soft_nms_by_loops(detections, 0.30, 0.05)
    assert 20 < len(expected) < len(detections)
    expected.sort(key=lambda pair: -pair[1])
    torch.testing.assert_close(result.scores, torch.tensor([score for _, score in expected]), rtol=1e-4, atol=1e-6)
    boxes = {tuple(box): score for box, score in zip(result.boxes.tolist(), result.scores.tolist(), strict=True)}
    for index, score in expected:
        assert boxes[tuple(detections.boxes[index].tolist())] == pytest.approx(score, rel=1e-4)


# Sizes


@pytest.mark.parametrize(("limit", "kept"), [(20, 0), (20.01, 1), (31, 1)])
def test_the_shorter_side_must_be_less(limit: float, kept: int) -> None:
    for box in ((10, 10, 29, 39), (10, 10, 39, 29)):  # 20×30 and 30×20 pixels
        assert len(select_sizes(make((box, 0, 0.5)), shorter_below=limit)) == kept


@pytest.mark.parametrize(("limit", "kept"), [(29.9, 1), (30, 0), (19, 1)])
def test_the_longer_side_must_be_more(limit: float, kept: int) -> None:
    for box in ((10, 10, 29, 39), (10, 10, 39, 29)):
        assert len(select_sizes(make((box, 0, 0.5)), longer_above=limit)) == kept


def test_without_limits_every_size_is_kept() -> None:
    detections = make((A, 0, 0.9), (FAR, 1, 0.8))
    assert listed(select_sizes(detections)) == listed(detections)
    assert listed(select_sizes(detections, shorter_below=15, longer_above=5)) == [(A, 0, 0.9)]


# Mirroring


def test_mirrored_boxes() -> None:
    assert listed(mirror(make(((10, 20, 50, 80), 2, 0.5)))) == [((250, 20, 290, 80), 2, 0.5)]  # the image is 300 wide


def test_mirroring_twice_changes_nothing() -> None:
    detections = random_detections(0)
    torch.testing.assert_close(mirror(mirror(detections)).boxes, detections.boxes, rtol=0, atol=1e-4)


# Voting


def test_a_group_becomes_its_weighted_mean_with_the_best_score() -> None:
    detections = [make((A, 0, 0.6)), make((HALF, 0, 0.2))]
    assert listed(vote_boxes(detections, soft=False)) == [((0, 0, 9, 7.75), 0, 0.6)]  # (0.6 · 9 + 0.2 · 4) / 0.8


def test_a_lone_box_does_not_change() -> None:
    detections = make((A, 0, 0.3), (FAR, 0, 0.7), (A, 1, 0.5))
    for soft in (False, True):
        assert listed(vote_boxes([detections], soft=soft)) == [(FAR, 0, 0.7), (A, 1, 0.5), (A, 0, 0.3)]
    corners = torch.arange(50)[:, None] * 100 + torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    odd = Detections(
        torch.cat([corners, corners + 33.3], 1), torch.zeros(50).long(), torch.linspace(0.9, 0.1, 50), SIZE
    )
    assert torch.equal(vote_boxes([odd], soft=False).boxes, odd.boxes)  # to the last bit


def test_an_overlap_equal_to_the_threshold_joins_a_group() -> None:
    big = (0, 0, 19, 19)
    at, below = (0, 0, 19, 8), (0, 0, 19, 7.9)  # IoU 0.45 and 0.445 with it
    assert len(vote_boxes([make((big, 0, 0.9), (at, 0, 0.5))], soft=False)) == 1
    assert len(vote_boxes([make((big, 0, 0.9), (below, 0, 0.5))], soft=False)) == 2


def test_groups_form_around_the_best_box_not_in_chains() -> None:
    """The last overlaps the second by 0.6 but the best by 0.3 only, so it stays alone."""
    row = [(0, 0, 9, 9), (0, 0, 9, 4), (0, 2, 9, 4)]
    detections = make((row[0], 0, 0.8), (row[1], 0, 0.4), (row[2], 0, 0.2))
    assert iou_in_pixels(row[1], row[2]) == pytest.approx(0.6)
    assert listed(vote_boxes([detections], soft=False)) == [((0, 0, 9, 7.333), 0, 0.8), (row[2], 0, 0.2)]


def test_a_soft_vote_keeps_the_members_except_the_best() -> None:
    detections = make((A, 0, 0.6), (HALF, 0, 0.2), (FAR, 0, 0.15))
    mean = ((0, 0, 9, 7.75), 0, 0.6)
    assert listed(vote_boxes([detections], soft=True)) == [mean, (FAR, 0, 0.15), (HALF, 0, 0.1)]


def test_a_soft_vote_drops_members_below_the_threshold() -> None:
    for score, left in ((0.0199, 1), (0.0201, 2)):
        assert len(vote_boxes([make((A, 0, 0.6), (HALF, 0, score))], soft=True)) == left
    assert len(vote_boxes([make((A, 0, 0.6), (A, 0, 0.6))], soft=True)) == 1  # IoU 1 leaves nothing


def vote_by_loops(detections: Detections, soft: bool) -> list[tuple[list[float], int, float]]:
    voted = []
    for label in set(detections.labels.tolist()):
        mine = [i for i in range(len(detections)) if detections.labels[i] == label]
        mine.sort(key=lambda i: (-detections.scores[i].item(), i))
        while mine:
            ious = [iou_in_pixels(detections.boxes[mine[0]].tolist(), detections.boxes[i].tolist()) for i in mine]
            group = [(i, iou) for i, iou in zip(mine, ious, strict=True) if iou >= 0.45]
            mine = [i for i, iou in zip(mine, ious, strict=True) if iou < 0.45]
            boxes = [detections.boxes[i].tolist() for i, _ in group]
            scores = [detections.scores[i].item() for i, _ in group]
            mean = [sum(s * box[side] for s, box in zip(scores, boxes, strict=True)) / sum(scores) for side in range(4)]
            voted.append((mean, label, max(scores)))
            if soft and len(group) > 1:
                lowered = [score * (1 - iou) for score, (_, iou) in zip(scores, group, strict=True)]
                voted += [(box, label, s) for box, s in zip(boxes, lowered, strict=True) if s >= 0.01]
    return voted


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_voting_equals_loops_over_pairs(seed: int, soft: bool) -> None:
    detections = random_detections(seed)
    result = vote_boxes([detections[:50], detections[50:]], soft=soft)
    expected = vote_by_loops(detections, soft)
    assert 10 < len(vote_by_loops(detections, soft=False)) < 100 < len(detections)
    assert len(result) == len(expected)
    order = result.scores.tolist()
    assert order == sorted(order, reverse=True)
    got = torch.cat([result.boxes, 1000 * result.labels[:, None], 100 * result.scores[:, None]], dim=1)
    want = torch.tensor([[*box, 1000 * label, 100 * score] for box, label, score in expected])
    distance, nearest = torch.cdist(got, want, p=torch.inf).min(dim=1)
    assert distance.max() < 1e-2
    assert nearest.sort().values.tolist() == list(range(len(expected)))


def test_no_detections() -> None:
    empty = make()
    for result in (soft_nms(empty), select_sizes(empty, longer_above=3), mirror(empty)):
        assert listed(result) == []
    for soft in (False, True):
        assert listed(vote_boxes([empty, empty], soft=soft)) == []
