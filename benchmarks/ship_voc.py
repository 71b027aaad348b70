"""Put the weights of the stage voc into the package: `python benchmarks/ship_voc.py [docs/records/gpu]`.

They must have reached a held-out VOC07 mAP of 0.45. Writes src/vovnet/weights/voc.safetensors, from which on
`vovnet.load("voc")` and `vovnet list` have the name, and docs/detections_voc.jpg for the README; copies the record and
the log to docs/records/gpu, if they are elsewhere. Then `make results` renders the pages.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from gpu_pages import PICTURE
from gpu_stages.voc import ENOUGH, HELD
from PIL import Image
from shared import ROOT

from vovnet.engine.detector import Detector
from vovnet.files import replacing, write_image
from vovnet.paper.gpu_records import FOLDER, measured_results, read_stage
from vovnet.weights.detector import LoadedModel, load_model

LARGEST_BYTES = 13_000_000
HEIGHT = 300


def ship(folder: Path, root: Path = ROOT) -> Path:
    """The file in the package. folder: with voc.json, voc.log.jsonl and voc.safetensors, called gpu.

    ValueError if the weights are not those of the record, are too large, or are not good enough.
    """
    content = read_stage(folder.parent, "voc")
    held = None if content is None else measured_results(content).get(HELD)
    weights = folder / "voc.safetensors"
    if held is None or not weights.is_file():
        raise ValueError(f"{folder} must hold voc.json with a held-out test and voc.safetensors: run `make gpu` first")
    loaded = load_model(weights)
    check(loaded, held, weights)
    shipped = root / "src/vovnet/weights/voc.safetensors"
    records = root / "docs/records" / FOLDER
    for source, target in (
        (weights, shipped),
        *((folder / name, records / name) for name in ("voc.json", "voc.log.jsonl")),
    ):
        if source.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)
    write_image(root / "docs" / PICTURE, picture(loaded))
    return shipped


def check(loaded: LoadedModel, held: dict[str, Any], weights: Path) -> None:
    score, stated = held["test"]["voc07_map"], loaded.record.get("test", {}).get("voc07_map")
    if stated != score:
        raise ValueError(f"{weights} states a mAP of {stated}, its record {score}: they are not of the same round")
    if score < ENOUGH:
        raise ValueError(f"{weights} has a held-out mAP of {score:.3f}; weights ship from {ENOUGH} on: train on")
    if (size := weights.stat().st_size) > LARGEST_BYTES:
        raise ValueError(f"{weights} has {size:,} bytes, more than {LARGEST_BYTES:,}")


def picture(loaded: LoadedModel, photos: Path = ROOT / "samples/photos") -> Image.Image:
    """The bundled photographs with what the weights detect, in one row."""
    detector = Detector(loaded.model, loaded.info.class_names, loaded.info.category_ids, device="cpu")
    drawn = [detector.predict(path).draw() for path in sorted(photos.glob("*.*g"))]
    scaled = [image.resize((round(image.width * HEIGHT / image.height), HEIGHT)) for image in drawn]
    row = Image.new("RGB", (sum(image.width for image in scaled) + 8 * (len(scaled) - 1), HEIGHT), "white")
    left = 0
    for image in scaled:
        row.paste(image, (left, 0))
        left += image.width + 8
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs/records" / FOLDER)
    try:
        print(
            f"{ship(parser.parse_args().folder)}; now `make results`, and add the name to tests/golden/public_names.txt"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"ship_voc: {error}")
