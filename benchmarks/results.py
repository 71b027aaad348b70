"""Write docs/results.md, docs/reproduction.md and what other pages quote from docs/records: `make results`.

No number is typed by hand.
"""

from __future__ import annotations

import json
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bccd_front import front_section
from big_data import big_data_section
from deployment_pages import deployment, fastest_cell, fill, runtimes_block
from extras import install_block
from gpu_pages import energy_status, fill_gpu, fill_status, gpu_section, gpu_status
from pictures import PICTURES
from yolo11n import yolo_section

from vovnet import create_model
from vovnet.cli.data_boxes import HEADER, match_boxes, row_of
from vovnet.data.formats import open_dataset
from vovnet.export.measuring.runtime_measurement import read_runtimes
from vovnet.files import replacing
from vovnet.paper.folder import markdown_page, write_figures
from vovnet.paper.published import TABLES
from vovnet.paper.sources import Sources
from vovnet.paper.subjects import SUBJECTS, section_of
from vovnet.paper.wording import current_wording
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.profiling.measurement import read_measurements
from vovnet.provenance import count_threads
from vovnet.report.document import Section
from vovnet.report.measurement_report import to_markdown

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs/records"
MODELS = "vovnet27_slim vovnet39 vovnet57 torchvision:resnet50 torchvision:resnet101 torchvision:densenet161"
MODELS += " torchvision:densenet201 mobilenet timm:convnext_small timm:hgnetv2_b5 timm:efficientvit_l2"
MEASURE_BACKBONES = " \\\n    ".join(textwrap.wrap(f"vovnet measure {MODELS} --json docs/records/backbones.json", 110))

SMALL = "bccd_small"  # the record and the weights of the small detector
# Plain words for the keys of docs/records.
MEMORY_CASES = {
    "one_scale": "RefineDet320 with VoVNet-27-slim, one scale (704×704, run twice)",
    "all_scales": "RefineDet320 with VoVNet-27-slim, multi-scale test with nine scales up to 704×704",
    "train_mask_rcnn": "Mask R-CNN with VoVNet-39, one training step on an 800×1067-pixel image",
    "hundred_masks": "pasting, drawing and encoding 100 masks in a 4000×3000-pixel image",
}
OLD_MEMORY_CLAIMS = {  # as older records word them
    "at most a tenth more than one_scale": "adds at most 10 % more than one scale",
    "whole process below 6144": "whole process below 6144 MiB",
    "below 300": "adds less than 300 MiB",
}
SPEED_RESULTS = {
    "inference_network_ms": "DSOD300, network only (ms)",
    "inference_pixels_to_boxes_ms": "DSOD300, from pixels to boxes (ms)",
    "inference_overhead": "DSOD300, preprocessing and decoding / network (time)",
    "refinedet_network_ms": "RefineDet320, network only (ms)",
    "decoding_all_scores_ratio": "RefineDet320, decoding and NMS / network (time), all scores above threshold",
    "decoding_sparse_scores_ratio": "RefineDet320, decoding and NMS / network (time), 3,000 scores above threshold",
    "measuring_overhead": "`vovnet measure`, overhead of the timing loop / model (time)",
    "two_runs_ratios_apart": "`vovnet measure`, largest relative difference between two runs in a model's time ratio",
    "training_images_per_s": "DSOD300, training run (images/s)",
    "bare_steps_images_per_s": "DSOD300, bare training steps on one batch (images/s)",
    "training_to_bare_ratio": "DSOD300, training run / bare training steps (images/s)",
    "training_gflop_per_s": "DSOD300, training run (GFLOP/s)",
    "matrix_product_gflop_per_s": "2048×2048 matrix product (GFLOP/s)",
    "training_to_peak_ratio": "DSOD300, training run / matrix product (GFLOP/s)",
    "classifier_images_per_s": "DenseNet-40, training in the aggregation study (images/s)",
    "classifier_plain_images_per_s": "DenseNet-40, plain training loop on one batch (images/s)",
    "classifier_to_plain_ratio": "DenseNet-40, aggregation study / plain training loop (images/s)",
}
ENERGY_LOADS = {
    "bursty, 97 ms, worst of 5": "bursty, 97 ms (worst of 5 runs)",
    "bursty, in step at 100 ms": "bursty, synchronised with the 100 ms sensor period",
}


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
    header = ["model, 21 classes", "multiply-adds", "published (G)", "parameters", "published (M)", "published mAP"]
    return f"""## Architecture (exact), compared with the paper (published)

{table(header, rows)}

In these tables the paper mostly truncates instead of rounding (5.97 → 5.9; 74.87 mAP in its text, 74.8 in its table).
Its "FLOPs" are multiply-adds. Its parameter count for DenseNet-67 includes BatchNorm running statistics.
"""


