"""Tiles: overlapping parts of a large image, in which small objects are large enough for a detector.

What the tiles show is detected, moved back into the image and merged by `vovnet.runtime.tile_merging`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from vovnet.errors import UsageError
from vovnet.printing import quoted

SMALLEST, MOST_OVERLAP, OVERLAP = 32, 0.9, 0.2

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 of a part of an image, in whole pixels; x2 and y2 are exclusive."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles. ValueError for a tile of fewer than 32 pixels, or an overlap outside 0…0.9.

    size: side of a tile in pixels of the image.
    overlap: share of its side that a tile has in common with the next one.
    """

    size: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < SMALLEST:
            raise ValueError(
                f"tiles must be a number of pixels of at least {SMALLEST}, the side of a tile, got {quoted(self.size)}"
            )
        number = isinstance(self.overlap, int | float) and not isinstance(self.overlap, bool)
        if not (number and 0 <= self.overlap <= MOST_OVERLAP):
            raise ValueError(
                f"overlap must lie in 0…{MOST_OVERLAP}, the share of a tile that the next one also shows, got "
                f"{quoted(self.overlap)}"
            )

    @property
    def shared(self) -> int:
        """Pixels that neighbouring tiles have in common: what is no longer than this, some tile shows whole."""
        return round(self.size * self.overlap)

    def fits(self, image_size: tuple[int, int]) -> bool:
        """Whether an image of (height, width) is no larger than a tile, so that it needs none."""
        return max(image_size) <= self.size

    def tiles(self, image_size: tuple[int, int]) -> Iterator[Window]:
        """The tiles of an image of (height, width), row by row.

        The last ones are moved back, so that all are whole. Only an image narrower than a tile has smaller ones.
        """
        height, width = image_size
        for y, x in product(self._starts(height), self._starts(width)):
            yield x, y, min(x + self.size, width), min(y + self.size, height)

    def parts(self, image_size: tuple[int, int]) -> Iterator[Window]:
        """The whole image, which shows objects larger than a tile, then the tiles, unless it is no larger than one."""
        yield 0, 0, image_size[1], image_size[0]
        if not self.fits(image_size):
            yield from self.tiles(image_size)

    def _starts(self, length: int) -> list[int]:
        last = max(length - self.size, 0)
        return [*range(0, last, self.size - self.shared), last]


def tiling_of(tiles: int | None, overlap: float | None) -> Tiling | None:
    """What the options `tiles` and `overlap` mean: None without tiles. UsageError for nonsense."""
    if tiles is not None:
        try:
            return Tiling(tiles, OVERLAP if overlap is None else overlap)
        except ValueError as error:
            raise UsageError(str(error)) from None
    if overlap is not None:
        raise UsageError("overlap is that of tiles: give tiles as well, the side of a tile in pixels")
    return None


def tiles_hint(record: Mapping[str, Any], tiles: int | None) -> str | None:
    """What to say where weights that were trained on tiles, as their record states, are to run without."""
    with suppress(KeyError, TypeError, ValueError):  # the record may be of an older version, or a stranger's
        trained = Tiling(**record["config"]["data"]["tiles"])
        if tiles is None:
            options = f"--tiles {trained.size} --overlap {trained.overlap:g}"
            return f"these weights were trained on tiles of {trained.size} pixels: {options} detects in such tiles too"
    return None
