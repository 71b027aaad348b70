"""Outlines of masks as COCO's polygons, for programs that cannot read run-length codes. Needs the extra "eval"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vovnet.masks import RleMasks, decode


def contours(masks: RleMasks) -> list[list[list[float]]]:
    """The polygons [x1, y1, x2, y2, …] of each mask, one per connected part, in pixels of the image.

    They run along the edges of pixels, so COCO draws exactly the same mask from them, except for holes: a COCO polygon
    cannot have any, so they are filled. Pixels that touch at a corner only belong to different parts. A mask without
    pixels has no polygon.
    """
    polygons = []
    for code, (x1, y1, x2, y2) in zip(masks.counts, masks.boxes().int().tolist(), strict=True):
        bitmap = decode(RleMasks((code,), masks.size))[0]
        polygons.append(_outlines(bitmap[y1:y2, x1:x2].numpy().astype(np.bool_), x1, y1))
    return polygons


def _outlines(bitmap: npt.NDArray[np.bool_], left: int, top: int) -> list[list[float]]:
    """The outer outlines of a bitmap (H, W) whose upper left corner is at (left, top).

    Every corner of an outline has one edge along its row and one along its column. A row enters and leaves the mask in
    turn, so its corners are joined in pairs: first to second, third to fourth, and so on. The same holds for columns.
    """
    padded = np.pad(bitmap, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    touching = (nw == se) & (ne == sw) & (nw != ne)  # two pixels meet at a corner only, which belongs to both outlines
    y, x = np.nonzero((nw ^ ne ^ sw ^ se) | touching)
    y, x = (np.repeat(axis, 1 + touching[y, x]) for axis in (y, x))
    # Of two copies of a corner, the second has the edge to the right.
    second = np.append(False, (y[1:] == y[:-1]) & (x[1:] == x[:-1]))[: len(x)]

    by_column = np.lexsort((second ^ ne[y, x], y, x))  # of two copies, the one with the edge above comes first
    partners = np.empty(len(x), dtype=np.int64)
    partners[by_column] = by_column[np.arange(len(x)) ^ 1]
    vertical_partner = partners.tolist()  # a corner's horizontal partner is the other of its pair: index ^ 1

    polygons, seen = [], bytearray(len(x))
    for first in range(len(x)):
        if seen[first]:
            continue
        outline, corner = [], first
        while not seen[corner]:
            seen[corner] = seen[corner ^ 1] = True
            outline += [corner, corner ^ 1]
            corner = vertical_partner[corner ^ 1]
        if se[
            y[first], x[first]
        ]:  # the upper left corner; if the pixel inside it is not in the mask, this is the outline of a hole
            polygons.append(np.stack([x[outline] + left, y[outline] + top], axis=1).ravel().astype(float).tolist())
    return polygons
