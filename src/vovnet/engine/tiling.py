"""Detection in a large image as a whole and in its tiles, so that small objects are found too.

`vovnet.runtime.tiles` says how an image is cut, `vovnet.runtime.tile_merging` how each object counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from vovnet.masks import RleMasks
from vovnet.runtime.tile_merging import join_codes, merge, place
from vovnet.runtime.tiles import Tiling, threshold_of_parts
from vovnet.structures import Detections


class Detect(Protocol):
    """`Predictor.detect`."""

    def __call__(
        self, images: Sequence[Tensor], *, score_threshold: float | None = None, top_k: int | None = None
    ) -> list[Detections]: ...


def detect_tiled(
    detect: Detect,
    image: Tensor,
    tiling: Tiling,
    *,
    batch_size: int,
    score_threshold: float | None = None,
    top_k: int | None = None,
) -> Detections:
    """The detections in an image, uint8 RGB (3, H, W), as a whole and in its tiles: each object once.

    An image that is no larger than a tile is detected as without tiles. Memory holds the image, `batch_size` resized
    tiles and what was found in all.

    top_k: most detections in the image, and in each tile; None is the model's own number in each tile, and all of them
        in the image.
    """
    size = (image.shape[1], image.shape[2])
    if tiling.fits(size):
        return detect([image], score_threshold=score_threshold, top_k=top_k)[0]
    lowered = None if score_threshold is None else threshold_of_parts(score_threshold)
    windows = tiling.parts(size)
    parts: list[Detections] = []
    shown = []
    while batch := list(islice(windows, batch_size)):
        tiles = [image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in batch]
        parts += detect(tiles, score_threshold=lowered, top_k=top_k)
        shown += batch
    columns = [(part.boxes.numpy(), part.labels.numpy(), part.scores.numpy()) for part in parts]
    pieces = place(shown, columns)
    merged = merge(pieces, size, score_threshold=score_threshold or 0.0, top_k=top_k)
    masks = None
    if all(part.masks is not None for part in parts):
        codes = [code for part in parts if part.masks is not None for code in part.masks.counts]
        masks = RleMasks(join_codes(merged.members, codes.__getitem__, pieces.windows, size), size)
    boxes, labels, scores = map(torch.from_numpy, (merged.boxes, merged.labels, merged.scores))
    return Detections(boxes, labels, scores, size, masks)