def by_class(record: Any) -> str:
    """The accuracy on both splits, by class."""
    rows = []
    for split in ("val", "test"):
        result = record[split]
        for name, values in result["classes"].items():
            accuracies = [values[key] for key in ("voc07_ap", "voc_area_ap", "coco_ap", "ap50")]
            rows.append([split, name, str(values["objects"]), *map(decimals, accuracies)])
        means = [result["voc07_map"], result["voc_area_map"], result["coco"]["AP"], result["coco"]["AP50"]]
        objects = sum(values["objects"] for values in result["classes"].values())
        rows.append([split, "**mean**", str(objects), *(f"**{decimals(value)}**" for value in means)])
    return table(["split", "class", "objects", "VOC07 AP (11-point)", "VOC AP (area)", "COCO AP", "AP50"], rows)


def blood_cells() -> str:
    record = read("bccd")
    return f"""## Blood cells: the bundled weights `bccd` (measured, CPU)

`{record["config"]["model"]}` was trained from scratch on the {record["train_images"]} training images of BCCD for
{record["finished_step"]} steps with batch size {record["config"]["batch_size"]}. The bundled weights are those of step
{record["step"]}, the best on val; they were evaluated only once on test. The model has
{record["parameters"]:,} parameters and {record["multiply_adds"]:,} multiply-adds.

{by_class(record)}

The AP of red blood cells (RBC) is limited because the dataset leaves many of them unlabelled: in the images drawn
by `vovnet evaluate`, most "false positives" are real cells. Training took {record["train_hours"]:.1f} hours
({current_wording(record["trained_on"])}) while other work was running. Log: [bccd.log.jsonl](records/bccd.log.jsonl).

![Training curve](records/bccd.png)
"""


def small_detector() -> list[str]:
    """The section of the small bundled weights, once they were trained."""
    if not (RECORDS / f"{SMALL}.json").exists():
        return []
    record = read(SMALL)
    return [
        f"""## Blood cells: the small bundled weights `{SMALL}` (measured, CPU)

`{record["config"]["model"]}` was trained from scratch on the same images for {record["finished_step"]} steps with batch
size {record["config"]["batch_size"]} in {60 * record["train_hours"]:.0f} minutes ({record["trained_on"]}). The bundled
weights are those of step {record["step"]}, the best on val; they were evaluated only once on test. The model has
{record["parameters"]:,} parameters and {record["multiply_adds"]:,} multiply-adds. Log:
[{SMALL}.log.jsonl](records/{SMALL}.log.jsonl).

{by_class(record)}

![Training curve](records/{SMALL}.png)
"""
    ]


def small_sentence() -> str:
    """What README says of the small bundled weights; empty before they were trained."""
    if not (RECORDS / f"{SMALL}.json").exists():
        return ""
    record = read(SMALL)
    test = record["test"]
    return (
        f"\n`{SMALL}` is `{record['config']['model']}`, trained from scratch on the same images in "
        f"{60 * record['train_hours']:.0f} minutes: {100 * test['voc07_map']:.1f} % mAP (VOC07) and "
        f"{100 * test['coco']['AP']:.1f} % COCO AP on the same test images with "
        f"{record['multiply_adds'] / 1e9:.1f} G multiply-adds, where `bccd` has "
        f"{100 * read('bccd')['test']['coco']['AP']:.1f} % COCO AP with {read('bccd')['multiply_adds'] / 1e9:.1f} G.\n"
    )


