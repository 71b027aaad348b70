"""What an image and its tiles show of an object becomes one detection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vovnet import run_lengths
from vovnet.runtime.tile_merging import Merged, Pieces, join_codes, merge, place
from vovnet.runtime.tiles import Tiling, Window

Box = tuple[float, float, float, float]


def look(
    objects: Sequence[Box], labels: Sequence[int], windows: Sequence[Window], *, smallest: float = 0, share: float = 0.1
) -> Pieces:
    """What a perfect detector finds in each window: the visible part of each object.

    smallest: side of the smallest object that it sees, as a share of the side of the window.
    share: the least share of an object that it recognises.
    """
    found = []
    for x1, y1, x2, y2 in windows:
        rows = []
        for box, label in zip(objects, labels, strict=True):
            part = np.clip(box, [x1, y1, x1, y1], [x2, y2, x2, y2]) - [x1, y1, x1, y1]
            shown, whole = np.prod(part[2:] - part[:2]), (box[2] - box[0]) * (box[3] - box[1])
            large = min(box[2] - box[0], box[3] - box[1]) >= smallest * max(x2 - x1, y2 - y1)
            if shown >= share * whole and large:
                rows.append((part, label, 0.5 + 0.5 * shown / whole))
        boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row[2] for row in rows], np.float32)
        found.append((boxes, np.array([row[1] for row in rows], np.int64), scores))
    return place(windows, found)


def scatter(rng: np.random.Generator, size: tuple[int, int], sides: tuple[float, float], number: int) -> list[Box]:
    """Boxes that are at least four pixels apart."""
    height, width = size
    boxes: list[Box] = []
    for _ in range(number):
        w, h = np.exp(rng.uniform(*np.log(sides), 2))
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        if all(x + w + 4 < b[0] or b[2] + 4 < x or y + h + 4 < b[1] or b[3] + 4 < y for b in boxes):
            boxes.append((x, y, x + w, y + h))
    return boxes


def assert_each_once(merged: Merged, objects: Sequence[Box], labels: Sequence[int], atol: float = 0.01) -> None:
    assert len(merged.boxes) == len(objects)
    order = np.lexsort((merged.boxes[:, 1], merged.boxes[:, 0]))
    expected = sorted(zip(objects, labels, strict=True))
    np.testing.assert_allclose(merged.boxes[order], [box for box, _ in expected], atol=atol)
    assert merged.labels[order].tolist() == [label for _, label in expected]
    assert (np.diff(merged.scores) <= 0).all()


@pytest.mark.parametrize("overlap", [0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(8))
def test_every_object_is_found_once_wherever_it_is_and_however_large(overlap: float, seed: int) -> None:
    rng, size, tiling = np.random.default_rng(seed), (700, 900), Tiling(200, overlap)
    objects = scatter(rng, size, (6, 500), 40)
    labels = rng.integers(0, 2, len(objects)).tolist()
    pieces = look(objects, labels, list(tiling.parts(size)))
    assert len(pieces.boxes) > len(objects)
    assert_each_once(merge(pieces, size, score_threshold=0.0, top_k=None), objects, labels)


@pytest.mark.parametrize("overlap", [0, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(8))
def test_an_object_on_a_seam_that_only_tiles_show_is_joined(overlap: float, seed: int) -> None:
    rng, size, tiling = np.random.default_rng(seed), (700, 900), Tiling(200, overlap)
    objects = scatter(rng, size, (20, 80), 40)
    labels = rng.integers(0, 2, len(objects)).tolist()
    windows = list(tiling.parts(size))
    pieces = look(objects, labels, windows, smallest=0.1, share=0.02)
    assert not (pieces.windows == windows[0]).all(axis=1).any()  # the whole image shows none
    merged = merge(pieces, size, score_threshold=0.0, top_k=None)
    assert_each_once(merged, objects, labels, atol=2)  # no fragment is joined for less
    assert overlap or max(map(len, merged.members)) > 1


def test_neighbours_that_touch_the_edge_between_tiles_stay_two() -> None:
    objects = [(60.0, 20.0, 97.0, 60.0), (103.0, 20.0, 140.0, 60.0)]
    pieces = look(objects, [0, 0], list(Tiling(100, 0).tiles((100, 200))))
    assert_each_once(merge(pieces, (100, 200), score_threshold=0, top_k=None), objects, [0, 0])


def test_a_fragment_of_another_class_or_of_another_shape_stays() -> None:
    tiles = ((0, 0, 100, 100), (80, 0, 180, 100))
    whole, fragment = [10, 10, 40, 40], [70, 10, 100, 40]
    boxes = [np.array([fragment], np.float32), np.array([whole], np.float32)]  # the second at 90…120
    scores = [np.array([0.9], np.float32), np.array([0.8], np.float32)]
    for label, count in ((0, 1), (1, 2)):
        labels = [np.array([0]), np.array([label])]
        pieces = place(tiles, list(zip(boxes, labels, scores, strict=True)))
        pieces.boxes[0] = [90, 10, 100, 40]
        assert len(merge(pieces, (100, 180), score_threshold=0, top_k=None).boxes) == count
    pieces.labels[:] = 0
    pieces.boxes[0] = [90, 10, 100, 80]  # more than twice as high
    assert len(merge(pieces, (100, 180), score_threshold=0, top_k=None).boxes) == 2


def test_a_box_takes_the_score_of_the_fragment_that_it_explains() -> None:
    pieces = look([(90.0, 10.0, 120.0, 40.0)], [0], ((0, 0, 100, 100), (80, 0, 180, 100)))
    pieces.scores[:] = [0.9, 0.2]
    merged = merge(pieces, (100, 180), score_threshold=0.5, top_k=None)
    np.testing.assert_allclose(merged.boxes, [[90, 10, 120, 40]])
    assert merged.scores.tolist() == [pytest.approx(0.9)]


def test_a_large_false_box_takes_no_small_objects() -> None:
    """By intersection over smaller area it would cover them all."""
    objects = [(95.0 + 0, float(y), 115.0, y + 20.0) for y in (10, 40, 70)]
    pieces = look(
        [*objects, (0.0, 0.0, 180.0, 100.0)], [0] * 4, ((0, 0, 180, 100), (0, 0, 100, 100), (80, 0, 180, 100))
    )
    large = (pieces.boxes[:, 2] - pieces.boxes[:, 0]) > 90
    pieces.scores[large] = 0.01
    merged = merge(pieces, (100, 180), score_threshold=0.05, top_k=None)
    assert_each_once(merged, objects, [0] * 3)


def test_the_whole_image_is_doubted_where_a_tile_shows_a_place_larger_and_does_not_agree() -> None:
    small, large, agreed = (10.0, 10.0, 30.0, 30.0), (110.0, 40.0, 160.0, 90.0), (110.0, 110.0, 130.0, 130.0)
    whole = np.array([small, large, agreed], np.float32)
    tile = whole[2:] - 100
    found = [
        (whole, np.zeros(3, np.int64), np.full(3, 0.8, np.float32)),
        (tile, np.zeros(1, np.int64), np.full(1, 0.7, np.float32)),
    ]
    nothing = (whole[:0], np.zeros(0, np.int64), np.zeros(0, np.float32))
    windows = [(0, 0, 200, 200), (100, 100, 200, 200), (0, 0, 100, 100), (100, 0, 200, 100)]
    pieces = place(windows, [*found, nothing, nothing])
    merged = merge(pieces, (200, 200), score_threshold=0, top_k=None)
    scores = dict(zip(map(tuple, merged.boxes.tolist()), merged.scores.tolist(), strict=True))
    assert scores == {small: pytest.approx(0.4), large: pytest.approx(0.8), agreed: pytest.approx(0.7)}


def test_a_tile_is_doubted_where_the_whole_image_shows_a_place_large_enough_and_does_not_agree() -> None:
    small, large, agreed = (10.0, 10.0, 30.0, 30.0), (40.0, 40.0, 80.0, 80.0), (40.0, 5.0, 80.0, 35.0)
    found = [
        (np.array([agreed], np.float32), np.zeros(1, np.int64), np.full(1, 0.9, np.float32)),
        (np.array([small, large, agreed], np.float32), np.zeros(3, np.int64), np.full(3, 0.8, np.float32)),
    ]
    merged = merge(place([(0, 0, 200, 200), (0, 0, 100, 100)], found), (200, 200), score_threshold=0, top_k=None)
    scores = dict(zip(map(tuple, merged.boxes.tolist()), merged.scores.tolist(), strict=True))
    assert scores == {agreed: pytest.approx(0.9), small: pytest.approx(0.8), large: pytest.approx(0.4)}


def test_the_best_above_the_threshold_are_kept() -> None:
    objects = [(float(x), 0.0, x + 8.0, 8.0) for x in range(0, 90, 10)]
    pieces = look(objects, [0] * 9, [(0, 0, 100, 100)])
    pieces.scores[:] = np.linspace(0.1, 0.9, 9)
    merged = merge(pieces, (100, 100), score_threshold=0.5, top_k=3)
    np.testing.assert_allclose(merged.scores, [0.9, 0.8, 0.7], rtol=1e-6)
    assert len(merge(pieces, (100, 100), score_threshold=0.5, top_k=None).boxes) == 4


def test_nothing_found_is_nothing() -> None:
    merged = merge(look([], [], [(0, 0, 9, 9), (0, 0, 5, 5)]), (9, 9), score_threshold=0, top_k=5)
    assert merged.boxes.shape == (0, 4)
    assert merged.members == ()


def test_the_masks_of_a_joined_object_are_joined_in_the_image() -> None:
    size, windows = (40, 70), np.array([[0, 0, 40, 40], [30, 0, 70, 40], [0, 0, 70, 40]], np.float32)
    image = np.zeros(size, np.bool_)
    image[5:20, 10:60] = True
    image[8:12, 35] = False
    codes = []
    for x1, y1, x2, y2 in windows.astype(int):
        part = image[y1:y2, x1:x2]
        codes.append(run_lengths.encode_crop(part, 0, 0, part.shape))
    members = (np.array([0, 1]), np.array([2]), np.array([1]))
    joined, whole, right = join_codes(members, codes.__getitem__, windows, size)
    assert joined == whole == codes[2]
    image[:, :30] = False
    assert (run_lengths.decode(right, size) == image).all()
    empty = run_lengths.encode_crop(np.zeros((0, 0), np.bool_), 0, 0, (40, 40))
    assert not run_lengths.decode(join_codes([np.array([0])], [empty].__getitem__, windows, size)[0], size).any()
