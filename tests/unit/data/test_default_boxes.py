"""Default boxes found by k-means, and the share of objects that they match, against `match`, which training uses."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from vovnet.boxes import cxcywh_to_xyxy
from vovnet.data.default_boxes import LevelShape, PlacedBoxes, best_iou, fit_default_boxes, matched_share
from vovnet.matching import match

USUAL = ((30.0, 30.0), (60.0, 30.0), (30.0, 60.0))
LEVELS = [LevelShape(stride, USUAL) for stride in (8, 16, 32)]
SIZE = (300, 300)


def placed(*levels):
    """Feature maps with these shapes, of an input of 300 × 300."""
    return [
        PlacedBoxes(tuple(shapes), math.ceil(300 / step), math.ceil(300 / step), (step, step))
        for shapes, step in levels
    ]


def around(*centres, each=50, spread=0.03):
    random = np.random.default_rng(0)
    return np.concatenate([np.array(centre) * random.normal(1, spread, (each, 2)) for centre in centres])


def mean_iou(sizes, shapes):
    shapes = np.array(shapes)
    overlap = np.minimum(sizes[:, None], shapes).prod(axis=2)
    return (overlap / (sizes.prod(axis=1)[:, None] + shapes.prod(axis=1) - overlap)).max(axis=1).mean()


def test_boxes_are_found_where_the_objects_are():
    """Three kinds of objects a map: each of its boxes is the middle of one."""
    kinds = [[(10, 10), (12, 30), (30, 15)], [(50, 50), (40, 80), (80, 40)], [(100, 100), (100, 220), (200, 110)]]
    sizes = around(*(kind for level in kinds for kind in level))
    for found, expected in zip(fit_default_boxes(sizes, LEVELS, SIZE), kinds, strict=True):
        assert np.allclose(found, sorted(expected, key=math.prod), rtol=0.03)


def test_the_one_box_of_a_map_is_the_best_there_is():
    sizes = np.random.default_rng(0).uniform(20, 40, (200, 2)) * [1, 1.5]
    ((found,),) = fit_default_boxes(sizes, [LevelShape(8, USUAL[:1])], SIZE)
    best = max(mean_iou(sizes, [(w, h)]) for w in np.arange(20, 40, 0.5) for h in np.arange(30, 60, 0.5))
    assert mean_iou(sizes, [found]) > best - 0.01


def test_more_boxes_fit_better():
    sizes = np.exp(np.random.default_rng(0).normal(3, 0.3, (500, 2)))
    fits = [
        mean_iou(sizes, fit_default_boxes(sizes, [LevelShape(8, USUAL[:1] * count)], SIZE)[0]) for count in range(1, 6)
    ]
    assert all(after > before + 0.005 for before, after in pairwise(fits))


def test_the_same_boxes_each_time():
    sizes = np.random.default_rng(0).uniform(5, 200, (500, 2))
    assert fit_default_boxes(sizes, LEVELS, SIZE) == fit_default_boxes(sizes.copy(), LEVELS, SIZE)


@pytest.mark.parametrize(
    "sizes",
    [
        [(20, 25)],
        [(20, 25)] * 1000,
        [(20, 25), (math.nan, 3), (0, 9), (-4, 9), (math.inf, 3)],
        [(20, 25), (20.001, 25.001), (20.002, 24.999), (20, 25.003)],
    ],
)
def test_few_objects_keep_the_present_boxes_for_the_rest(sizes):
    """One box is the objects' own; the other two of its map, and all of other maps, are present ones."""
    finest, *others = fit_default_boxes(np.array(sizes, float), LEVELS, SIZE)
    assert (20, 25) in finest
    assert len(set(finest)) == 3
    assert set(finest) - {(20, 25)} < set(USUAL)
    assert all(set(boxes) == set(USUAL) for boxes in others)


@pytest.mark.parametrize("sizes", [np.zeros((0, 2)), np.full((5, 2), math.nan)])
def test_without_objects_all_boxes_stay(sizes):
    assert [set(boxes) for boxes in fit_default_boxes(sizes, LEVELS, SIZE)] == [set(USUAL)] * 3


