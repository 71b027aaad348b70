"""Long predictions: memory, open files and threads at the end are those after the warm-up."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import seeds
from .commands import Check, forked

SECTION = "growth"
MOST_MB = 30


class _Use(NamedTuple):
    rss_mb: float
    files: int
    threads: int


def growth(*, images: int, videos: int) -> Iterator[Check]:
    """Predicts on so many images and short videos, in a process each, with drawn results."""
    for name, count in (("images", images), ("videos", videos)):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _lay(folder / "in", name, count)
            finished = forked(lambda count=count: _predict(count), folder, kill_after_s=900)  # type: ignore[misc]
            lines = finished.stdout.splitlines()
            fault = json.loads(lines[-1]) if finished.status == 0 and lines else f"{finished.stderr[-300:]!r}"
            yield Check(SECTION, f"{count} {name}", fault)


def _lay(folder: Path, name: str, count: int) -> None:
    folder.mkdir()
    if name == "images":
        contents = [seeds.image("jpeg", size=(200, 150 + number)) for number in range(20)]
        for number in range(count):
            (folder / f"{number:05d}.jpg").write_bytes(contents[number % len(contents)])
    else:
        (folder / "00000.mp4").write_bytes(seeds.video("mp4", "mpeg4", frames=3))
        for number in range(1, count):
            shutil.copy(folder / "00000.mp4", folder / f"{number:05d}.mp4")


def _predict(count: int) -> None:
    """Prints what has grown, as JSON."""
    import torch

    from vovnet.engine.detector import Detector
    from vovnet.media.prediction_files import PredictionWriter
    from vovnet.media.results import Failure
    from vovnet.weights.detector import ModelInfo

    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, ("a", "b"), (1, 2))
    detector = Detector(info.build(), info.class_names, info.category_ids)
    files = sorted(Path("in").iterdir())
    warm: _Use | None = None
    with PredictionWriter("out") as writer:
        for number, part in enumerate(_parts(files, max(1, count // 20))):
            for result in detector.stream(part, score_threshold=0.4, top_k=5, keep_images=True):
                if isinstance(result, Failure):
                    raise result.error
                writer.write(result)
            if number == 4:
                warm = _use()
        last = _use()
    assert warm is not None, "20 parts"
    grown = []
    if last.rss_mb - warm.rss_mb >= MOST_MB:
        grown.append(f"memory {warm.rss_mb:.0f} → {last.rss_mb:.0f} MB")
    if last.files > warm.files or last.threads > warm.threads:
        grown.append(f"files {warm.files} → {last.files}, threads {warm.threads} → {last.threads}")
    print(json.dumps("; ".join(grown)))


def _parts(files: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(files), size):
        yield files[start : start + size]


def _use() -> _Use:
    import gc

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for the next image has not grown by leaking
    status = Path("/proc/self/status").read_text()
    rss_mb = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return _Use(rss_mb, len(os.listdir("/proc/self/fd")), threading.active_count())
