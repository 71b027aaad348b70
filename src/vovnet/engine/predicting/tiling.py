"""`vovnet.runtime.tiling` for images and detections that are tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from vovnet.masks import RleMasks
from vovnet.runtime.thresholds import ScoreThreshold, threshold_of_parts
from vovnet.runtime.tiles import Tiling, Window
from vovnet.runtime.tiling import Part, detect_in_parts
from vovnet.structures import Detections


class Detect(Protocol):
    """`Predictor.detect`."""

    def __call__(
        self, images: Sequence[Tensor], *, score_threshold: ScoreThreshold | None = None, top_k: int | None = None
    ) -> list[Detections]: ...


def detect_tiled(
    detect: Detect,
    image: Tensor,
    tiling: Tiling,
    *,
    batch_size: int,
    score_threshold: ScoreThreshold | None = None,
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

    def detect_parts(windows: Sequence[Window]) -> list[Part]:
        tiles = [image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in windows]
        return list(map(_to_part, detect(tiles, score_threshold=lowered, top_k=top_k)))

    merged, codes = detect_in_parts(
        detect_parts,
        size,
        tiling,
        batch_size=batch_size,
        score_threshold=0.0 if score_threshold is None else score_threshold,
        top_k=top_k,
    )
    boxes, labels, scores = map(torch.from_numpy, (merged.boxes, merged.labels, merged.scores))
    return Detections(boxes, labels, scores, size, None if codes is None else RleMasks(codes, size))


def _to_part(found: Detections) -> Part:
    code_of = None if found.masks is None else found.masks.counts.__getitem__
    return Part(found.boxes.numpy(), found.labels.numpy(), found.scores.numpy(), code_of)
