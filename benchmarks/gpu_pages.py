"""What pages say of GPUs and of the weights `voc`, from docs/records/gpu, and of what has not run yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment_pages import fill

from vovnet.names import shipped_weights
from vovnet.paper.gpu_records import card_of, comparable, measured_results, read_stage
from vovnet.paper.gpu_tables import FILE, GpuTables, ratio_text, read_gpu_tables, runs_text, way_text
from vovnet.paper.published import TABLES
from vovnet.paper.wording import foreign
from vovnet.report.document import Table, parts_to_markdown
from vovnet.weights.detector import load_weights

# Detector and its VoVNet, with the ratios of the paper's FPS and joules.
PAIRS = (
    ("dsod300_densenet67", "dsod300_vovnet27_slim", "table2"),
    ("refinedet320_densenet161", "refinedet320_vovnet39", "table4"),
    ("refinedet320_resnet101", "refinedet320_vovnet39", "table4"),
)
NETWORKS = ("densenet40", "osa_12_20", "osa_5_43", "resnet56")
PICTURE = "detections_voc.jpg"
GPU_TABLES = ("table2", "table3", "table4", "table7")
Result = Mapping[str, Any] | None


def gpu_section(records: Path) -> str:
    """The section of docs/results.md."""
    parts = [_check(records), _pairs(records), _throughput(records), _voc(records), _study(records)]
    return "## On a GPU\n\n[GPU](gpu.md) says how each of these is measured.\n\n" + "\n".join(parts)


def fill_gpu(page: str, records: Path) -> str:
    """The README with what records give between its marks."""
    page = fill(page, "gpu", f"\n{_pairs(records)}")
    page = fill(page, "gpu-status", gpu_status(records))
    page = fill_status(page)
    return fill(page, "voc", voc_block())


def fill_status(page: str) -> str:
    """A page with the datasets for which there are no weights."""
    return fill(page, "voc-status", "COCO" if "voc" in shipped_weights() else "VOC or COCO")


def energy_status(records: Path) -> str:
    """Where joules were measured."""
    gpu = read_gpu_tables(records)
    if gpu is None or not gpu.joules:
        return "Energy has been measured only on simulated boards so far; no GPU has been tested."
    cards = " / ".join(sorted({foreign(gpu.cards[joules.run]) for joules in gpu.joules.values()}))
    return f"Energy has been measured on {cards}, see [On a GPU](results.md#on-a-gpu), and on simulated boards."


def gpu_status(records: Path) -> str:
    """What stands behind "on a GPU"."""
    gpu = read_gpu_tables(records)
    if gpu is None or not gpu.times:
        return "nothing has been measured"
    models = {row.model for table in GPU_TABLES for row in TABLES[table].rows if row.model}
    timed = {model for model, _ in gpu.times} & models
    return f"({_cards(gpu)}) {len(timed)} of the paper's {len(models)} one-stage detectors were measured"


def _cards(gpu: GpuTables) -> str:
    """The cards that times were measured on."""
    return " / ".join(sorted({foreign(gpu.card(*timed)) for timed in gpu.times}))


def not_yet(what: str, verb: str = "has") -> str:
    """The sentence for what has not been measured."""
    return f"{what} {verb} not been measured on a GPU yet: `make gpu` does it.\n"


def _check(records: Path) -> str:
    content = read_stage(records, "check")
    results = {} if content is None else measured_results(content)
    if content is None or not results:
        return "The tests on a GPU (`pytest -m gpu`) have not run yet: `make gpu` runs them.\n"
    (result,) = results.values()
    counts = ", ".join(f"{result[key]} {key}" for key in ("passed", "failed", "skipped"))
    return f"Tests on a GPU (`pytest -m gpu`), measured on {foreign(card_of(content, result))}: {counts}.\n"


def _pairs(records: Path) -> str:
    """The paper's claims on speed and joules against what a GPU of today gives."""
    gpu = read_gpu_tables(records)
    rows = [] if gpu is None else [row for pair in PAIRS for row in _pair_rows(gpu, *pair)]
    if gpu is None or not rows:
        return not_yet("Time and joules of VoVNet against DenseNet and ResNet", "have")
    header = ["backbones", "run", "images/s, VoVNet", "time ratio", "paper", "joules ratio", "paper"]
    models = {model for pair in PAIRS for model in pair[:2]}
    used = [result for results in (gpu.times, gpu.joules) for (name, _), result in results.items() if name in models]
    notes = [
        f"measured on {_cards(gpu)}, with 95 % intervals; time and joules of the first network over those of the "
        f"VoVNet (docs/records/{FILE})",
        f"{runs_text(used)}; joules ratio: only of values of the same card and code",
        "the paper measured on a TITAN X (Pascal); its ratios are those of its printed values",
    ]
    return parts_to_markdown([Table(header, rows, "VoVNet against other backbones on a GPU (measured)", notes)])


