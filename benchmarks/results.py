"""Write docs/results.md from docs/records: `make results`. No figure is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vovnet import create_model
from vovnet.files import replacing
from vovnet.measure.cost import count_multiply_adds, count_parameters

ROOT = Path(__file__).parents[1]

# Tables 2 and 3 of arXiv 1904.09730 as printed: its FLOPs (G, multiply-adds), parameters (M), mAP on VOC07 test.
PUBLISHED = {
    "dsod300_densenet67": ("5.3", "5.9", "73.6"),
    "dsod300_vovnet27_slim": ("5.6", "5.9", "74.8"),
    "dsod300_vovnet27_slim_bottleneck": ("4.6", "4.8", "71.1"),
}


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def structure() -> str:
    rows = []
    for name, (giga, mega, mean_ap) in PUBLISHED.items():
        model = create_model(name, num_classes=20)
        counts = count_multiply_adds(model, model.preprocessing.image_size), count_parameters(model)
        rows.append([name, f"{counts[0]:,}", giga, f"{counts[1]:,}", mega, mean_ap])
    header = ["model, 21 classes", "multiply-adds", "published, G", "parameters", "published, M", "published mAP"]
    return table(header, rows)


def accuracy(record: dict[str, Any]) -> str:
    rows = []
    for split in ("val", "test"):
        result = record[split]
        for name, values in result["classes"].items():
            shown = [values[key] for key in ("voc07_ap", "voc_area_ap", "coco_ap", "ap50")]
            rows.append([split, name, str(values["objects"]), *map(figure, shown)])
        mean = [result["voc07_map"], result["voc_area_map"], result["coco"]["AP"], result["coco"]["AP50"]]
        objects = sum(values["objects"] for values in result["classes"].values())
        rows.append([split, "**mean**", str(objects), *(f"**{figure(value)}**" for value in mean)])
    return table(["split", "class", "objects", "AP VOC07 (11-point)", "AP VOC area", "AP COCO", "AP50"], rows)


def speed(bench: dict[str, Any]) -> str:
    rows = [[name, f"{value:.3f}", bench["claims"].get(name, "")] for name, value in bench["results"].items()]
    return table(["figure", "measured", "claim"], rows)


def render() -> str:
    record = json.loads((ROOT / "docs/records/bccd.json").read_text())
    bench = json.loads((ROOT / "docs/records/bench.json").read_text())
    config, machine = record["config"], bench["machine"]
    return f"""# Results

Written by `make results` from the records in [records](records). Three kinds of figures, never mixed: **exact** ones
are recomputed from the structure; **published** ones are the paper's; **measured** ones name their device. What needs a
GPU has not been measured: frames per second, energy and memory on GPUs, and all training on VOC and COCO.

## Structure (exact) beside the paper (published)

{structure()}

The paper cuts figures off rather than rounding them (5.97 → 5.9; 74.87 mAP in its text, 74.8 in its table); its "FLOPs"
are multiply-adds.

## Blood cells: the shipped weights `bccd` (measured, CPU)

`{config["model"]}` from scratch on the {record["train_images"]} training images of BCCD,
{record["finished_step"]} steps of {config["batch_size"]} images. The weights of step {record["step"]} were best on val,
and were tested once, as they ship. {record["parameters"]:,} parameters, {record["multiply_adds"]:,} multiply-adds.

{accuracy(record)}

Red blood cells are hard because the data leaves many unlabelled: in the pictures that `vovnet evaluate` draws, most
"false alarms" are cells. Training took {record["train_hours"]:.1f} hours on a {record["trained_on"]},
beside other work. Log: [bccd.log.jsonl](records/bccd.log.jsonl).

![Training curve](records/bccd.png)

## Speed (measured, {machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]})

{speed(bench)}

`make bench`, one run, float32. Inference is batch 1. An operation is half a multiply-add, and a training step is
counted as three forward passes.
"""


if __name__ == "__main__":
    with replacing(ROOT / "docs/results.md") as temporary:
        temporary.write_text(render())
