"""Write docs/results.md and docs/reproduction.md from docs/records: `make results`. No figure is typed by hand."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from vovnet import create_model
from vovnet.files import replacing
from vovnet.paper.accuracy import Accuracies
from vovnet.paper.folder import markdown_page, write_figures
from vovnet.paper.names import SUBJECTS
from vovnet.paper.published import TABLE_2, TABLE_3
from vovnet.paper.subjects import Sources, section_of
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
COMMAND = f"vovnet measure {MODELS} --json docs/records/backbones.json"

# The rows of the paper's tables that the first section shows.
PUBLISHED = [*TABLE_2.rows[2:], TABLE_3.rows[1]]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def structure() -> str:
    rows = []
    for row in PUBLISHED:
        model = create_model(row.model, num_classes=20)
        counts = count_multiply_adds(model, model.preprocessing.image_size), count_parameters(model)
        giga, mega, mean_ap = (row.figures[key] for key in ("flops", "parameters", "map"))
        rows.append([row.model, f"{counts[0]:,}", giga, f"{counts[1]:,}", mega, mean_ap])
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


def compared(records: list[dict[str, Any]]) -> str:
    rows = []
    for record in records:
        test = record["test"]
        cells = [figure(values["voc07_ap"]) for values in test["classes"].values()]
        means = [figure(test["voc07_map"]), figure(test["coco"]["AP50"]), figure(test["coco"]["AP"])]
        counts = [f"{record['parameters']:,}", f"{record['multiply_adds']:,}"]
        epochs = record["finished_step"] * record["config"]["batch_size"] / record["train_images"]
        rows.append(
            [record["config"]["model"], *counts, f"{epochs:.0f}", f"{record['train_hours']:.1f}", *cells, *means]
        )
    header = ["model", "parameters", "multiply-adds", "epochs", "hours", *records[0]["test"]["classes"]]
    return table([*header, "mAP VOC07", "AP50", "AP COCO"], rows)


def hours_at_median_speed(record: dict[str, Any]) -> float:
    lines = (RECORDS / "bccd_refinedet320.log.jsonl").read_text().splitlines()
    speeds = [line["images_per_s"] for line in map(json.loads, lines) if "images_per_s" in line]
    return record["finished_step"] * record["config"]["batch_size"] / statistics.median(speeds) / 3600


def masks_accuracy(record: dict[str, Any]) -> str:
    """Boxes and masks of the validation split, COCO's figures."""
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    val = record["val"]
    rows = [
        [kind, *(figure(val[key][name]) for name in names)]
        for kind, key in (("boxes", "coco"), ("masks", "coco_masks"))
    ]
    return table(["val", *names], rows)


def peaks(record: dict[str, Any]) -> str:
    rows = [
        [name, str(one["added_mib"]), str(one["process_mib"]), record["claims"].get(name, "")]
        for name, one in record["results"].items()
    ]
    return table(["case", "added, MiB", "whole process, MiB", "claim"], rows)


def overfitted(record: dict[str, Any]) -> str:
    rows = []
    for run in record["runs"]:
        options = ", ".join(f"{key} {value}" for key, value in run["options"].items())
        size = "×".join(map(str, run["input_size"]))
        rows.append([run["model"], options or "–", size, str(run["images"]), str(run["steps"]), figure(run["map50"])])
    return table(["detector", "options", "input", "images", "steps", "mAP at IoU 0.5"], rows)


def published_rates(record: dict[str, Any]) -> str:
    rows = []
    for run in record["runs"]:
        losses = [f"{run[key]:.2f}" for key in ("first_loss", "last_loss", "largest_loss")]
        end = "finite" if run["stopped"] is None else run["stopped"]
        rows.append(
            [run["model"], f"{run['learning_rate']:g}", str(run["batch_size"]), str(run["steps"]), *losses, end]
        )
    losses = ["mean loss, first 50 steps", "last 50", "largest"]
    return table(["detector", "learning rate", "batch", "steps", *losses, "end"], rows)


def energy_methods(record: dict[str, Any]) -> str:
    """The least and greatest error of each method over the simulated boards, load by load."""
    errors: dict[tuple[str, str], list[float]] = {}
    for row in record["rows"]:
        errors.setdefault((row["load"], row["method"]), []).append(row["error_percent"])
    loads = list(dict.fromkeys(load for load, _ in errors))
    methods = ["counter", "sampled", "paper", "rapl", "meter"]
    rows = [[load, *(error_range(errors.get((load, method), [])) for method in methods)] for load in loads]
    return table(["load", *methods], rows)


def error_range(percent: list[float]) -> str:
    if not percent:
        return "–"
    low, high = (f"{end:+.1f} %".replace("-", "−") for end in (min(percent), max(percent)))
    return low if low == high else f"{low} … {high}"


def speed(bench: dict[str, Any]) -> str:
    rows = [[name, f"{value:.3f}", bench["claims"].get(name, "")] for name, value in bench["results"].items()]
    return table(["figure", "measured", "claim"], rows)


