"""Matching the detections of two runtimes: what is a difference, and what rounding explains."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vovnet.export.parity import BeforeNms, MaskBounds, Rules, compare_image
from vovnet.masks import encode
from vovnet.structures import Detections

RULES = Rules(threshold=0.3, floor=0.01, top_k=200, nms_threshold=0.45)
CELL = (10, 10, 50, 50)


def detections(*rows, size=(300, 300)):
    """Rows of (box, label, score)."""
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32),
        size,
    )


def moved(box, x):
    return (box[0] + x, box[1], box[2] + x, box[3])


def test_equal_detections_in_another_order_are_partners():
    rows = [(CELL, 0, 0.9), (moved(CELL, 100), 0, 0.8), (CELL, 1, 0.7)]
    parity = compare_image(detections(*rows), detections(*rows[::-1]), RULES)
    assert (parity.compared, parity.differences, parity.worst_iou, parity.worst_score) == (3, 0, 1.0, 0.0)


def test_nothing_in_both_is_no_difference():
    parity = compare_image(detections(), detections(), RULES)
    assert (parity.compared, parity.differences, parity.worst_iou) == (0, 0, None)


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        ([], {"missing": 1}),
        ([(CELL, 0, 0.9), (moved(CELL, 100), 0, 0.5)], {"compared": 1, "extra": 1}),
        ([(moved(CELL, 1), 0, 0.9)], {"compared": 1, "moved": 1}),
        ([(CELL, 0, 0.89)], {"compared": 1, "rescored": 1}),
        ([(CELL, 1, 0.9)], {"missing": 1, "extra": 1, "relabelled": 1}),
        ([(moved(CELL, 100), 0, 0.9)], {"missing": 1, "extra": 1}),
        ([(CELL, 0, 0.9), (CELL, 0, 0.9)], {"compared": 1, "extra": 1}),
    ],
)
def test_each_kind_of_difference_is_counted(found, counts):
    parity = dataclasses.asdict(compare_image(detections((CELL, 0, 0.9)), detections(*found), RULES))
    names = ("compared", "missing", "extra", "moved", "rescored", "relabelled", "tied")
    assert {name: parity[name] for name in names} == dict.fromkeys(names, 0) | counts


def test_partners_are_the_nearest_pairs_one_to_one():
    expected = detections((CELL, 0, 0.9), (moved(CELL, 8), 0, 0.8))
    found = detections((moved(CELL, 8), 0, 0.8), (CELL, 0, 0.9))
    assert compare_image(expected, found, RULES).differences == 0


def test_a_score_may_fall_below_the_threshold_of_the_comparison_but_not_far():
    expected = detections((CELL, 0, 0.3004))
    assert compare_image(expected, detections((CELL, 0, 0.2998)), RULES).differences == 0
    assert compare_image(expected, detections((CELL, 0, 0.29)), RULES).rescored == 1


def test_at_the_lowest_score_that_is_reported_a_partner_may_be_missing():
    rules = dataclasses.replace(RULES, threshold=0.01)
    parity = compare_image(detections((CELL, 0, 0.0105)), detections(), rules)
    assert (parity.missing, parity.tied) == (0, 1)
    assert compare_image(detections((CELL, 0, 0.02)), detections(), rules).missing == 1


def test_the_last_place_of_a_full_list_may_go_to_another():
    rules = dataclasses.replace(RULES, top_k=2)
    first, other, third = (CELL, 0, 0.9), (moved(CELL, 100), 0, 0.5), (moved(CELL, 200), 0, 0.5002)
    parity = compare_image(detections(first, other), detections(first, third), rules)
    assert (parity.differences, parity.tied) == (0, 2)
    assert compare_image(detections(first, other), detections(first, third), RULES).differences == 2


A, B, C = (CELL, 0, 0.9), (moved(CELL, 10), 0, 0.8995), (moved(CELL, 22), 0, 0.6)  # A–B and B–C overlap, A–C do not


def test_two_equal_scores_may_suppress_each_other_either_way_and_what_follows_is_a_tie():
    raw = detections(A, B, C)
    # PyTorch keeps A, which suppresses B, so that C stays. The other keeps B, which suppresses both.
    parity = compare_image(detections(A, C), detections(B), RULES, lambda: BeforeNms(raw))
    assert parity.differences == 0
    assert parity.tied > 0
    assert compare_image(detections(B), detections(A, C), RULES, lambda: BeforeNms(raw)).differences == 0
    assert compare_image(detections(A, C), detections(B), RULES).differences > 0  # without a look before NMS


def test_an_overlap_of_exactly_the_threshold_is_a_tie():
    width = 40
    shift = width * (1 - 0.45) / (1 + 0.45)
    near = (moved(CELL, shift), 0, 0.7)
    raw = detections(A, near)
    for expected, found in ((detections(A, near), detections(A)), (detections(A), detections(A, near))):
        parity = compare_image(expected, found, RULES, lambda: BeforeNms(raw))
        assert (parity.differences, parity.tied) == (0, 1)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([A, C], [A]),  # C was suppressed by nothing
        ([A], [A, (moved(CELL, 10), 0, 0.8995)]),  # B although A is there: NMS does not suppress
        ([A], [(moved(CELL, 10), 0, 0.8)]),  # the worse one of two
        ([A], [(moved(CELL, 1), 0, 0.9)]),  # moved: PyTorch has none there
        ([A], [(moved(CELL, 10), 1, 0.8995)]),  # of another class
    ],
)
def test_what_is_no_tie_stays_a_difference(expected, found):
    raw = detections(A, B, C, (moved(CELL, 10), 0, 0.8))
    assert compare_image(detections(*expected), detections(*found), RULES, lambda: BeforeNms(raw)).differences > 0


def test_boxes_without_area_are_equal_where_their_corners_are():
    flat = ((300, 20, 300, 40), 0, 0.9)
    assert compare_image(detections(flat), detections(flat), RULES).differences == 0
    other = ((300, 120, 300, 140), 0, 0.9)
    assert compare_image(detections(flat), detections(other), RULES).differences == 2


FAR = (moved(CELL, 100), 0, 0.8)


def with_mask(rows, columns, thickness=0):
    """A detection whose mask is these pixels, grown by `thickness`."""
    bitmap = torch.zeros(1, 300, 300, dtype=torch.uint8)
    bitmap[:, rows[0] - thickness : rows[1] + thickness, columns[0] - thickness : columns[1] + thickness] = 1
    return dataclasses.replace(detections(A), masks=encode(bitmap))


def test_masks_are_compared():
    whole, half = with_mask((10, 50), (10, 50)), with_mask((10, 50), (10, 30))
    assert compare_image(whole, whole, RULES).worst_mask_pixels == 0
    parity = compare_image(whole, half, RULES)
    assert (parity.reshaped, parity.worst_mask_pixels, parity.differences) == (1, 800, 1)
    assert compare_image(detections(A), detections(A), RULES).worst_mask_pixels is None


@pytest.mark.parametrize(
    ("found", "pixels"),
    [
        (with_mask((10, 50), (10, 50)), 0),
        (with_mask((10, 50), (10, 50), 1), 0),  # where rounding decides
        (with_mask((11, 50), (10, 50)), 0),
        (with_mask((13, 50), (10, 50)), 2 * 38),  # without what is certainly in it
        (with_mask((10, 50), (10, 54)), 3 * 40),  # with what is certainly not
    ],
)
def test_a_mask_may_differ_only_where_its_probability_is_near_one_half(found, pixels):
    right = with_mask((10, 50), (10, 50))
    bounds = MaskBounds(with_mask((10, 50), (10, 50), -1).masks, with_mask((10, 50), (10, 50), 1).masks)
    parity = compare_image(right, found, RULES, bounds=bounds)
    assert (parity.worst_mask_pixels, parity.reshaped) == (pixels, int(pixels > 0))


def test_what_a_tie_among_proposals_decides_is_no_difference():
    raw = BeforeNms(detections(A, B, FAR), torch.tensor([False, False, True]))
    certain = BeforeNms(raw.detections)
    lower = [(moved(CELL, 60), 0, 0.7)]
    for expected, found in (([A], []), ([], [A]), ([A], [B]), ([B], [A])):
        parity = compare_image(detections(*expected), detections(*found), RULES, lambda: raw)
        assert (parity.differences, parity.tied > 0) == (0, True)
    for found in ([A, B], lower):  # NMS that does not suppress; what no proposal gives
        assert compare_image(detections(), detections(*found), RULES, lambda: raw).differences == len(found)
    assert compare_image(detections(A), detections(), RULES, lambda: certain).missing == 1
    assert compare_image(detections(), detections(A), RULES, lambda: certain).extra == 1
    assert compare_image(detections(FAR), detections(), RULES, lambda: raw).missing == 1
