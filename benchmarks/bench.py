"""Check the speed claims, each of them a ratio within one run: `make bench`, on an otherwise idle machine.

The claims on other runtimes and on the runner without PyTorch are those of runtimes.py, which it calls. Writes
docs/records/bench.json, runtimes.json and deployment.json. The exit status is 1 if a claim does not hold.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import runtimes
import torch
from shared import ROOT, Checked, finish, read_log

import vovnet
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.train import train
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.paper.aggregation.cifar10 import Cifar10
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS
from vovnet.paper.aggregation.training import train_classifier
from vovnet.profiling.cost import count_multiply_adds
from vovnet.profiling.speed import median_ratio, time_interleaved
from vovnet.provenance import device_name, record_header
from vovnet.runtime.cpu import instruction_set
from vovnet.structures import Target
from vovnet.zoo import find_detector

CONFIG = ROOT / "configs" / "bccd_dsod300_vovnet27_slim.yaml"
TRAIN_STEPS = 30
CLASSIFIER_STEPS, CLASSIFIER_BATCH = 20, 64


def bench_inference() -> dict[str, float]:
    """From pixels to boxes at batch 1, against the network alone."""
    detector = vovnet.load("bccd", device="cpu")
    image = detector.predict(next((ROOT / "samples/bccd/JPEGImages").glob("*.jpg"))).image()
    batch = detector.model.preprocessing([image])
    times = time_interleaved(
        {"network": lambda: detector.forward(batch), "whole": lambda: detector.predict(image)}, repetitions=60
    )
    return {
        "inference_network_ms": times["network"].median_ms,
        "inference_pixels_to_boxes_ms": times["whole"].median_ms,
        "inference_overhead": median_ratio(times["whole"], times["network"]).median - 1,
    }


def bench_decoding() -> dict[str, float]:
    """RefineDet320 with VoVNet-39, 6,375 anchors and 80 classes, batch 1: decoding and NMS against the network.

    With random weights every score passes the threshold, which is the worst case. "sparse" is like a trained network:
    3,000 scores of 300 objects.
    """
    torch.manual_seed(0)
    model = vovnet.create_model("refinedet320_vovnet39", 80).eval().to(memory_format=torch.channels_last)
    images = torch.randn(1, 3, 320, 320).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        dense = model(images)
        logits = torch.randn_like(dense["class_logits"])
        logits[..., 0] += 12
        logits[0, torch.randint(0, 6375, (3000,)), torch.randint(1, 81, (300,)).repeat(10)] += 12
        sparse = {**dense, "class_logits": logits, "objectness_logits": torch.zeros(1, 6375, 2)}
        times = time_interleaved(
            {
                "network": lambda: model(images),
                "dense": lambda: model.decode(dense, [(480, 640)]),
                "sparse": lambda: model.decode(sparse, [(480, 640)]),
            },
            repetitions=20,
        )
    return {
        "refinedet_network_ms": times["network"].median_ms,
        "decoding_all_scores_ratio": median_ratio(times["dense"], times["network"]).median,
        "decoding_sparse_scores_ratio": median_ratio(times["sparse"], times["network"]).median,
    }


def images_per_s(step: Callable[[], object], images: int, *, steps: int, warmup: int) -> float:
    """The median speed of a step with this number of images, after `warmup` of the steps."""
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return images / statistics.median(seconds[warmup:])


def bare_steps(config: TrainConfig) -> float:
    """Images/s of forward, loss, backward, step and EMA, always on the same batch."""
    torch.manual_seed(0)
    model = vovnet.create_model(config.model, 3, **config.model_options).to(memory_format=torch.channels_last).train()
    optimizer, criterion = make_optimizer(model, find_detector(config.model), config.optimizer), MultiBoxLoss()
    ema = EMA(model, config.ema_decay or 0.99)
    images = torch.randint(0, 256, (config.micro_batch_size, 3, 300, 300), dtype=torch.uint8)
    target = Target.make([[20, 20, 90, 90], [120, 100, 170, 160], [200, 200, 220, 225]], [0, 1, 2])

    def step() -> None:
        losses = criterion(model(model.preprocessing.normalize(images)), [target] * len(images))
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update_parameters(model)

    return images_per_s(step, len(images), steps=TRAIN_STEPS, warmup=3)


def train_steps() -> float:
    """Images/s that a training run logs, without its first entry."""
    settings = [f"schedule.iterations={TRAIN_STEPS}", "schedule.epochs=null", "log_every=5", "tensorboard=false"]
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"data.root={ROOT / 'samples/bccd'}", "data.val=null", f"output={folder}"]
        train(load_config(CONFIG, [*settings, *paths]))
        return statistics.median(entry["images_per_s"] for entry in read_log(Path(folder))[1:])


def bench_training() -> dict[str, float]:
    """A training run against bare steps before and after it, and against the peak of a matrix product."""
    config = load_config(CONFIG)
    before, whole, after = bare_steps(config), train_steps(), bare_steps(config)
    model = vovnet.create_model(config.model, 3, **config.model_options)
    # A backward pass costs two forward passes.
    gflop = 3 * 2 * count_multiply_adds(model, model.preprocessing.image_size) / 1e9
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    product = time_interleaved({"product": lambda: a @ b}, repetitions=20)["product"]
    peak = 2 * 2048**3 / 1e9 / (product.median_ms / 1e3)
    bare = statistics.mean((before, after))
    return {
        "training_images_per_s": whole,
        "bare_steps_images_per_s": bare,
        "training_to_bare_ratio": whole / bare,
        "training_gflop_per_s": whole * gflop,
        "matrix_product_gflop_per_s": peak,
        "training_to_peak_ratio": whole * gflop / peak,
    }


def plain_classifier_steps() -> float:
    """Images/s of forward, loss, backward and step of DenseNet-40, always on the same batch."""
    torch.manual_seed(0)
    model = CIFAR_NETWORKS["densenet40"]().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    images = torch.randn(CLASSIFIER_BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (CLASSIFIER_BATCH,))

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return images_per_s(step, len(images), steps=CLASSIFIER_STEPS, warmup=2)


def bench_classifier() -> dict[str, float]:
    """The aggregation study training DenseNet-40, against a plain loop before and after it."""
    data = Cifar10(torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (2048,)))
    epochs = CLASSIFIER_STEPS * CLASSIFIER_BATCH / len(data.labels)
    before = plain_classifier_steps()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = AggregationConfig(data=folder, output=folder, epochs=epochs, log_every=2, checkpoint_every=1000)
        torch.manual_seed(0)
        model = CIFAR_NETWORKS["densenet40"]().to(memory_format=torch.channels_last)
        log = train_classifier(model, data, config, seed=0, folder=folder / "run")
    assert log is not None
    whole = statistics.median(entry["images_per_s"] for entry in log[1:])
    plain = statistics.mean((before, plain_classifier_steps()))
    return {
        "classifier_images_per_s": whole,
        "classifier_plain_images_per_s": plain,
        "classifier_to_plain_ratio": whole / plain,
    }


def bench_measuring() -> dict[str, float]:
    """What the timing loop adds to bare calls of the model, and how far apart the ratios of two processes are."""
    model = vovnet.create_backbone("vovnet27_slim").eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, 224, 224).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            model(image)

    def bare(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            run()
        return (time.perf_counter() - started) / count

    time_interleaved({"warm-up": run}, repetitions=1)
    rounds = []
    for _ in range(15):
        before = bare(10)
        measured = statistics.mean(time_interleaved({"model": run}, repetitions=10, warmup_limit_s=0)["model"].seconds)
        rounds.append(measured / statistics.mean((before, bare(10))))
    command = [sys.executable, "-m", "vovnet", "measure", "vovnet27_slim", "vovnet39", "torchvision:resnet50"]
    ratios = []
    for _ in range(2):
        printed = subprocess.run([*command, "--no-memory", "--json", "-"], capture_output=True, text=True, check=True)
        measurements = json.loads(printed.stdout)["measurements"]
        ratios.append([measurement["ratio"]["median"] for measurement in measurements[1:]])
    return {
        "measuring_overhead": statistics.median(rounds) - 1,
        "two_runs_ratios_apart": max(abs(first / second - 1) for first, second in zip(*ratios, strict=True)),
    }


# The bound of each result.
CLAIMS = {
    "inference_overhead": ("≤", 0.15),
    "decoding_all_scores_ratio": ("≤", 0.15),
    "decoding_sparse_scores_ratio": ("≤", 0.15),
    "measuring_overhead": ("≤", 0.01),
    "two_runs_ratios_apart": ("≤", 0.05),
    "training_to_bare_ratio": ("≥", 0.85),
    "training_to_peak_ratio": ("≥", 0.6),
    "classifier_to_plain_ratio": ("≥", 0.7),
}


def _holds(value: float, sign: str, bound: float) -> bool:
    return value <= bound if sign == "≤" else value >= bound


def bench() -> Checked:
    results = {
        **bench_inference(), **bench_decoding(), **bench_measuring(), **bench_training(), **bench_classifier()
    }  # fmt: skip
    machine = {
        "cpu": device_name(torch.device("cpu")),
        "instructions": instruction_set(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    record = {
        **record_header("make bench"),
        "machine": machine,
        "results": {name: round(value, 4) for name, value in results.items()},
        "claims": {name: f"{sign} {bound}" for name, (sign, bound) in CLAIMS.items()},
    }
    header = [f"{machine['instructions']}, {machine['threads']} threads, torch {machine['torch']}", "measured"]
    rows = [[name, f"{value:.3f}"] for name, value in results.items()]
    broken = [name for name, (sign, bound) in CLAIMS.items() if not _holds(results[name], sign, bound)]
    return Checked("bench", record, header, rows, broken)


if __name__ == "__main__":
    finish(bench(), runtimes.measure("make bench"))