def test_huge_and_tiny_objects_become_boxes_of_a_possible_size():
    sizes = np.array([(1e300, 1e300), (1e-300, 1e-300), (1e9, 2.0)])
    boxes = np.array(fit_default_boxes(sizes, [LevelShape(8, USUAL)], SIZE)[0])
    assert boxes.min() == 1
    assert boxes.max() == 300


def test_two_heads_on_one_map_share_its_objects():
    sizes = around((10, 10), (14, 14), (20, 20), (28, 28), (40, 40), (56, 56))
    finer, coarser = fit_default_boxes(sizes, [LevelShape(16, USUAL), LevelShape(16, USUAL)], SIZE)
    assert np.allclose(finer, [(10, 10), (14, 14), (20, 20)], rtol=0.03)
    assert np.allclose(coarser, [(28, 28), (40, 40), (56, 56)], rtol=0.03)


def test_maps_of_few_cells_share_the_objects_that_fill_the_image():
    """DSOD's last grids, of 100 and 300 pixels: no object is 2.72 times as large, but one cell is in the middle."""
    sizes = around((230, 230), (290, 290), spread=0.003)
    levels = [LevelShape(8, USUAL), LevelShape(100, USUAL[:1]), LevelShape(300, USUAL[:1])]
    _, *coarse = fit_default_boxes(sizes, levels, SIZE)
    assert np.allclose(coarse, [[(230, 230)], [(290, 290)]], rtol=0.01)


def test_an_object_of_a_map_is_matched_wherever_it_lies():
    """The smallest square of each map, at all offsets, by a box of its size: the reason for the 2.72 strides."""
    for stride in (16, 32):
        side = 2.7248 * stride
        x = np.linspace(side / 2, 300 - side / 2, 83)
        centres = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
        boxes = np.concatenate([centres - side / 2, centres + side / 2], axis=1)
        inside = (centres < stride * (300 // stride)).all(axis=1)
        assert matched_share(boxes[inside], placed(([(side, side)], stride))) == 1
        assert matched_share(boxes[inside] * 0.9, placed(([(side * 0.9, side * 0.9)], stride))) < 1


def test_the_share_is_that_of_the_matching_in_training():
    random = np.random.default_rng(0)
    corners, sizes = random.uniform(-5, 260, (800, 2)), np.exp(random.uniform(1.5, 5.5, (800, 2)))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    levels = placed(([(10, 10), (20, 12)], 8), ([(60, 40), (45.5, 70)], 16), ([(200, 210)], 100))
    levels += [PlacedBoxes(((260.0, 250.0),), 2, 2, (300, 300))]  # three of its four cells lie outside, as in DSOD
    anchors = [
        ((column + 0.5) * level.step[1], (row + 0.5) * level.step[0], *shape)
        for level in levels
        for row in range(level.rows)
        for column in range(level.columns)
        for shape in level.shapes
    ]
    objects = torch.tensor(boxes, dtype=torch.float32)[:, None]  # each in an image of its own
    xyxy = cxcywh_to_xyxy(torch.tensor(anchors, dtype=torch.float32))
    matches, iou = match(objects, torch.ones(len(objects), 1, dtype=torch.bool), xyxy, 0.5)
    expected = iou.amax(dim=1).double().numpy()
    assert np.allclose(best_iou(boxes, levels), expected, atol=1e-5)
    assert matched_share(boxes, levels) == (expected >= 0.5).mean()
    assert 0.1 < matched_share(boxes, levels) < 0.8
    assert (((iou >= 0.5) & (matches == 0)).any(dim=1).numpy() == (expected >= 0.5)).all()


def test_no_objects_have_no_share():
    assert math.isnan(matched_share(np.zeros((0, 4)), placed(([(10, 10)], 8))))


@pytest.mark.slow
def test_hundred_thousand_boxes_are_no_burden():
    sizes = np.exp(np.random.default_rng(0).normal(3, 0.8, (150_000, 2)))
    fitted = fit_default_boxes(sizes, [LevelShape(8, USUAL[:2]), LevelShape(16, USUAL[:2])], SIZE)
    assert [len(boxes) for boxes in fitted] == [2, 2]
