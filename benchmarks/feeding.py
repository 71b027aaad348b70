"""How many images a loader process feeds: `python benchmarks/feeding.py [DATA SPLIT]` prints images/s of one core.

Compared in turn within one run: the whole augmentation in the loader process; its part where the device draws; the same
with the images in a cache. And how many images per second the device draws.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import ROOT

from vovnet.data.batches.device_drawing import LeaveToDevice, collate_parts, draw_images
from vovnet.data.batches.image_cache import open_cache
from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.transforms import SSDAugmentation

SIDE, MEAN, TOGETHER = 300, (123.0, 117.0, 104.0), 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=ROOT / "samples/bccd")
    parser.add_argument("split", nargs="?", default="train")
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="images that the device draws together")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(args.data, args.split)
    dataset = replace(dataset, samples=dataset.samples[: args.images])
    with tempfile.TemporaryDirectory() as folder:
        seconds = time_paths(dataset, Path(folder), args.rounds)
    usual = seconds["all in the loader process"]
    for name, values in seconds.items():
        ratios = [before / now for before, now in zip(usual, values, strict=True)]
        rate = len(dataset) / statistics.median(values)
        print(f"{name:35} {rate:7.0f} images/s and core, {statistics.median(ratios):5.2f} times as many")
    print(f"{f'drawn on {args.device}':35} {draw_rate(dataset, args.device, args.batch):7.0f} images/s")


def time_paths(dataset: DetectionDataset, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds for all images, for each path and round."""
    augment = SSDAugmentation((SIDE, SIDE), MEAN)
    cut, cached = LeaveToDevice(augment), open_cache(dataset, folder, workers=0)
    assert cached is not None

    def read(index: int) -> torch.Tensor:
        return read_image(dataset[index].image_path)

    paths: dict[str, Callable[[np.random.Generator, list[int]], object]] = {
        "all in the loader process": lambda rng, part: torch.stack([of(augment, read(i), i, rng) for i in part]),
        "the device draws": lambda rng, part: collate_parts([of(cut, read(i), i, rng) for i in part]),
        "the device draws, images in a cache": lambda rng, part: collate_parts(
            [of(cut, cached[i], i, rng) for i in part]
        ),
    }

    def of(augmentation: Any, image: torch.Tensor, index: int, rng: np.random.Generator) -> Any:
        return augmentation(image, dataset[index].target, rng)[0]

    seconds: dict[str, list[float]] = {name: [] for name in paths}
    parts = [list(range(start, min(start + TOGETHER, len(dataset)))) for start in range(0, len(dataset), TOGETHER)]
    for turn in range(rounds + 1):
        for name, path in paths.items():
            rng, began = np.random.default_rng(turn), time.perf_counter()
            for part in parts:
                path(rng, part)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def draw_rate(dataset: DetectionDataset, device: str, batch: int) -> float:
    """Images per second that the device draws, with those of one batch again and again."""
    augment, rng = LeaveToDevice(SSDAugmentation((SIDE, SIDE), MEAN)), np.random.default_rng(0)
    samples = [dataset[index % len(dataset)] for index in range(batch)]
    parts = [augment(read_image(sample.image_path), sample.target, rng)[0] for sample in samples]
    undrawn = collate_parts(parts).to(torch.device(device))
    rounds = 30 if device.startswith("cuda") else 1
    for _ in range(3 if rounds > 1 else 1):
        draw_images(undrawn)[0, 0, 0, 0].item()  # waits for the device
    began = time.perf_counter()
    for _ in range(rounds):
        drawn = draw_images(undrawn)
    drawn[0, 0, 0, 0].item()
    return batch * rounds / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
