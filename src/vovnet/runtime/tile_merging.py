"""Merges what was found in an image and in its tiles, so that every object counts once.

A tile may cut an object. A box that ends at the edge of its tile, inside the image, is a *fragment*. It goes where a
larger box explains it: where that box, limited to the tile, is the fragment. Fragments that nothing explains are joined
where they agree on one object, and the rest is left to NMS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vovnet import run_lengths
from vovnet.runtime.nms import survivors
from vovnet.runtime.thresholds import ScoreThreshold, is_above
from vovnet.runtime.tiles import Window

Boxes = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NMS_IOU = 0.45  # as in the detectors' own NMS
_AGREEMENT = 0.6  # IoU of a fragment with what its tile shows of an object, from which it belongs to it
_LIKE_SCORES = 0.5  # of two fragments that are joined, the lower score is at least this share of the higher one
_DOUBT = 0.5  # factor of a score that is doubted
_SMALL, _LARGE = 0.3, 0.15  # side of what is small in a tile, and of what is large in an image, as a share of theirs
_NO_GAP = 2  # pixels between two boxes that touch
_NEAR_TILE, _NEAR_BOX = 0.01, 0.05  # shares of tile and box within which a box ends at the edge


@dataclass(frozen=True, eq=False)
class Pieces:
    """What was found in an image and in its tiles; D boxes.

    boxes: (D, 4), x1 y1 x2 y2 in pixels of the image.
    labels: int64 (D,).
    scores: float32 (D,).
    windows: float32 (D, 4), the part of the image in which each was found.
    tiles: float32 (T, 4), all parts of the image but the whole.
    """

    boxes: Boxes
    labels: Indices
    scores: Scores
    windows: Boxes
    tiles: Boxes


@dataclass(frozen=True, eq=False)
class Merged:
    """K objects, best score first.

    scores: of joined fragments the mean.
    members: of each, the indices of the pieces that it was made of: one, or the fragments that were joined.
    """

    boxes: Boxes
    labels: Indices
    scores: Scores
    members: tuple[Indices, ...]

    def __getitem__(self, index: Indices) -> Merged:
        members = tuple(self.members[i] for i in index.tolist())
        return Merged(self.boxes[index], self.labels[index], self.scores[index], members)


def place(windows: Sequence[Window], found: Sequence[tuple[Boxes, Indices, Scores]]) -> Pieces:
    """What was found in each window, of which the first is the whole image: boxes in its pixels, labels and scores."""
    boxes, labels, scores = (np.concatenate(column) for column in zip(*found, strict=False))
    corners = np.array(windows, np.float32)
    of_each = np.repeat(corners, [len(part[0]) for part in found], axis=0)
    return Pieces(boxes + np.tile(of_each[:, :2], 2), labels, scores, of_each, corners[1:])


def merge(pieces: Pieces, image_size: tuple[int, int], *, score_threshold: ScoreThreshold, top_k: int | None) -> Merged:
    """The objects of an image of (height, width), each once: the `top_k` best with a score above the threshold."""
    cut = _cut_sides(pieces, image_size)
    pieces = replace(pieces, scores=_doubted(pieces, image_size))
    scores, remains = _explain(pieces, cut)
    groups = _join(pieces, scores, cut, remains)
    merged = Merged(
        np.array([_hull(pieces.boxes[group]) for group in groups], np.float32).reshape(-1, 4),
        np.array([pieces.labels[group[0]] for group in groups], np.int64),
        np.array([scores[group].mean() for group in groups], np.float32),
        tuple(groups),
    )
    merged = merged[np.flatnonzero(is_above(merged.scores, merged.labels, score_threshold))]
    return merged[_nms(merged)[:top_k]]


def join_codes(
    members: Sequence[Indices], code_of: Callable[[int], bytes], windows: Boxes, size: tuple[int, int]
) -> tuple[bytes, ...]:
    """COCO's run-length code of each object's mask in the image of (height, width) `size`.

    code_of: the code of the piece at an index, in its window.
    """
    return tuple(
        run_lengths.move_and_join([(code_of(i), _whole_pixels(windows[i])) for i in group.tolist()], size)
        for group in members
    )


def _whole_pixels(window: Boxes) -> Window:
    x1, y1, x2, y2 = map(int, window)
    return x1, y1, x2, y2


def _doubted(pieces: Pieces, image_size: tuple[int, int]) -> Scores:
    """The scores, lower for what only the whole image or only tiles show, where the other one should see it better.

    That is a tile for what is much smaller than the tile, because in the whole image detectors take groups of small
    objects for one; and the whole image for what is large in it, of which a tile may show a part that looks whole.
    """
    scores = pieces.scores.copy()
    areas = _sides(pieces.boxes).prod(axis=1)
    whole = np.array([[0, 0, *image_size[::-1]]], np.float32)
    in_whole: Flags = np.logical_and.reduce(pieces.windows == whole, axis=1)
    doubtful: Flags = ~in_whole & (areas >= _LARGE**2 * image_size[0] * image_size[1])
    for index in np.flatnonzero(in_whole).tolist():
        inside = ~_beyond(pieces.boxes[index], pieces.tiles, _NO_GAP).any(axis=1)
        small = areas[index] < _SMALL**2 * _sides(pieces.tiles).prod(axis=1)
        doubtful[index] = (inside & small).any()
    for index in np.flatnonzero(doubtful).tolist():
        others = np.flatnonzero((in_whole != in_whole[index]) & (pieces.labels == pieces.labels[index]))
        agree = others[_iou(pieces.boxes[index], pieces.boxes[others]) >= NMS_IOU]
        confirmed = pieces.scores[agree].max(initial=0)
        scores[index] = max(scores[index] * _DOUBT, min(scores[index], confirmed))
    return scores


def _cut_sides(pieces: Pieces, image_size: tuple[int, int]) -> Flags:
    """(D, 4): whether a box ends at that edge of its tile, and the image goes on there."""
    height, width = image_size
    inner = pieces.windows != np.array([0, 0, width, height], np.float32)
    slack = _NEAR_TILE * _sides(pieces.windows) + _NEAR_BOX * _sides(pieces.boxes)
    near: Flags = np.abs(pieces.boxes - pieces.windows) <= np.tile(slack, 2)
    return near & inner


def _explain(pieces: Pieces, cut: Flags) -> tuple[Scores, Flags]:
    """The scores, and which pieces remain (D,): a fragment gives its score to the box that explains it, if higher."""
    scores, remains = pieces.scores.copy(), np.ones(len(pieces.boxes), np.bool_)
    areas = _sides(pieces.boxes).prod(axis=1)
    fragments: Flags = np.logical_or.reduce(cut, axis=1)
    owner = np.full(len(areas), -1)
    for window, own in _by_window(pieces, fragments):
        others = _touching(pieces, window, np.ones_like(fragments))
        agree = _iou(pieces.boxes[own, None], _clip(pieces.boxes[others], window)) >= _AGREEMENT
        agree &= pieces.labels[own, None] == pieces.labels[others]
        agree &= areas[own, None] < areas[others]
        beyond = _beyond(pieces.boxes[own, None], pieces.windows[others], _NO_GAP)
        agree &= ~(beyond & cut[others]).any(axis=2)  # or the larger one is a fragment of the same object
        explained = np.flatnonzero(agree.any(axis=1))
        if len(explained):
            ranked = np.where(agree[explained], pieces.scores[others], -1)
            owner[own[explained]] = others[ranked.argmax(axis=1)]
    found = np.flatnonzero(owner >= 0)
    for index in found[np.argsort(areas[found], kind="stable")].tolist():  # so that a score reaches the largest box
        scores[owner[index]] = max(scores[owner[index]], scores[index])
    remains[found] = False
    return scores, remains


def _join(pieces: Pieces, scores: Scores, cut: Flags, remains: Flags) -> list[Indices]:
    """The remaining pieces in groups: fragments of one object together, all others alone."""
    group = np.arange(len(scores))
    fragments = remains & cut.any(axis=1)
    for window, own in _by_window(pieces, fragments):
        others = _touching(pieces, window, fragments)
        first, second = np.nonzero(_are_parts(pieces, scores, cut, own, others))
        for one, other in zip(own[first].tolist(), others[second].tolist(), strict=True):
            group[group == group[other]] = group[one]
    kept = np.flatnonzero(remains)
    order = kept[np.argsort(group[kept], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def _are_parts(pieces: Pieces, scores: Scores, cut: Flags, own: Indices, others: Indices) -> Flags:
    """(A, B): whether a fragment and one of another tile show one object, the box around both.

    They must touch, and each tile must show just its fragment of the object, and have cut it wherever it goes on.
    """
    first, second = pieces.boxes[own, None], pieces.boxes[None, others]
    hull = np.concatenate([np.minimum(first[..., :2], second[..., :2]), np.maximum(first[..., 2:], second[..., 2:])], 2)
    gap = np.maximum(first[..., :2], second[..., :2]) - np.minimum(first[..., 2:], second[..., 2:])
    lower, higher = np.minimum(scores[own, None], scores[others]), np.maximum(scores[own, None], scores[others])
    parts = (pieces.labels[own, None] == pieces.labels[others]) & (lower >= _LIKE_SCORES * higher)
    parts &= (gap <= _NO_GAP).all(axis=2)
    for boxes, window, at_edge in (
        (first, pieces.windows[own, None], cut[own, None]),
        (second, pieces.windows[None, others], cut[None, others]),
    ):
        parts &= _iou(boxes, _clip(hull, window)) >= _AGREEMENT
        beyond = _beyond(hull, window, 0)
        parts &= beyond.any(axis=2) & (~beyond | at_edge).all(axis=2)
    return parts


def _nms(merged: Merged) -> Indices:
    """The boxes that remain after NMS in each class, best score first."""
    order = np.lexsort((-merged.scores, merged.labels))
    of_class = np.unique(merged.labels, return_counts=True)[1]
    kept = order[survivors(merged.boxes[order], of_class, np.float32(NMS_IOU))]
    return kept[np.argsort(-merged.scores[kept], kind="stable")]


def _by_window(pieces: Pieces, chosen: Flags) -> Iterator[tuple[Boxes, Indices]]:
    """Each window with the chosen pieces found in it."""
    indices = np.flatnonzero(chosen)
    windows, numbers = np.unique(pieces.windows[indices], axis=0, return_inverse=True)
    for number, window in enumerate(windows):
        yield window, indices[numbers.reshape(-1) == number]


def _touching(pieces: Pieces, window: Boxes, chosen: Flags) -> Indices:
    """The chosen pieces of other windows that reach into a window, or to its edge."""
    reach = (pieces.boxes[:, :2] <= window[2:] + 1).all(axis=1) & (pieces.boxes[:, 2:] >= window[:2] - 1).all(axis=1)
    return np.flatnonzero(chosen & reach & (pieces.windows != window).any(axis=1))


def _beyond(boxes: Boxes, windows: Boxes, slack: int) -> Flags:
    """On which sides boxes go on outside a window, by more than `slack` pixels."""
    low, high = windows[..., :2] - slack, windows[..., 2:] + slack
    return np.concatenate([boxes[..., :2] < low, boxes[..., 2:] > high], axis=-1)


def _sides(boxes: Boxes) -> Boxes:
    return boxes[..., 2:] - boxes[..., :2]


def _hull(boxes: Boxes) -> Boxes:
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _clip(boxes: Boxes, window: Boxes) -> Boxes:
    low, high = window[..., :2], window[..., 2:]
    return np.concatenate([np.clip(boxes[..., :2], low, high), np.clip(boxes[..., 2:], low, high)], axis=-1)


def _iou(first: Boxes, second: Boxes) -> Scores:
    """IoU of boxes whose leading axes are broadcast; 0 for two empty boxes."""
    shared = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    intersection = np.clip(shared, 0, None).prod(axis=-1)
    union = _sides(first).prod(axis=-1) + _sides(second).prod(axis=-1) - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)
