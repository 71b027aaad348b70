"""Detection in a large image as a whole and in its tiles, so that small objects are found too.

`vovnet.runtime.tiles` says how an image is cut, `vovnet.runtime.tile_merging` how each object counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from vovnet.runtime.thresholds import ScoreThreshold
from vovnet.runtime.tile_merging import Merged, join_codes, merge, place
from vovnet.runtime.tiles import Tiling, Window

Codes = tuple[bytes, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """What was found in a part of an image, in pixels of that part; D detections.

    boxes: float32 (D, 4).
    labels: int64 (D,).
    scores: float32 (D,).
    code_of: COCO's run-length code of the mask at an index; None if the detector has no masks.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    code_of: Callable[[int], bytes] | None


def detect_in_parts(
    detect: Callable[[Sequence[Window]], Sequence[Part]],
    size: tuple[int, int],
    tiling: Tiling,
    *,
    batch_size: int,
    score_threshold: ScoreThreshold,
    top_k: int | None,
) -> tuple[Merged, Codes | None]:
    """The objects of an image of (height, width), each once, and the codes of their masks if the detector has any.

    Only the masks of objects that remain are asked for.

    detect: what is found in each of at most `batch_size` parts, with scores above `threshold_of_parts`.
    score_threshold, top_k: which objects remain; None is all.
    """
    windows, parts, shown = tiling.parts(size), list[Part](), list[Window]()
    while batch := list(islice(windows, batch_size)):
        parts += detect(batch)
        shown += batch
    pieces = place(shown, [(part.boxes, part.labels, part.scores) for part in parts])
    merged = merge(pieces, size, score_threshold=score_threshold, top_k=top_k)
    codes_of = [part.code_of for part in parts if part.code_of is not None]
    if len(codes_of) < len(parts):
        return merged, None
    starts = np.cumsum([0, *(len(part.boxes) for part in parts)])

    def code_of(index: int) -> bytes:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return codes_of[number](index - int(starts[number]))

    return merged, join_codes(merged.members, code_of, pieces.windows, size)
