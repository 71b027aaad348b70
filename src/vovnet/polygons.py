"""The polygons of the objects in an image, as flat arrays: a whole dataset of them fits in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# What an object may have for its polygons to be drawn in every proposal. Objects in COCO have far less; a file from a
# stranger could fill the memory.
_MOST_CORNERS = 10_000
_LONGEST_OUTLINE = 200  # widths and heights of the object's box


@dataclass(frozen=True, eq=False)
class Polygons:
    """The polygons of M objects in pixels of their image. An object has one for each of its parts, or none at all.

    points: (P, 2), x and y of all corners, in the order of the objects and their parts.
    corners: number of corners of each part.
    parts: (M,), number of parts of each object.
    """

    points: Floats
    corners: Integers
    parts: Integers

    @classmethod
    def make(cls, objects: Sequence[Sequence[Sequence[float]]]) -> Polygons:
        """From COCO's lists [x1, y1, x2, y2, …], a list of such lists for each object."""
        polygons = list(chain.from_iterable(objects))
        return cls(
            np.array(list(chain.from_iterable(polygons)), dtype=np.float64).reshape(-1, 2),
            np.array([len(polygon) // 2 for polygon in polygons], dtype=np.int64),
            np.array([len(of_object) for of_object in objects], dtype=np.int64),
        )

    @classmethod
    def cat(cls, polygons: Sequence[Polygons]) -> Polygons:
        """The polygons of the objects of several images; each stays in pixels of its own."""
        columns = ([getattr(item, name) for item in polygons] for name in ("points", "corners", "parts"))
        return cls(*map(np.concatenate, columns))

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: npt.NDArray[Any]) -> Polygons:
        """The polygons of the objects that a boolean mask, indices (in any order, repeated or not) select."""
        objects = np.arange(len(self))[index]
        parts = _members(self.parts, objects)
        return Polygons(self.points[_members(self.corners, parts)], self.corners[parts], self.parts[objects])

    def owners(self) -> Integers:
        """(P,): the index of the object that each corner belongs to."""
        return np.repeat(np.repeat(np.arange(len(self)), self.parts), self.corners)

    def drawable(self, boxes: Floats) -> Polygons:
        """The same without the polygons of objects that would take too long, or too much memory, to draw.

        boxes: (M, 4), what is visible of each object.
        """
        owners, ends = self.owners(), np.cumsum(self.corners)
        before = np.arange(len(self.points)) - 1
        before[ends - self.corners] = ends - 1
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
        edges = (np.abs(self.points - self.points[before]) / sides[owners]).max(axis=1, initial=0)
        outlines, corners = (np.bincount(owners, weights, minlength=len(self)) for weights in (edges, None))
        kept = (outlines <= _LONGEST_OUTLINE) & (corners <= _MOST_CORNERS)
        kept_parts = np.repeat(kept, self.parts)
        return Polygons(self.points[kept[owners]], self.corners[kept_parts], self.parts * kept)


def _members(counts: Integers, groups: Integers) -> Integers:
    """The positions of the members of these groups, where group after group lies in a row, of `counts` members each."""
    chosen = counts[groups]
    first = np.cumsum(counts)[groups] - chosen
    within = np.arange(chosen.sum()) - np.repeat(np.cumsum(chosen) - chosen, chosen)
    return np.repeat(first, chosen) + within
