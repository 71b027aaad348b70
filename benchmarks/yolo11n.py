"""Time the detectors for blood cells beside YOLO11n: `python benchmarks/yolo11n.py`, on an otherwise idle machine.

YOLO11n comes from the package ultralytics, which is no part of vovnet: its licence is the AGPL. Install it yourself if
you may (`pip install ultralytics`); without it the script says so and ends. Speed does not depend on the weights, so
YOLO11n has random ones for as many classes. All networks are timed in turn in one run by vovnet's own clock, each as
trained and with its batch norms folded into the convolutions before them. Every pass ends with boxes and scores; NMS is
left out. Writes docs/records/yolo11n.json, which `make results` renders.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from shared import RECORDS
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import vovnet
from vovnet.cli.output import Output
from vovnet.files import write_json
from vovnet.freed_memory import keep_freed_memory
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.models.layers import ConvNormAct
from vovnet.profiling.cost import count_multiply_adds, count_parameters
from vovnet.profiling.speed import Latency, median_ratio, time_interleaved
from vovnet.profiling.surroundings import watch
from vovnet.provenance import count_threads, installed_versions, processor, record_header
from vovnet.runtime.cpu import instruction_set

RECORD, YOLO, YOLO_SIDE = "yolo11n.json", "yolo11n", 320
OURS = ("bccd_small", "bccd")
EAGER, FOLDED = "as trained", "folded"
HEADER = ["network", "batch norms", "input", "parameters", "multiply-adds (G)", "median (ms)", "p90 (ms)", "× YOLO11n"]


class Network(NamedTuple):
    """What is timed. run: one pass of the module's image, to boxes and scores."""

    name: str
    norms: str
    module: nn.Module
    size: tuple[int, int]
    run: Callable[[torch.Tensor], object]


def ours(name: str) -> list[Network]:
    """A detector of this package, as trained and folded."""
    model = vovnet.load(name, device="cpu").model
    assert isinstance(model, OneStageDetector)
    size = model.preprocessing.image_size
    return [
        Network(name, norms, one, size, lambda images, one=one: one.boxes_and_scores(one(images)))
        for norms, one in ((EAGER, model), (FOLDED, fold_norms(model)))
    ]


def fold_norms(model: OneStageDetector) -> OneStageDetector:
    """A copy that computes the same without the batch norms that follow a convolution."""
    copy = deepcopy(model)
    for layer in copy.modules():
        if isinstance(layer, ConvNormAct) and type(layer.norm) is nn.BatchNorm2d:
            layer.conv, layer.norm = fuse_conv_bn_eval(layer.conv, layer.norm), nn.Identity()
    return copy


def yolo(classes: int) -> list[Network]:
    """YOLO11n with random weights, as trained and folded by its own code. ModuleNotFoundError without ultralytics."""
    with tempfile.TemporaryDirectory() as folder:  # it writes settings, and would look for a network and for updates
        quiet = {
            "YOLO_CONFIG_DIR": folder,
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_VERBOSE": "false",
        }
        os.environ.update(quiet)
        from ultralytics.nn.tasks import DetectionModel

        made = [DetectionModel("yolo11n.yaml", nc=classes, verbose=False).eval() for _ in range(2)]
    made[1].fuse(verbose=False)
    size = (YOLO_SIDE, YOLO_SIDE)
    return [Network(YOLO, norms, one, size, one) for norms, one in zip((EAGER, FOLDED), made, strict=True)]


def measure(networks: list[Network], repetitions: int) -> dict[str, Any]:
    """The record without its header."""
    keep_freed_memory()
    functions, counts = {}, {}
    for network in networks:
        if network.norms == EAGER:
            counts[network.name] = {
                "parameters": count_parameters(network.module),
                "multiply_adds": count_multiply_adds(network.module, network.size),
            }
        module = network.module.eval().to(memory_format=torch.channels_last)
        images = torch.randn(1, 3, *network.size, generator=torch.Generator().manual_seed(0))
        images = images.to(memory_format=torch.channels_last)
        assert not module.training
        functions[_key(network)] = lambda run=network.run, images=images: run(images)
    watching = watch("cpu")
    with torch.inference_mode():
        times = time_interleaved(functions, repetitions=repetitions, warmup_limit_s=20, during=watching)
    rows = [_row(network, counts[network.name], times) for network in networks]
    machine = {
        "cpu": processor(),
        "instructions": instruction_set(),
        "threads": torch.get_num_threads(),
        **installed_versions(["torch", "ultralytics"]),
    }
    return {"machine": machine, "rows": rows, "doubts": list(watching.result().doubts)}


def _key(network: Network) -> str:
    return f"{network.name}, {network.norms}"


def _row(network: Network, counts: Mapping[str, int], times: Mapping[str, Latency]) -> dict[str, Any]:
    latency, beside = times[_key(network)], times[f"{YOLO}, {network.norms}"]
    ratio = median_ratio(latency, beside)
    return {
        "name": network.name,
        "norms": network.norms,
        "input_size": network.size,
        **counts,
        "latency": latency.to_dict(),
        "to_yolo11n": {"median": ratio.median, "interval": ratio.interval},
    }


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table, see HEADER."""
    height, width = row["input_size"]
    latency, ratio = row["latency"], row["to_yolo11n"]
    low, high = latency["interval_ms"]
    return [
        "YOLO11n" if row["name"] == YOLO else f"`{row['name']}`",
        row["norms"],
        f"{height}×{width}",
        f"{row['parameters']:,}",
        f"{row['multiply_adds'] / 1e9:.2f}",
        f"{latency['median_ms']:.2f} ({low:.2f} – {high:.2f})",
        f"{latency['p90_ms']:.2f}",
        "1" if row["name"] == YOLO else "{:.3f} ({:.3f} – {:.3f})".format(ratio["median"], *ratio["interval"]),
    ]


def yolo_section(records: Path) -> str:
    """The section of docs/results.md."""
    title, path = "## Speed beside YOLO11n", records / RECORD
    if not path.exists():
        return f"{title}\n\nNot measured yet: `python benchmarks/yolo11n.py` does it.\n"
    record = json.loads(path.read_text())
    machine = record["machine"]
    lines = [HEADER, ["---"] * len(HEADER), *map(cells, record["rows"])]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    doubts = "".join(f"\nWhile it ran, {doubt}." for doubt in record["doubts"])
    return f"""{title}

Measured: {machine["cpu"]}, {count_threads(machine["threads"])}, torch {machine["torch"]}. The bundled weights for blood
cells beside YOLO11n of ultralytics {machine["ultralytics"]}, which is no part of vovnet. It has random weights for as
many classes, so its accuracy was not measured. All were timed in turn in one run of `{record["command"]}`, one image a
pass, in float32, from the network's input to boxes and scores without NMS. "Folded" means that batch norms were folded
into the convolutions before them. Ranges are 95 % intervals of the median; the last column compares networks of the
same kind.{doubts}

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200, help="timed passes of each network")
    args = parser.parse_args()
    networks = [network for name in OURS for network in ours(name)]
    try:
        networks += yolo(len(vovnet.load(OURS[0]).class_names))
    except ModuleNotFoundError as error:
        sys.exit(
            f"YOLO11n needs the package ultralytics, which is no part of vovnet ({error}): pip install ultralytics"
        )
    record = measure(networks, args.repetitions)
    write_json(RECORDS / RECORD, {**record_header("python benchmarks/yolo11n.py"), **record})
    Output().table(HEADER, [cells(row) for row in record["rows"]])
    for doubt in record["doubts"]:
        print(f"warning: {doubt}")


if __name__ == "__main__":
    main()