def render() -> str:
    record = json.loads((RECORDS / "bccd.json").read_text())
    bench = json.loads((RECORDS / "bench.json").read_text())
    methods = json.loads((RECORDS / "energy_methods.json").read_text())
    learned = json.loads((RECORDS / "overfit.json").read_text())
    rates = json.loads((RECORDS / "published_rates.json").read_text())
    streets = json.loads((RECORDS / "penn_fudan.json").read_text())
    memory = json.loads((RECORDS / "peaks.json").read_text())
    backbones = read_measurements(RECORDS / "backbones.json")
    refinedet = json.loads((RECORDS / "bccd_refinedet320.json").read_text())
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

## RefineDet320 beside DSOD300 on the same cells (measured, CPU)

Both from scratch on two cores; RefineDet320 with half the paper's width in its transfer connections and predictors, so
that an hour suffices for its larger input. Its hours hold pauses in which it was stopped for other work: at its median
speed its epochs take {hours_at_median_speed(refinedet):.1f} hours. Test images, 11-point AP of each class; a platelet
is the small object here. Log: [bccd_refinedet320.log.jsonl](records/bccd_refinedet320.log.jsonl).

{compared([record, refinedet])}

## Every detector learns (measured, CPU)

Trained on a handful of photographs, always the same batch without augmentation, until it finds what is in them: eight
of PASCAL VOC at mAP 0.95, or four of COCO at a mask AP50 of 0.9. To save time the slower RefineDets have half the
paper's width and a smaller input than the paper's. Losses step by step: [overfit.json](records/overfit.json).

{overfitted(learned)}

At the published learning rates, with batches of 2 to 8 photographs instead of the paper's 24 to 128, for 500 steps on
{rates["images"]} photographs of PASCAL VOC; RefineDet with 2 only, the noisiest. Every loss:
[published_rates.json](records/published_rates.json).

{published_rates(rates)}

## Mask R-CNN from scratch on street scenes (measured, CPU)

`{streets["config"]["model"]}` with input of {streets["config"]["model_options"]["image_size"]} pixels and
{streets["config"]["model_options"]["rois"]} proposals an image, on the {streets["train_images"]} training images of
Penn-Fudan, {streets["finished_step"]} steps of {streets["config"]["batch_size"]} images in
{streets["config"]["precision"]}: {streets["train_hours"]:.1f} hours on a {streets["trained_on"]}, beside other work.
{streets["parameters"]:,} parameters. The weights of step {streets["step"]} had the best mask AP on the
{streets["val"]["images"]} images of val; there is no test split.

{masks_accuracy(streets)}

What limits it, by these figures: masks are coarse (AP75 far below AP50) and smaller pedestrians suffer most (APm far
below APl), since images are shown at a quarter of the published size; and on val little is gained in the second half of
the run, while the loss still falls: there are few images, and the network starts from nothing. With `model:
maskrcnn_timm/resnet50` and `backbone_weights: timm/resnet50.a1_in1k` the same config starts from ImageNet. Log:
[penn_fudan.log.jsonl](records/penn_fudan.log.jsonl).

![Training curve](records/penn_fudan.png)

## Memory (measured, {memory["device"]})

`{memory["command"]}`, each case in a process of its own: a RefineDet320 at many scales, a training step of Mask R-CNN
on an image of 800×1067 pixels, and 100 masks of 4000×3000.

{peaks(memory)}

## What backbones cost (measured, {backbones[0].conditions.device_name})

`{COMMAND}`: random weights with a classifier of 1000 classes, one run, the models in turn. Accuracy is not measured
here, and joules are absent for the reason given under the tables. Every layer and every single time:
[backbones.json](records/backbones.json).

{to_markdown(backbones)}

![Efficiency against speed, time against memory access](records/backbones_tradeoffs.png)

![Roofline](records/backbones_roofline.png)

## How far each way to measure energy is off (simulated boards)

The error of each method on loads of known energy, from the least to the greatest over boards that publish power as
NVIDIA's do (Pascal to H100), two CPU packages (rapl) and an external meter of four readings a second.

{energy_methods(methods)}

{methods["note"]} The paper's protocol is shown as it is, idle time and averaging windows included.

## Speed (measured, {machine["cpu"]}, {machine["threads"]} threads, torch {machine["torch"]})

{speed(bench)}

`make bench`, one run, float32. Inference is batch 1. An operation is half a multiply-add, and a training step is
counted as three forward passes.
"""


def reproduction() -> list[Section]:
    """What `vovnet reproduce all` shows with these records."""
    sources = Sources(Accuracies(records=RECORDS), RECORDS)
    return [section_of(name, sources) for name in SUBJECTS]


def render_reproduction() -> str:
    return markdown_page(reproduction(), "reproduction/")


def draw() -> None:
    backbones = label_measurements(read_measurements(RECORDS / "backbones.json"))
    for name, plot in (("tradeoffs", plot_tradeoffs(backbones)), ("roofline", plot_roofline(backbones))):
        assert plot is not None
        with replacing(RECORDS / f"backbones_{name}.png") as temporary:
            temporary.write_bytes(plot.png())


if __name__ == "__main__":
    draw()
    sections = reproduction()
    write_figures(sections, ROOT / "docs/reproduction")
    pages = {"results": render(), "reproduction": markdown_page(sections, "reproduction/")}
    for name, text in pages.items():
        with replacing(ROOT / f"docs/{name}.md") as temporary:
            temporary.write_text(text)
