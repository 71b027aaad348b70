"""How an image is cut into tiles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vovnet.runtime.tiles import Tiling, tiling_of


@pytest.mark.parametrize("size", [32, 100, 640])
@pytest.mark.parametrize("overlap", [0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("image_size", [(33, 101), (640, 641), (1000, 700), (129, 1283)])
def test_tiles_are_whole_and_cover_the_image(image_size: tuple[int, int], overlap: float, size: int) -> None:
    tiling, (height, width) = Tiling(size, overlap), image_size
    tiles = list(tiling.tiles(image_size))
    covered = np.zeros(image_size, int)
    for x1, y1, x2, y2 in tiles:
        assert (x2 - x1, y2 - y1) == (min(size, width), min(size, height))
        assert min(x1, y1) >= 0
        covered[y1:y2, x1:x2] += 1
    assert covered.min() == 1
    assert len(set(tiles)) == len(tiles)


def test_neighbours_share_at_least_the_overlap_so_that_some_tile_shows_a_small_object_whole() -> None:
    tiling = Tiling(100, 0.25)
    assert tiling.shared == 25
    columns = sorted({(x1, x2) for x1, _, x2, _ in tiling.tiles((100, 333))})
    assert columns == [(0, 100), (75, 175), (150, 250), (225, 325), (233, 333)]
    assert all(left[1] - right[0] >= 25 for left, right in itertools.pairwise(columns))


def test_an_image_no_larger_than_a_tile_is_only_seen_as_a_whole() -> None:
    assert list(Tiling(640).parts((480, 640))) == [(0, 0, 640, 480)]
    assert list(Tiling(640).parts((480, 641))) == [(0, 0, 641, 480), (0, 0, 640, 480), (1, 0, 641, 480)]


@pytest.mark.parametrize(
    ("size", "overlap", "said"),
    [
        (31, 0.2, "at least 32, the side of a tile, got 31"),
        (-5, 0.2, "at least 32"),
        (True, 0.2, "at least 32"),
        (64.0, 0.2, "at least 32"),
        (64, 1, "overlap must lie in 0…0.9, .* got 1"),
        (64, -0.1, "overlap must lie in"),
        (64, float("nan"), "overlap must lie in"),
    ],
)
def test_nonsense_is_refused(size: int, overlap: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tiling(size, overlap)


def test_what_the_options_mean() -> None:
    assert tiling_of(None, None) is None
    assert tiling_of(64, None) == Tiling(64, 0.2)
    assert tiling_of(64, 0.0) == Tiling(64, 0.0)
    with pytest.raises(ValueError, match="give tiles as well"):
        tiling_of(None, 0.2)
