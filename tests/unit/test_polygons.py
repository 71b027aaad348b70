"""Polygons against plain lists, and what is drawn of them against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle

from vovnet.masks import rasterise
from vovnet.polygons import Polygons
from vovnet.structures import TrainingMasks

SQUARE, TRIANGLE, PENTAGON = [0.0, 0, 4, 0, 4, 4, 0, 4], [5.0, 5, 9, 5, 7, 9], [1.0, 1, 2, 0, 3, 1, 3, 3, 1, 3]
OBJECTS = [[SQUARE], [], [TRIANGLE, PENTAGON], [PENTAGON, SQUARE, TRIANGLE], []]


def to_lists(polygons: Polygons) -> list[list[list[float]]]:
    """COCO's lists, by plain loops."""
    points, corners = iter(polygons.points.tolist()), iter(polygons.corners.tolist())
    return [
        [[value for _ in range(next(corners)) for value in next(points)] for _ in range(count)]
        for count in polygons.parts.tolist()
    ]


def draw(outlines: list[list[float]], box: list[float], side: int = 28) -> np.ndarray:
    """The published recipe, one object at a time: crop, scale, draw, unite the parts."""
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 1), max(y2 - y1, 1)
    moved = [
        [
            (value - (y1 if place % 2 else x1)) * side / (height if place % 2 else width)
            for place, value in enumerate(outline)
        ]
        for outline in outlines
    ]
    return oracle.decode(oracle.merge(oracle.frPyObjects(moved, side, side)))


SELECTIONS = [
    np.array([], dtype=int),
    np.array([0]),
    np.array([3, 1, 2]),
    np.array([2, 2, 0, 4, 1, 4]),
    np.array([False, True, True, False, True]),
]


@pytest.mark.parametrize("index", SELECTIONS)
def test_objects_are_selected(index: np.ndarray) -> None:
    chosen = Polygons.make(OBJECTS)[index]
    assert to_lists(chosen) == [OBJECTS[i] for i in np.arange(5)[index]]
    assert len(chosen) == len(np.arange(5)[index])


def test_images_are_joined() -> None:
    joined = Polygons.cat([Polygons.make(OBJECTS[:2]), Polygons.make([]), Polygons.make(OBJECTS[2:])])
    assert to_lists(joined) == OBJECTS
    assert joined.owners().tolist() == [0] * 4 + [2] * 8 + [3] * 12


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'
@pytest.mark.parametrize("seed", range(40))
def test_drawn_as_by_coco(seed: int) -> None:
    """Objects of up to four parts, boxes that cut them, miss them, are within them, and are less than a pixel."""
    rng = np.random.default_rng(seed)
    objects = [
        [(rng.uniform(-20, 120, 2) + rng.normal(0, 10 ** rng.uniform(0, 2), (rng.integers(3, 40), 2))).ravel().tolist()
         for _ in range(rng.integers(0, 5))]
        for _ in range(20)
    ]  # fmt: skip
    corners = rng.uniform(-10, 110, (20, 2))
    boxes = np.concatenate([corners, corners + 10 ** rng.uniform(-2, 2.3, (20, 2))], axis=1)
    if seed % 2:  # whole and half pixels
        objects = [[np.round(np.multiply(2, outline)).tolist() for outline in outlines] for outlines in objects]
        boxes = boxes.round()
    side = int(rng.choice([28, 14, 7]))
    drawn = rasterise(Polygons.make(objects), boxes, side)
    assert drawn.shape == (20, side, side)
    for bitmap, outlines, box in zip(drawn, objects, boxes.tolist(), strict=True):
        expected = draw(outlines, box, side) if outlines else np.zeros((side, side))
        assert np.array_equal(bitmap, expected)
    assert drawn.any()


def test_a_rectangle_is_exact() -> None:
    polygons = Polygons.make([[[10, 20, 30, 20, 30, 60, 10, 60]]] * 3)
    whole, half, beside = rasterise(polygons, np.array([[10, 20, 30, 60], [20, 40, 40, 80], [30, 20, 50, 60.0]]), 28)
    assert whole.all()
    assert half[:14, :14].all()
    assert half.sum() == 14 * 14
    assert not beside.any()


@pytest.mark.parametrize("objects", [[], [[], []]])
def test_nothing_to_draw(objects: list[list[list[float]]]) -> None:
    boxes = np.array([[0, 0, 9, 9.0]] * len(objects)).reshape(-1, 4)
    assert rasterise(Polygons.make(objects), boxes, 28).shape == (len(objects), 28, 28)
    assert not rasterise(Polygons.make(objects), boxes, 28).any()


def test_what_would_take_too_long_to_draw_is_left_out() -> None:
    """A zigzag of hundreds of widths, one much larger than what is visible of the object, and countless corners."""
    zigzag = [float(value) for x in range(250) for value in (x / 250, 0.0, x / 250 + 0.001, 10.0)]
    many = [0.0, 0.0, 10.0, 10.0] * 5001
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0.01, 4], [0, 0, 10, 10], [0, 0, 4, 4.0]])
    kept = Polygons.make([[TRIANGLE], [zigzag], [SQUARE], [TRIANGLE, many], [PENTAGON, SQUARE]]).drawable(boxes)
    assert to_lists(kept) == [[TRIANGLE], [], [], [], [PENTAGON, SQUARE]]
    assert to_lists(Polygons.make(OBJECTS).drawable(np.array([[0, 0, 9, 9.0]] * 5))) == OBJECTS
    assert len(Polygons.make([]).drawable(np.zeros((0, 4)))) == 0


@pytest.mark.parametrize("index", SELECTIONS)
def test_training_masks_keep_each_objects_own(index: np.ndarray) -> None:
    bitmaps = torch.arange(2, dtype=torch.uint8)[:, None, None].expand(2, 3, 3)
    chosen = TrainingMasks(Polygons.make(OBJECTS), bitmaps)[torch.from_numpy(index)]
    objects = np.arange(5)[index].tolist()
    assert to_lists(chosen.polygons) == [OBJECTS[i] for i in objects]
    assert chosen.bitmaps[:, 0, 0].tolist() == [{1: 0, 4: 1}[i] for i in objects if i in (1, 4)]


def test_every_object_without_polygons_has_a_bitmap() -> None:
    with pytest.raises(ValueError, match="a bitmap of each of 2 objects without polygons, got 1"):
        TrainingMasks(Polygons.make(OBJECTS), torch.zeros(1, 3, 3, dtype=torch.uint8))
