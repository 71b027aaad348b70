"""How long each stage of a detection takes, from the file on disk to the drawn picture."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from vovnet.data.images import read_image
from vovnet.engine.detector import Detector
from vovnet.engine.drawing import draw_detections
from vovnet.profiling.speed import Latency, is_stable, synchronize

STAGES = ("read image", "pre-process", "network", "decode + NMS", "draw")
STEADY_PASSES, MOST_WARMUP_PASSES = 10, 50


def time_stages(detector: Detector, image_paths: Sequence[Path], *, repetitions: int) -> dict[str, Latency]:
    """The times of each of `STAGES` over `repetitions` passes, one image after the other, batch size 1.

    read image      the file decoded to pixels; it was read once before, so it comes from the page cache, not the disk
    pre-process     resized, moved to the device, normalised
    network         the forward pass
    decode + NMS    boxes and scores from its outputs, the best of those that overlap, their masks, moved to the CPU
    draw            masks, boxes, names and scores on the pixels that were read

    The passes go round the images. Passes before them do not count: until the network's time is stable, at most 50.
    Each stage begins and ends with the device idle. They are the steps of `Detector.predict` with its thresholds, then
    `draw_detections`: their sum is the time of one image alone, while in a stream a thread reads ahead and so hides a
    part of it.

    Raises ValueError or OSError for an image that cannot be read.
    """
    if not image_paths or repetitions < 1:
        raise ValueError(f"expected images and repetitions, at least 1 each, got {len(image_paths)} and {repetitions}")
    paths = image_paths[:repetitions]
    for path in paths:
        path.read_bytes()
    warmup: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for path in islice(cycle(paths), MOST_WARMUP_PASSES):
        _pass(detector, path, warmup)
        if is_stable(warmup["network"], STEADY_PASSES):
            break
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for path in islice(cycle(paths), repetitions):
        _pass(detector, path, seconds)
    return {stage: Latency(tuple(values)) for stage, values in seconds.items()}


def _pass(detector: Detector, path: Path, seconds: dict[str, list[float]]) -> None:
    @contextmanager
    def stage(name: str) -> Iterator[None]:
        synchronize(detector.device)
        began = time.perf_counter()
        yield
        synchronize(detector.device)
        seconds[name].append(time.perf_counter() - began)

    with stage("read image"):
        pixels = read_image(path)
    with stage("pre-process"):
        batch = detector.prepare([pixels])
    with stage("network"):
        outputs = detector.forward(batch)
    with stage("decode + NMS"):
        (detections,) = detector.decode(outputs, [(pixels.shape[1], pixels.shape[2])])
    with stage("draw"):
        draw_detections(pixels, detections, detector.class_names)