def gain_sentences() -> str:
    """What a newcomer gets, and what it costs: of the bundled weights and the runner."""
    small, runner = read(SMALL), read("deployment")["results"]
    measurement = read_runtimes(RECORDS / "runtimes.json")
    plain, fastest = (row.boxes if row else None for row in (measurement.row("torch"), measurement.fastest))
    if plain is None or fastest is None:
        return ""
    return (
        f"\nThe bundled `{SMALL}` was trained in {60 * small['train_hours']:.0f} minutes on two CPU cores, from random "
        f"weights and {small['train_images']} images of blood cells: {100 * small['test']['voc07_map']:.1f} % mAP on "
        f"{small['test']['images']} others. Exported, the larger `bccd` takes {fastest.median_ms:.1f} ms an image on "
        f"them instead of {plain.median_ms:.1f} ms in PyTorch, and a machine that only runs it needs "
        f"{runner['runner_installed_mb']:.0f} MB of packages, without PyTorch.\n"
    )


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
    header = ["model", "parameters", "multiply-adds", "epochs", "hours", *(f"{name} AP" for name in classes)]
    header += ["VOC07 mAP", "AP50", "COCO AP"]
    lines = (RECORDS / "bccd_refinedet320.log.jsonl").read_text().splitlines()
    speed = statistics.median(entry["images_per_s"] for entry in map(json.loads, lines) if "images_per_s" in entry)
    hours = records[1]["finished_step"] * records[1]["config"]["batch_size"] / speed / 3600
    return f"""## RefineDet320 compared with DSOD300 on the same images (measured, CPU)

Both were trained from scratch on two CPU cores. RefineDet320's transfer connection blocks and heads have half the
paper's width so that training fits in about an hour of compute: {hours:.1f} h at its median speed. The
{records[1]["train_hours"]:.1f} h in the table is wall time, which includes pauses for other work. Accuracy was
measured on test; the AP of each class is the 11-point VOC07 AP. Platelets are the small objects here.
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
    overfit_header = ["detector", "options", "input", "images", "steps", "mAP at IoU 0.5 ¹"]
    rate_header = ["detector", "learning rate", "batch", "steps"]
    rate_header += ["mean loss, first 50 steps", "mean loss, last 50 steps", "largest loss", "final loss"]
    detectors, steps = len({run["model"] for run in rates["runs"]}), max(run["steps"] for run in rates["runs"])
    return f"""## Overfitting test: every detector can fit a small batch (measured, CPU)

Each detector was trained repeatedly on one batch, without augmentation, until it found the objects in that batch: eight
images from PASCAL VOC until mAP reached 0.95, or four images from COCO until mask AP50 reached 0.9. To save time, the
slower RefineDets have half the paper's width and a smaller input. The loss of every step is in
[overfit.json](records/overfit.json).

{table(overfit_header, overfit_rows)}

¹ For Mask R-CNN, mask AP50.

### Published learning rates with small batches

To check that training stays stable, {detectors} detectors were also trained for {steps} steps at their published
learning rates, on {rates["images"]} images from PASCAL VOC. The batch sizes were 2 and 8 instead of the paper's 24 to
128; RefineDet was trained only with batch size 2, which has the noisiest gradients. All losses are in
[published_rates.json](records/published_rates.json).

{table(rate_header, rate_rows)}
"""


def norm_statistics() -> str:
    record = read("norm_statistics")
    rows = []
    for choice, metrics in record["summary"].items():
        values = (metrics[metric][key] for metric in ("voc07_map", "coco_ap") for key in ("mean", "std", "range"))
        rows.append([choice, *(f"{100 * value:.2f}" for value in values)])
    header = [
        "statistics",
        "VOC07 mAP (%)",
        "standard deviation",
        "range",
        "COCO AP (%)",
        "standard deviation",
        "range",
    ]
    steps, batch_size = record["steps_between_checkpoints"], record["batch_size"]
    count = len(record["checkpoints"])
    return f"""## Scatter of accuracy with batch norm's running averages (measured, {record["machine"]})

The bundled weights `bccd` were trained on as DSOD300's published recipe ends: learning rate
{record["learning_rate"]:.0e}, micro-batches of {record["micro_batch_size"]} images, {batch_size} per step. {count}
checkpoints, {steps} steps apart, were each tested on the same {record["tested_images"]} images with each kind of
statistics; in all rows the weights of a checkpoint are the same. "Momentum" is `norm_momentum`: 0.1 is PyTorch's
default, 0.001 is Caffe's and that of the published configs. "Re-estimated" is the mean over
{record["passes_of_a_re_estimate"]} more forward passes.

