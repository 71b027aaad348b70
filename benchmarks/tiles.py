"""What tiles are worth: `python benchmarks/tiles.py` writes docs/records/tiles.json. Two minutes on two cores.

Images of blood cells are scaled and put together on canvases, on which the bundled detector is tested with and without
tiles, and with box voting alone in place of the merging. How tiles are merged was chosen on val; the record is of test.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from shared import RECORDS, ROOT
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.engine.detector import load_network
from vovnet.engine.predicting.predictor import Predictor
from vovnet.files import write_json
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.models.detectors.merging import vote_boxes
from vovnet.provenance import record_header
from vovnet.runtime.tile_merging import merge, place
from vovnet.runtime.tiles import Tiling
from vovnet.structures import Detections, Target

BATCH_SIZE = 8
BACKGROUND = (200, 190, 200)


@dataclass(frozen=True)
class Canvas:
    """How images are put together.

    size: (height, width).
    places: scale, x and y of each image.
    tiles: sizes that are tried.
    """

    name: str
    size: tuple[int, int]
    places: tuple[tuple[float, int, int], ...]
    tiles: tuple[int, ...]


CANVASES = (
    Canvas(
        "nine images at a third of their size",
        (480, 640),
        tuple((1 / 3, 213 * column, 160 * row) for row in range(3) for column in range(3)),
        (224,),
    ),
    Canvas(
        "eight images at 1.5, 1, a half and a third of their size",
        (960, 1600),
        (
            *((1.5, 0, 0), (1.0, 960, 0)),
            *((1 / 3, 960 + 213 * column, 480) for column in range(3)),
            *((1 / 2, 320 * column, 720) for column in range(3)),
        ),
        (320, 640),
    ),
    Canvas("the images as they are", (480, 640), ((1.0, 0, 0),), (320, 640)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, default=RECORDS / "tiles.json")
    args = parser.parse_args()
    detector, dataset = load_network("bccd", "cpu"), open_dataset(ROOT / "samples/bccd", args.split)
    rows = [row for canvas in CANVASES for row in measure(detector, dataset, canvas)]
    header = {"weights": "bccd", "data": "samples/bccd", "split": args.split, "overlap": Tiling(32).overlap}
    write_json(args.output, {**header, **record_header("python benchmarks/tiles.py"), "rows": rows}, indent=2)


def measure(detector: Predictor, dataset: DetectionDataset, canvas: Canvas) -> list[dict[str, Any]]:
    """A row without tiles, then for each size of tiles one with box voting alone and one with the merging."""
    number = len(canvas.places)
    groups = [dataset.samples[start : start + number] for start in range(0, len(dataset) - number + 1, number)]
    drawn = [draw(group, canvas) for group in groups]
    targets = [target for _, target in drawn]
    whole = [detector.detect([image])[0] for image, _ in drawn]
    rows = [row_of(canvas, None, "none", whole, targets, len(dataset.class_names))]
    for size in canvas.tiles:
        found = [
            in_tiles(detector, image, of_whole, Tiling(size)) for (image, _), of_whole in zip(drawn, whole, strict=True)
        ]
        for index, merging in enumerate(("voting", "ours")):
            merged = [both[index] for both in found]
            rows.append(row_of(canvas, size, merging, merged, targets, len(dataset.class_names)))
    return rows


def draw(samples: Sequence[Sample], canvas: Canvas) -> tuple[Tensor, Target]:
    """The canvas with its objects."""
    image = torch.tensor(BACKGROUND, dtype=torch.uint8)[:, None, None].repeat(1, *canvas.size)
    boxes, labels, difficult = [], [], []
    for sample, (scale, x, y) in zip(samples, canvas.places, strict=True):
        pixels = read_image(sample.image_path)
        height, width = (int(length * scale) for length in pixels.shape[1:])
        image[:, y : y + height, x : x + width] = F.resize(pixels, [height, width], antialias=True)
        boxes.append(sample.target.boxes * scale + torch.tensor([x, y, x, y]))
        labels.append(sample.target.labels)
        difficult.append(sample.target.difficult)
    return image, Target.make(torch.cat(boxes), torch.cat(labels), torch.cat(difficult))


def in_tiles(detector: Predictor, image: Tensor, whole: Detections, tiling: Tiling) -> tuple[Detections, Detections]:
    """The detections of an image and its tiles, merged by box voting alone, and as `detect_tiled` merges them."""
    size = (image.shape[1], image.shape[2])
    windows, parts = list(tiling.parts(size)), [whole]
    if len(windows) == 1:
        return whole, whole
    for start in range(1, len(windows), BATCH_SIZE):
        parts += detector.detect([image[:, y1:y2, x1:x2] for x1, y1, x2, y2 in windows[start : start + BATCH_SIZE]])
    pieces = place(windows, [(part.boxes.numpy(), part.labels.numpy(), part.scores.numpy()) for part in parts])
    merged = merge(pieces, size, score_threshold=0.0, top_k=None)
    raw, ours = (
        Detections(*map(torch.from_numpy, (found.boxes, found.labels, found.scores)), size)
        for found in (pieces, merged)
    )
    return vote_boxes([raw], soft=False), ours


def row_of(
    canvas: Canvas, tiles: int | None, merging: str, found: list[Detections], targets: list[Target], classes: int
) -> dict[str, Any]:
    figures = evaluate_coco(found, targets, classes).figures
    row = {"images": canvas.name, "number": len(targets), "size": canvas.size, "tiles": tiles, "merging": merging}
    row |= {"objects": objects(targets), "voc07_map": evaluate_voc(found, targets, classes).mean_ap11}
    row |= {key: figures[key] for key in ("AP", "AP50", "APs", "APm", "APl")}
    print({key: value for key, value in row.items() if key not in asdict(canvas)}, flush=True)
    return row


def objects(targets: list[Target]) -> dict[str, int]:
    """Number of small, medium and large objects, as COCO counts them."""
    areas = torch.cat([target.area for target in targets])
    small, large = int((areas < 32**2).sum()), int((areas > 96**2).sum())
    return {"small": small, "medium": len(areas) - small - large, "large": large}


if __name__ == "__main__":
    main()
