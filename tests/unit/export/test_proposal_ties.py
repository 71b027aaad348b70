"""Which proposals are certain: NMS with every order that rounding may choose, in small, beside the answer at once."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torchvision.ops import nms

from vovnet.export.proposal_ties import TooManyTiesError, possible_proposals

RULES = {"before": 1000, "after": 1000, "nms_threshold": 0.7, "least_side": 1e-3}


def boxes_at(*left: float) -> torch.Tensor:
    """Boxes of 100 × 100; those 10 pixels apart overlap by 0.82, those 20 apart by 0.67."""
    return torch.tensor([[x, 0.0, x + 100, 100] for x in left])


def possible(boxes: torch.Tensor, logits: list[float], **rules: float) -> list[tuple[float, bool]]:
    """The left edges of the possible proposals with whether they are certain."""
    found = possible_proposals([(boxes, torch.tensor(logits))], **{**RULES, **rules})
    return sorted(zip(found.boxes[:, 0].tolist(), found.certain.tolist(), strict=True))


def test_without_ties_the_proposals_are_those_of_nms() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 20 + 40 * torch.rand(300, 2, generator=generator)], dim=1)
    logits = torch.randperm(300, generator=generator) / 30 - 5
    kept = boxes[nms(boxes, logits, 0.7)]
    found = possible_proposals([(boxes, logits)], **RULES)
    all_kept = {tuple(box) for box in kept.tolist()}
    certain = {tuple(box) for box in found.boxes[found.certain].tolist()}
    assert certain <= all_kept <= {tuple(box) for box in found.boxes.tolist()}
    assert len(certain) > 0.9 * len(all_kept) > 100
    assert len(found.boxes) < 1.1 * len(all_kept)


def test_of_two_with_one_score_either_may_remain_and_what_follows_is_open() -> None:
    # The first suppresses the second, which else suppresses the third.
    assert possible(boxes_at(0, 10, 20), [2.0, 2.0, 1.0]) == [(0, False), (10, False), (20, False)]
    assert possible(boxes_at(0, 10, 20), [3.0, 2.0, 1.0]) == [(0, True), (20, True)]
    assert possible(boxes_at(0, 10, 20), [2.0, 3.0, 1.0]) == [(10, True)]


def test_an_overlap_of_just_the_threshold_is_open() -> None:
    shift = 100 * (1 - 0.7) / (1 + 0.7)
    assert possible(boxes_at(0, shift), [2.0, 1.0]) == [(0, True), (pytest.approx(shift), False)]
    assert possible(boxes_at(0, shift + 1), [2.0, 1.0]) == [(0, True), (pytest.approx(shift + 1), True)]
    assert possible(boxes_at(0, shift - 1), [2.0, 1.0]) == [(0, True)]


def test_the_last_places_are_open_to_equal_scores() -> None:
    apart = boxes_at(0, 200, 400, 600)
    assert possible(apart, [3.0, 2.0, 2.0, 1.0], before=2) == [(0, True), (200, False), (400, False)]
    assert possible(apart, [3.0, 2.0, 2.0, 1.0], after=2) == [(0, True), (200, False), (400, False)]
    assert possible(apart, [3.0, 2.5, 2.0, 1.0], before=2) == [(0, True), (200, True)]
    assert possible(apart, [3.0, 2.5, 2.0, 1.0], after=2) == [(0, True), (200, True)]


def test_levels_share_the_last_places_but_not_nms() -> None:
    levels = [(boxes_at(0), torch.tensor([1.0])), (boxes_at(0, 200), torch.tensor([2.0, 0.5]))]
    found = possible_proposals(levels, **{**RULES, "after": 2})
    assert found.boxes[:, 0].tolist() == [0, 0]
    assert found.certain.all()


def test_logits_whose_probabilities_round_to_one_are_no_ties() -> None:
    assert possible(boxes_at(0, 10), [20.0, 25.0]) == [(10, True)]
    assert possible(boxes_at(0, 10), [25.0, 25.01]) == [(0, False), (10, False)]


def test_thousands_of_them_can_be_told_apart() -> None:
    """Of a level with more such boxes than can be compared with each other, the best are known."""
    boxes = boxes_at(*range(0, 6000 * 200, 200))
    logits = torch.linspace(40, 18, 6000)
    assert (logits.sigmoid() == 1).all()
    found = possible_proposals([(boxes, logits)], **{**RULES, "after": 500})
    assert 450 < found.certain.sum() < 500 < len(found.boxes) < 550
    with pytest.raises(TooManyTiesError):
        possible_proposals([(boxes, torch.full_like(logits, 40))], **RULES)


def test_every_order_of_ties_leaves_the_certain_and_nothing_impossible() -> None:
    generator = torch.Generator().manual_seed(1)
    open_ones = 0
    for _ in range(20):
        boxes = boxes_at(*(60 * torch.rand(6, generator=generator)).tolist())
        logits = torch.randint(0, 3, (6,), generator=generator).float()
        found = possible_proposals([(boxes, logits)], **RULES)
        some, certain = set(found.boxes[:, 0].tolist()), set(found.boxes[found.certain][:, 0].tolist())
        for order in permutations(range(6)):
            turned = logits + 1e-4 * torch.tensor(order)
            kept = set(boxes[nms(boxes, turned, 0.7)][:, 0].tolist())
            assert certain <= kept <= some
        open_ones += len(some) - len(certain)
    assert open_ones > 10


def test_no_box_at_all_and_too_many() -> None:
    assert possible(torch.zeros(0, 4), []) == []
    assert possible(torch.zeros(3, 4), [1.0, 2.0, 3.0]) == []  # without extent
    many = torch.tensor([[0.0, 0, 9, 9]]).expand(6000, 4)
    with pytest.raises(TooManyTiesError):
        possible_proposals([(many, torch.zeros(6000))], **RULES)