{table(header, rows)}
"""


def street_scenes() -> str:
    record = read("penn_fudan")
    config, val = record["config"], record["val"]
    options = config["model_options"]
    metrics = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    boxes, masks = ([decimals(val[key][metric]) for metric in metrics] for key in ("coco", "coco_masks"))
    return f"""## Mask R-CNN from scratch on Penn-Fudan pedestrians (measured, CPU)

`{config["model"]}` was trained on the {record["train_images"]} training images of Penn-Fudan for
{record["finished_step"]} steps with batch size {config["batch_size"]} in {config["precision"]}, with `image_size`
{options["image_size"]} (shorter side, limit for the longer side) and {options["rois"]} proposals per image. Training
took {record["train_hours"]:.1f} hours ({current_wording(record["trained_on"])}) while other work was running. The model
has {record["parameters"]:,} parameters. The weights of step {record["step"]} had the best mask AP on the
{val["images"]} val images; there is no test split.

{table(["val", *metrics], [["boxes", *boxes], ["masks", *masks]])}

Two things limit accuracy here: masks are coarse (AP75 is far below AP50), and smaller pedestrians suffer most (APm is
far below APl) because the input has about a quarter of the published side length. In the second half of the run,
accuracy on val improved little, although the loss was still falling: there are few training images, and the network
starts from random weights. To start from ImageNet weights instead, set `model: maskrcnn_timm/resnet50` and
`backbone_weights: timm/resnet50.a1_in1k` in the same config. Log: [penn_fudan.log.jsonl](records/penn_fudan.log.jsonl).

![Training curve](records/penn_fudan.png)
"""


def memory() -> str:
    record = read("peaks")
    rows = []
    for name, result in record["results"].items():
        claim = record["claims"].get(name, "–")
        counts = [str(result[count]) for count in ("added_mib", "process_mib")]
        rows.append([MEMORY_CASES[name], *counts, OLD_MEMORY_CLAIMS.get(claim, claim)])
    return f"""## Memory (measured, {record["device"]})

`{record["command"]}` runs each case in its own process. "Added" is the peak of its resident memory, less
what was resident when the case started.

{table(["case", "added (MiB)", "whole process (MiB)", "claim"], rows)}
"""


def backbones() -> str:
    measurements = read_measurements(RECORDS / "backbones.json")
    return f"""## Cost of backbones (measured, {measurements[0].conditions.device_name})

This command measured all models, interleaved in one run, with random weights and a 1000-class head:

```
{MEASURE_BACKBONES}
```

Accuracy was not measured, and energy is missing for the reason given below the tables. Every layer and every individual
timing are in [backbones.json](records/backbones.json).

{current_wording(to_markdown(measurements)).strip()}

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
    rows = [
        [ENERGY_LOADS.get(load, load), *(error_range(errors.get((load, method), [])) for method in methods)]
        for load in loads
    ]
    return f"""## Error of each energy-measurement method (simulated boards)

The table gives the error on loads of known energy, as a range (min … max) over simulated boards that report power like
NVIDIA GPUs (Pascal to H100). The column `rapl` is for two CPU packages, `meter` for an external meter with four
readings per second. [Measure joules per image](energy.md) explains the methods.

{table(["load", *(f"`{method}`" for method in methods)], rows)}

{current_wording(record["note"])} The method `paper` follows
the paper's protocol unchanged, including idle time and averaging windows.
"""


def error_range(percent: Sequence[float]) -> str:
    if not percent:
        return "–"
    low, high = (f"{end:+.1f} %".replace("-", "−") for end in (min(percent), max(percent)))
    return low if low == high else f"{low} … {high}"


def speed() -> str:
    record = read("bench")
    machine = record["machine"]
    rows = [
        [SPEED_RESULTS[name], f"{value:.3f}", record["claims"].get(name, "–")]
        for name, value in record["results"].items()
    ]
    return f"""## Speed (measured, {machine["cpu"]}, {count_threads(machine["threads"])}, torch {machine["torch"]})

{table(["result", "measured", "claim"], rows)}

One run of `make bench` in float32; inference is at batch 1. DSOD300 uses the VoVNet-27-slim backbone and
RefineDet320 uses VoVNet-39. GFLOP/s count two operations per multiply-add; a training step is counted as
three forward passes. The training run can exceed the GFLOP/s of the matrix product (a ratio above 1) because
convolutions use different kernels.
"""


