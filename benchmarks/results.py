"""Write docs/results.md and docs/reproduction.md from docs/records: `make results`. No number is typed by hand."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vovnet import create_model
from vovnet.files import replacing
from vovnet.paper.folder import markdown_page, write_figures
from vovnet.paper.published import TABLES
from vovnet.paper.sources import Sources
from vovnet.paper.subjects import SUBJECTS, section_of
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.profiling.measurement import read_measurements
from vovnet.report.document import Section
from vovnet.report.measurement_plots import plot_tradeoffs
from vovnet.report.measurement_report import to_markdown
from vovnet.report.model_tables import label_measurements
from vovnet.report.roofline import plot_roofline

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs/records"
MODELS = "vovnet27_slim vovnet39 vovnet57 torchvision:resnet50 torchvision:resnet101 torchvision:densenet161"
MODELS += " torchvision:densenet201 mobilenet timm:convnext_small timm:hgnetv2_b5 timm:efficientvit_l2"
MEASURE_BACKBONES = f"vovnet measure {MODELS} --json docs/records/backbones.json"


def read(name: str) -> Any:
    return json.loads((RECORDS / f"{name}.json").read_text())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def structure() -> str:
    rows = []
    for row in [*TABLES["table2"].rows[2:], TABLES["table3"].rows[1]]:
        model = create_model(row.model, num_classes=20)
        multiply_adds = count_multiply_adds(model, model.preprocessing.image_size)
        giga, mega, mean_ap = (row.values[key] for key in ("flops", "parameters", "map"))
        rows.append([row.model, f"{multiply_adds:,}", giga, f"{count_parameters(model):,}", mega, mean_ap])
    header = ["model, 21 classes", "multiply-adds", "published, G", "parameters", "published, M", "published mAP"]
    return f"""## Structure (exact) beside the paper (published)

{table(header, rows)}

The paper cuts digits off rather than rounding (5.97 → 5.9; 74.87 mAP in its text, 74.8 in its table); its "FLOPs" are
multiply-adds.
"""


def blood_cells() -> str:
    record = read("bccd")
    rows = []
    for split in ("val", "test"):
        result = record[split]
        for name, values in result["classes"].items():
            accuracies = [values[key] for key in ("voc07_ap", "voc_area_ap", "coco_ap", "ap50")]
            rows.append([split, name, str(values["objects"]), *map(decimals, accuracies)])
        means = [result["voc07_map"], result["voc_area_map"], result["coco"]["AP"], result["coco"]["AP50"]]
        objects = sum(values["objects"] for values in result["classes"].values())
        rows.append([split, "**mean**", str(objects), *(f"**{decimals(value)}**" for value in means)])
    header = ["split", "class", "objects", "AP VOC07 (11-point)", "AP VOC area", "AP COCO", "AP50"]
    return f"""## Blood cells: the shipped weights `bccd` (measured, CPU)

`{record["config"]["model"]}` trained from scratch on the {record["train_images"]} training images of BCCD for
{record["finished_step"]} steps of {record["config"]["batch_size"]} images. The weights of step {record["step"]} were
the best on val; they were tested once, as shipped. {record["parameters"]:,} parameters, {record["multiply_adds"]:,}
multiply-adds.

{table(header, rows)}

Red blood cells are hard because the dataset leaves many of them unlabelled: in the images that `vovnet evaluate`
annotates, most "false alarms" are cells. Training took {record["train_hours"]:.1f} hours on a {record["trained_on"]},
while other work was running. Log: [bccd.log.jsonl](records/bccd.log.jsonl).

![Training curve](records/bccd.png)
"""


def refinedet() -> str:
    records = [read("bccd"), read("bccd_refinedet320")]
    rows = []
    for record in records:
        test, batch_size = record["test"], record["config"]["batch_size"]
        epochs = record["finished_step"] * batch_size / record["train_images"]
        counts = [f"{record[count]:,}" for count in ("parameters", "multiply_adds")]
        training = [f"{epochs:.0f}", f"{record['train_hours']:.1f}"]
        class_aps = [values["voc07_ap"] for values in test["classes"].values()]
        means = [test["voc07_map"], test["coco"]["AP50"], test["coco"]["AP"]]
        rows.append([record["config"]["model"], *counts, *training, *map(decimals, class_aps + means)])
    classes = records[0]["test"]["classes"]
    header = ["model", "parameters", "multiply-adds", "epochs", "hours", *classes, "mAP VOC07", "AP50", "AP COCO"]
    lines = (RECORDS / "bccd_refinedet320.log.jsonl").read_text().splitlines()
    speed = statistics.median(entry["images_per_s"] for entry in map(json.loads, lines) if "images_per_s" in entry)
    hours = records[1]["finished_step"] * records[1]["config"]["batch_size"] / speed / 3600
    return f"""## RefineDet320 beside DSOD300 on the same cells (measured, CPU)

