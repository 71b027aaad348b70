"""What an exported file must do besides finding the same in one image after another, and how long it takes."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from torch import Tensor

from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.export.findings import before_nms, find_bounds
from vovnet.export.parity import BeforeNms, Parity, Rules, Tolerance, compare_image, total
from vovnet.structures import Detections

LOOSE = Tolerance(iou=0.8, score=0.1)
"""In bf16 and int8 a batch may round otherwise than an image alone; what is frozen or mixed up is much further away."""

_SMALL = (97, 75)
_WARM_UP, _LEAST, _MOST, _SECONDS = 2, 3, 15, 5.0


def batch_differences(detector: Detector, candidate: ExportedDetector, image: Tensor, rules: Rules) -> Parity:
    """A batch of three against the same three one by one: the image, turned over one axis and over both.

    image: of the network's input size, with detections.

    Masks are compared with what PyTorch, `detector`, predicts in the boxes of the batch: a runtime may round otherwise
    in a batch.
    """
    views = [image, image.flip(2).contiguous(), image.flip(1, 2).contiguous()]
    sizes = [(image.shape[1], image.shape[2])] * len(views)
    alone = [candidate.detect([view], [size])[0] for view, size in zip(views, sizes, strict=True)]
    together = candidate.detect(views, sizes)
    bounds = [find_bounds(detector, view, found) for view, found in zip(views, together, strict=True)]
    return total([compare_image(a, b, rules, bounds=c) for a, b, c in zip(alone, together, bounds, strict=True)])


def blank_differences(
    detector: Detector, candidate: ExportedDetector, image: Tensor, rules: Rules
) -> tuple[Detections, Detections, Parity]:
    """What PyTorch and the exported file find in an image without objects, and what of it differs.

    The image is grey and as large as `image`. That of a two-stage detector is faint noise, small and of odd sides: in
    an even one all proposals are ties, and group norm, which divides by the deviation, turns differences of 1e-5 into
    some of 1e-2, also between PyTorch in float32 and in float64.
    """
    two_stage = detector.model.two_stage
    blank = torch.full_like(image, 128)
    if two_stage:
        grain = torch.Generator().manual_seed(0)
        blank = torch.randint(112, 144, (3, *_SMALL), dtype=torch.uint8, generator=grain)
    size = (blank.shape[1], blank.shape[2])
    expected, found = detector.detect([blank], [size])[0], candidate.detect([blank], [size])[0]

    def raw() -> BeforeNms | None:
        return before_nms(detector, blank, size, rules.raw_floor) if two_stage else None

    return expected, found, compare_image(expected, found, rules, raw, find_bounds(detector, blank, found))


def rows_below(candidate: ExportedDetector, image: Tensor, threshold: float) -> int:
    """How many rows the exported file gives whose score is not above the threshold that it is told.

    Threshold 1 is asked too, for which there must be no row at all.
    """
    batch = np.ascontiguousarray(image.numpy()[None])
    rows, none = candidate.session.run(batch, threshold), candidate.session.run(batch, 1.0)
    return int((rows.scores <= threshold).sum()) + len(none.scores)


def times_ms(detector: Detector, candidate: ExportedDetector, image: Tensor, threshold: float) -> tuple[float, float]:
    """Median time from one resized image to its boxes with PyTorch and with the exported file, in turn. Rough."""
    size = (image.shape[1], image.shape[2])
    runs = (detector.detect, candidate.detect)
    taken: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    for turn in range(_WARM_UP + _MOST):
        if turn >= _WARM_UP + _LEAST and time.perf_counter() - started > _SECONDS:
            break
        for run, own in zip(runs, taken, strict=True):
            before = time.perf_counter()
            run([image], [size], score_threshold=threshold)
            if turn >= _WARM_UP:
                own.append(1000 * (time.perf_counter() - before))
    return statistics.median(taken[0]), statistics.median(taken[1])