def _pair_rows(gpu: GpuTables, model: str, reference: str, table: str) -> list[list[str]]:
    values = {row.model: row.values for row in TABLES[table].rows}
    titles = {row.model: row.name.rpartition(", ")[2] for row in TABLES[table].rows}
    detector = "DSOD300" if table == "table2" else "RefineDet320"
    speed = float(values[reference]["fps"]) / float(values[model]["fps"])
    energy = float(values[model]["energy"]) / float(values[reference]["energy"])
    rows = []
    for way in gpu.ways(model):
        ratio, joules = gpu.time_ratio(model, reference, way), gpu.joule_ratio(model, reference, way)
        if ratio is None:
            continue
        name = f"{detector}: {titles[model]} against {titles[reference]}" if not rows else ""
        fps = f"{gpu.times[reference, way].models[reference].images_per_s:.0f}"
        cells = [ratio_text(ratio.median, ratio.interval), f"{speed:.2f}"]
        rows.append([name, way_text(way), fps, *cells, ratio_text(*joules) if joules else "needs `make gpu`"])
        rows[-1].append(f"{energy:.2f}")
    return rows


def _throughput(records: Path) -> str:
    content = read_stage(records, "throughput")
    results = {} if content is None else measured_results(content)
    bare, trained = (
        {name.removeprefix(prefix): value for name, value in results.items() if name.startswith(prefix)}
        for prefix in ("bare steps ", "training ")
    )
    if content is None or not results:
        return not_yet("The speed of training against that of bare steps")
    rows = []
    for name in dict.fromkeys((*trained, *bare)):
        both = trained.get(name), bare.get(name)
        apart = all(both) and not comparable(content, *both)
        for pair in [(both[0], None), (None, both[1])] if apart else [both]:
            rows.append([foreign(name), *_training_cells(content, *pair)])
    header = ["training", "settings", "images/s", "bare steps (images/s)", "ratio", "measured on"]
    notes = ["bare steps: forward pass, loss, backward pass, clipping, optimizer, EMA on one batch on the device"]
    notes.append("a row for each where training and bare steps were measured on different cards or with different code")
    return parts_to_markdown([Table(header, rows, "Training against bare steps (measured)", notes)])


def _training_cells(content: Mapping[str, Any], trained: Result, bare: Result) -> list[str]:
    result = trained or bare
    assert result is not None
    how = f"batch {result['batch_size']}, {foreign(result['precision'])}"
    how += f", {foreign(str(result['workers']))} workers" if trained else ""
    speeds = [f"{of['images_per_s']:.0f}" if of else "" for of in (trained, bare)]
    share = f"{trained['images_per_s'] / bare['images_per_s']:.2f}" if trained and bare else ""
    return [how, *speeds, share, foreign(card_of(content, result))]


def _voc(records: Path) -> str:
    content = read_stage(records, "voc")
    result = None if content is None else measured_results(content).get("held")
    if content is None or result is None:
        return (
            "DSOD300-VoVNet-27-slim has not been trained from scratch on reduced VOC2007 yet: "
            "`make gpu` does it on a GPU.\n"
        )
    test = result["test"]
    classes = ", ".join(f"{foreign(name, 40)} {100 * of['voc07_ap']:.1f}" for name, of in test["classes"].items())
    return (
        f"DSOD300-VoVNet-27-slim, trained on {result['train_images']:,} reduced images of VOC2007 "
        f"({result['steps']:,} steps from {foreign(result['start'])}, {result['train_seconds'] / 60:.1f} minutes on "
        f"{foreign(card_of(content, result))}): {100 * test['voc07_map']:.1f} % VOC07 mAP on {test['images']} held-out "
        f"images ({foreign(result['note'])}). By class, in %: {classes}.\n"
    )


def _study(records: Path) -> str:
    content = read_stage(records, "study")
    results = {} if content is None else measured_results(content)
    done = [name for name in NETWORKS if name in results]
    if not done:
        return "The aggregation study on CIFAR-10 (Figure 2) has not run on a GPU yet: `make gpu` does it.\n"
    accuracies = ", ".join(f"{name} {100 * results[name]['test_accuracy']:.2f} %" for name in done)
    return (
        f"Aggregation study on CIFAR-10 after {results[done[0]]['settings']['epochs']:g} epochs (test accuracy): "
        f"{accuracies}; see [Figure 2](reproduction.md).\n"
    )


def voc_block() -> str:
    """What the README says of the weights `voc`, with a picture; empty unless they ship."""
    path = shipped_weights().get("voc")
    if path is None:
        return ""
    loaded = load_weights(path)
    record: Mapping[str, Any] = loaded.record
    size, test = path.stat().st_size / 1e6, record["test"]
    return (
        f"\nThe weights `voc` ({size:.0f} MB) are a {loaded.info.name}, trained from scratch on "
        f"{record['train_images']:,} reduced images of VOC2007 on {foreign(record['trained_on'])}: "
        f"{100 * test['voc07_map']:.1f} % mAP (VOC07, IoU 0.5) on {test['images']} held-out images, by which they "
        f"were also chosen ({foreign(record['note'])}).\n\n![Photographs with what the bundled weights voc detect]"
        f"(docs/{PICTURE})\n\n*Photographs: [samples](samples/README.md).*\n"
    )