Both were trained from scratch on two cores. RefineDet320 has half the paper's width in its transfer connections and
predictors, so that its larger input needs no more than an hour. Its hours include pauses for other work; at its median
speed, its epochs take {hours:.1f} hours. Test images, 11-point AP of each class; platelets are the small objects here.
Log: [bccd_refinedet320.log.jsonl](records/bccd_refinedet320.log.jsonl).

{table(header, rows)}
"""


def learning() -> str:
    overfit, rates = read("overfit"), read("published_rates")
    overfit_rows = []
    for run in overfit["runs"]:
        options = ", ".join(f"{key} {value}" for key, value in run["options"].items())
        size = "×".join(map(str, run["input_size"]))
        counts = [str(run[count]) for count in ("images", "steps")]
        overfit_rows.append([run["model"], options or "–", size, *counts, decimals(run["map50"])])
    rate_rows = []
    for run in rates["runs"]:
        counts = [str(run[count]) for count in ("batch_size", "steps")]
        losses = [f"{run[loss]:.2f}" for loss in ("first_loss", "last_loss", "largest_loss")]
        rate_rows.append([run["model"], f"{run['learning_rate']:g}", *counts, *losses, run["stopped"] or "finite"])
    overfit_header = ["detector", "options", "input", "images", "steps", "mAP at IoU 0.5"]
    rate_header = ["detector", "learning rate", "batch", "steps"]
    rate_header += ["mean loss, first 50 steps", "last 50", "largest", "end"]
    return f"""## Every detector learns (measured, CPU)

Each detector was trained on a handful of photographs, always the same batch without augmentation, until it found the
objects in them: eight of PASCAL VOC to mAP 0.95, or four of COCO to a mask AP50 of 0.9. To save time, the slower
RefineDets have half the paper's width and a smaller input. Losses of every step:
[overfit.json](records/overfit.json).

{table(overfit_header, overfit_rows)}

At the published learning rates, with batches of 2 to 8 photographs instead of the paper's 24 to 128, for 500 steps on
{rates["images"]} photographs of PASCAL VOC; RefineDet only with batches of 2, the noisiest. All losses:
[published_rates.json](records/published_rates.json).

{table(rate_header, rate_rows)}
"""


def street_scenes() -> str:
    record = read("penn_fudan")
    config, val = record["config"], record["val"]
    options = config["model_options"]
    metrics = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    boxes, masks = ([decimals(val[key][metric]) for metric in metrics] for key in ("coco", "coco_masks"))
    return f"""## Mask R-CNN from scratch on street scenes (measured, CPU)

`{config["model"]}` with {options["image_size"]} pixels as input and {options["rois"]} proposals per image, trained on
the {record["train_images"]} training images of Penn-Fudan for {record["finished_step"]} steps of
{config["batch_size"]} images in {config["precision"]}: {record["train_hours"]:.1f} hours on a {record["trained_on"]},
while other work was running. {record["parameters"]:,} parameters. The weights of step {record["step"]} had the best
mask AP on the {val["images"]} images of val; there is no test split.

{table(["val", *metrics], [["boxes", *boxes], ["masks", *masks]])}

What limits it, according to these values: masks are coarse (AP75 is far below AP50), and smaller pedestrians suffer
most (APm is far below APl) because images are a quarter of the published size. On val, the second half of the run gains
little while the loss still falls: there are few images, and the network starts from random weights. With `model:
maskrcnn_timm/resnet50` and `backbone_weights: timm/resnet50.a1_in1k`, the same config starts from ImageNet weights.
Log: [penn_fudan.log.jsonl](records/penn_fudan.log.jsonl).

