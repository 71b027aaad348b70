"""Detection in a large image as a whole and in its tiles, without PyTorch; see `vovnet.runtime.tiles`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from vovnet.media.pixels import Pixels
from vovnet.runtime.selection import Arrays
from vovnet.runtime.tile_merging import join_codes, merge, place
from vovnet.runtime.tiles import Tiling, threshold_of_parts

Codes = tuple[bytes, ...]


def detect_tiled(
    detect: Callable[[Sequence[Pixels], float, int], list[Arrays]],
    image: Pixels,
    tiling: Tiling,
    *,
    batch_size: int,
    score_threshold: float,
    top_k: int,
) -> tuple[Arrays, Codes | None]:
    """The detections in an image, uint8 RGB (H, W, 3), each object once, and the codes of their masks if they have any.

    As `vovnet.engine.tiling.detect_tiled`.

    detect: the detections in each of some images, given a score threshold and the most detections of an image.
    """
    size = (image.shape[0], image.shape[1])
    if tiling.fits(size):
        (found,) = detect([image], score_threshold, top_k)
        return found, codes_of(found)
    windows, parts, shown = tiling.parts(size), list[Arrays](), []
    while batch := list(islice(windows, batch_size)):
        tiles = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in batch]
        parts += detect(tiles, threshold_of_parts(score_threshold), top_k)
        shown += batch
    pieces = place(shown, [(part.boxes, part.labels, part.scores) for part in parts])
    merged = merge(pieces, size, score_threshold=score_threshold, top_k=top_k)
    codes = None
    if all(part.masks is not None for part in parts):
        ends = np.cumsum([len(part.boxes) for part in parts])

        def code_of(index: int) -> bytes:
            number = int(np.searchsorted(ends, index, side="right"))
            first = index - int(ends[number]) + len(parts[number].boxes)
            (code,) = codes_of(parts[number], slice(first, first + 1)) or ()
            return code

        codes = join_codes(merged.members, code_of, pieces.windows, size)
    return Arrays(merged.boxes, merged.labels, merged.scores, size), codes


def codes_of(found: Arrays, part: slice = slice(None)) -> Codes | None:
    """COCO's run-length codes of the masks in an image, or of a part of them; None if the detector has no masks."""
    if found.masks is None:
        return None
    from vovnet.runtime.masks import paste_codes

    return paste_codes(found.masks[part], found.boxes[part], found.image_size)
