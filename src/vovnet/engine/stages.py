"""The time of each stage of a detection, from the image file to the annotated image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

from vovnet.data.images import read_image
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.drawing import draw_detections
from vovnet.profiling.speed import Latency, is_stable, synchronize
from vovnet.runtime.options import SCORE_THRESHOLD, TOP_K

STAGES = ("read image", "pre-process", "network", "decode + NMS", "draw")
STABLE_PASSES, MAX_WARMUP_PASSES = 10, 50

T = TypeVar("T")


def time_stages(detector: Detector, image_paths: Sequence[Path], *, repetitions: int) -> dict[str, Latency]:
    """The times of each of `STAGES` over `repetitions` passes, one image per pass.

    read image      decode the file; it was read once before, so it comes from the page cache, not from the disk
    pre-process     resize, move to the device, normalise
    network         the forward pass
    decode + NMS    outputs to boxes and scores, non-maximum suppression, masks if any, move to the CPU
    draw            masks, boxes, class names and scores on the image

    The passes cycle through the images. Warm-up passes do not count: they run until the network's time is stable, at
    most 50. The device is idle at the start and end of each stage. The stages are the steps of `Detector.predict` with
    its default thresholds, then `draw_detections`. Their sum is the time of one image alone; in a stream, where a
    thread reads ahead, an image takes less.

    Raises ValueError or OSError for an image that cannot be read.
    """
    if not image_paths or repetitions < 1:
        raise ValueError(f"expected images and repetitions, at least 1 each, got {len(image_paths)} and {repetitions}")
    paths = image_paths[:repetitions]
    for path in paths:
        path.read_bytes()  # into the page cache
    network_s: list[float] = []
    for path in islice(cycle(paths), MAX_WARMUP_PASSES):
        network_s.append(_stage_seconds(detector, path)[STAGES.index("network")])
        if is_stable(network_s, STABLE_PASSES):
            break
    passes = [_stage_seconds(detector, path) for path in islice(cycle(paths), repetitions)]
    return {stage: Latency(seconds) for stage, seconds in zip(STAGES, zip(*passes, strict=True), strict=True)}


def _stage_seconds(detector: Detector, path: Path) -> list[float]:
    """The times of `STAGES` in one pass."""
    seconds = []

    def timed(stage: Callable[[], T]) -> T:
        synchronize(detector.device)
        started = time.perf_counter()
        result = stage()
        synchronize(detector.device)
        seconds.append(time.perf_counter() - started)
        return result

    pixels = timed(lambda: read_image(path))
    image_size = (pixels.shape[1], pixels.shape[2])
    batch = timed(lambda: detector.prepare([pixels]))
    outputs = timed(lambda: detector.forward(batch))
    (detections,) = timed(lambda: detector.decode(outputs, [image_size], score_threshold=SCORE_THRESHOLD, top_k=TOP_K))
    timed(lambda: draw_detections(pixels, detections, detector.class_names))
    return seconds