![Training curve](records/penn_fudan.png)
"""


def memory() -> str:
    record = read("peaks")
    rows = [
        [name, str(result["added_mib"]), str(result["process_mib"]), record["claims"].get(name, "")]
        for name, result in record["results"].items()
    ]
    return f"""## Memory (measured, {record["device"]})

`{record["command"]}`, each case in its own process: RefineDet320 at several scales, a training step of Mask R-CNN on an
image of 800×1067 pixels, and 100 masks of 4000×3000 pixels.

{table(["case", "added, MiB", "whole process, MiB", "claim"], rows)}
"""


def backbones() -> str:
    measurements = read_measurements(RECORDS / "backbones.json")
    return f"""## What backbones cost (measured, {measurements[0].conditions.device_name})

`{MEASURE_BACKBONES}`: random weights, a classifier with 1000 classes, all models interleaved in one run. Accuracy is
not measured here, and energy is missing for the reason given below the tables. Every layer and every single time:
[backbones.json](records/backbones.json).

{to_markdown(measurements)}

![Efficiency against speed, time against memory access](records/backbones_tradeoffs.png)

![Roofline](records/backbones_roofline.png)
"""


def energy_methods() -> str:
    record = read("energy_methods")
    errors: dict[tuple[str, str], list[float]] = {}
    for row in record["rows"]:
        errors.setdefault((row["load"], row["method"]), []).append(row["error_percent"])
    loads = list(dict.fromkeys(load for load, _ in errors))
    methods = ["counter", "sampled", "paper", "rapl", "meter"]
    rows = [[load, *(error_range(errors.get((load, method), [])) for method in methods)] for load in loads]
    return f"""## How far each way to measure energy is off (simulated boards)

The error of each method on loads of known energy, from the least to the greatest, over boards that publish power as
NVIDIA's do (Pascal to H100), two CPU packages (rapl) and an external meter with four readings per second.

{table(["load", *methods], rows)}

{record["note"]} The paper's protocol is used as it is, idle time and averaging windows included.
"""


def error_range(percent: Sequence[float]) -> str:
    if not percent:
        return "–"
    low, high = (f"{end:+.1f} %".replace("-", "−") for end in (min(percent), max(percent)))
    return low if low == high else f"{low} … {high}"


def speed() -> str:
    record = read("bench")
    machine = record["machine"]
    rows = [[name, f"{value:.3f}", record["claims"].get(name, "")] for name, value in record["results"].items()]
    return f"""## Speed (measured, {machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]})

{table(["result", "measured", "claim"], rows)}

`make bench`, one run, float32. Inference is at batch 1. GFLOP/s count two operations per multiply-add, and a training
step as three forward passes.
"""


def render() -> str:
    introduction = """# Results

Written by `make results` from the records in [records](records). There are three kinds of values: **exact** ones are
recomputed from the structure, **published** ones are the paper's, **measured** ones name their device. What needs a GPU
has not been measured: frames per second, energy and memory on GPUs, and all training on VOC and COCO.
"""
    first = [introduction, structure(), blood_cells(), refinedet(), learning(), street_scenes()]
    return "\n".join([*first, memory(), backbones(), energy_methods(), speed()])


def reproduction() -> list[Section]:
    """What `vovnet reproduce all` shows with these records."""
    sources = Sources(RECORDS)
    return [section_of(name, sources) for name in SUBJECTS]


def render_reproduction() -> str:
    return markdown_page(reproduction(), "reproduction/")


def draw_backbones() -> None:
    rows = label_measurements(read_measurements(RECORDS / "backbones.json"))
    for name, plot in (("tradeoffs", plot_tradeoffs(rows)), ("roofline", plot_roofline(rows))):
        assert plot is not None
        with replacing(RECORDS / f"backbones_{name}.png") as temporary:
            temporary.write_bytes(plot.png())


if __name__ == "__main__":
    draw_backbones()
    sections = reproduction()
    write_figures(sections, ROOT / "docs/reproduction")
    pages = {"results": render(), "reproduction": markdown_page(sections, "reproduction/")}
    for name, text in pages.items():
        with replacing(ROOT / f"docs/{name}.md") as temporary:
            temporary.write_text(text)