def tiles_block() -> str:
    """The table of what tiles are worth."""
    if not (RECORDS / "tiles.json").exists():
        return "\nNot measured yet: `python benchmarks/tiles.py` does it.\n"
    record = read("tiles")
    kinds = {"none": "none", "voting": "box voting alone", "ours": "as above"}
    rows = []
    for row in record["rows"]:
        accuracies = [row[key] for key in ("voc07_map", "AP", "APs", "APm", "APl")]
        height, width = row["size"]
        objects = ", ".join(f"{count} {size}" for size, count in row["objects"].items())
        name = f"{row['number']} of {width} × {height} pixels: {row['images']} ({objects} objects)"
        first = [name, "–", ""] if row["tiles"] is None else ["", str(row["tiles"]), kinds[row["merging"]]]
        rows.append([*first, *map(decimals, accuracies)])
    header = ["images", "tiles", "merged", "VOC07 mAP", "COCO AP", "AP small", "AP medium", "AP large"]
    return f"\n{table(header, rows)}\n\nMeasured by `benchmarks/tiles.py` on the {record['split']} images of BCCD.\n"


def boxes_block() -> str:
    """What the default boxes match of the bundled blood cells, as `vovnet data boxes` prints it."""
    rows = map(row_of, match_boxes(open_dataset(ROOT / "samples/bccd", "train")))
    return f"\n{table(HEADER, list(rows))}\n"


def render() -> str:
    introduction = """# Results

Written by `make results` from the [records](records). Values are **exact** (computed from the network architecture),
**published** (taken from the paper) or **measured** (on the named device). What needs a GPU and has not run says so.
Full training on VOC and COCO has not run.
"""
    first = [
        introduction,
        structure(),
        blood_cells(),
        *small_detector(),
        refinedet(),
        front_section(RECORDS),
        yolo_section(RECORDS),
        big_data_section(RECORDS),
        learning(),
        norm_statistics(),
    ]
    last = [energy_methods(), speed(), gpu_section(RECORDS), deployment(RECORDS)]
    return "\n".join([*first, street_scenes(), memory(), backbones(), *last])


def render_pages() -> dict[Path, str]:
    """The pages that are written by hand but for what a record gives."""
    deploy, energy, readme = ROOT / "docs/deploy.md", ROOT / "docs/energy.md", ROOT / "README.md"
    predict, train, weights, install = (ROOT / f"docs/{name}.md" for name in ("predict", "train", "weights", "install"))
    return {
        deploy: fill(fill(deploy.read_text(), "runtimes", runtimes_block(RECORDS)), "gpu-status", gpu_status(RECORDS)),
        predict: fill(predict.read_text(), "tiles", tiles_block()),
        install: fill(install.read_text(), "extras", install_block(RECORDS)),
        energy: fill(energy.read_text(), "gpu-energy", energy_status(RECORDS)),
        train: fill(fill_status(train.read_text()), "boxes", boxes_block()),
        weights: fill_status(weights.read_text()),
        readme: fill_gpu(_fill_readme(readme.read_text()), RECORDS),
    }


def _fill_readme(page: str) -> str:
    blocks = {"gain": gain_sentences(), "fastest": fastest_cell(RECORDS), "small": small_sentence()}
    for name, content in blocks.items():
        page = fill(page, name, content)
    return page


def reproduction() -> list[Section]:
    """What `vovnet reproduce all` shows with these records."""
    sources = Sources(RECORDS)
    return [section_of(name, sources) for name in SUBJECTS]


def render_reproduction() -> str:
    return markdown_page(reproduction(), "reproduction/")


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        with replacing(ROOT / name) as temporary:
            temporary.write_bytes(draw())
    sections = reproduction()
    write_figures(sections, ROOT / "docs/reproduction")
    pages = {"results": render(), "reproduction": markdown_page(sections, "reproduction/")}
    for path, text in ({ROOT / f"docs/{name}.md": text for name, text in pages.items()} | render_pages()).items():
        with replacing(path) as temporary:
            temporary.write_text(text)
