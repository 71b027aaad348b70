"""The paper's study of connections (§3.1–3.2, Fig. 2): train DenseNet-40 and its one-shot counterparts on CIFAR-10,
test them, and see how strongly every layer uses the earlier ones."""

from __future__ import annotations

import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.engine.config import Fraction, Section
from vovnet.engine.distributed import choose_device
from vovnet.engine.interrupts import stop_requests
from vovnet.errors import UsageError, did_you_mean
from vovnet.files import write_json
from vovnet.paper.cifar10 import SIDE, Cifar10, augment, normalize, read_cifar10
from vovnet.paper.cifar_networks import CIFAR_NETWORKS, AggregationNet
from vovnet.paper.connections import connection_strengths
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.provenance import device_name, record_header
from vovnet.weights.checkpoint import load_checkpoint, load_state, save_checkpoint

FORMAT = "vovnet-classifier-1"
TEST_BATCH = 500

Hook = Callable[[Mapping[str, Any]], object]


class AggregationConfig(Section):
    """Which networks to train on CIFAR-10, and how; the defaults are DenseNet's own protocol.

    data: see `read_cifar10`; download: let torchvision fetch it there. train_images: only the first so many.
    milestones: parts of the run after which the rate is a tenth. precision: "bf16" is mixed precision.
    Each network and seed is a run of its own in `output`: finished ones are not run again, others go on.
    """

    data: Path
    download: bool = False
    networks: tuple[str, ...] = tuple(CIFAR_NETWORKS)
    seeds: tuple[int, ...] = (0,)
    train_images: Annotated[int, Field(gt=0)] | None = None
    epochs: Annotated[float, Field(gt=0)] = 300
    batch_size: Annotated[int, Field(gt=0)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None
    log_every: Annotated[int, Field(gt=0)] = 50
    checkpoint_every: Annotated[int, Field(gt=0)] = 200
    output: Path

    def model_post_init(self, _: Any) -> None:
        for name in self.networks:
            if name not in CIFAR_NETWORKS:
                near = did_you_mean(name, CIFAR_NETWORKS) or f" (there are: {', '.join(CIFAR_NETWORKS)})"
                raise ValueError(f"no network of the study is called {name!r}{near}")

    def settings(self) -> dict[str, Any]:
        """What decides the weights that come out."""
        free = {"data", "download", "networks", "seeds", "device", "threads", "log_every", "checkpoint_every", "output"}
        return self.model_dump(mode="json", exclude=free)


def run_study(config: AggregationConfig, hook: Hook = lambda line: None) -> tuple[list[dict[str, Any]], bool]:
    """The records of all networks and seeds of `config`, and whether all are finished (not so after Ctrl-C).

    Writes OUTPUT/NETWORK_SEED/record.json with accuracy, cost and strengths of each, and aggregation.json with all that
    are finished in OUTPUT, whichever call ran them; these are given back. hook: called with each line of the logs.

    Raises UsageError where OUTPUT holds runs with other settings.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    runs = [(name, seed) for seed in config.seeds for name in config.networks]
    records = {run: _finished(_folder(config, *run), config) for run in runs}
    if not all(records.values()):
        train, test = (read_cifar10(config.data, split, download=config.download) for split in ("train", "test"))
        train = Cifar10(train.images[: config.train_images], train.labels[: config.train_images], train.form)
        with stop_requests() as stop:
            for run in (run for run in runs if records[run] is None):
                records[run] = None if stop.is_set() else _run_one(*run, train, test, config, device, hook, stop)
    folders = (path.parent for path in sorted(config.output.glob("*/record.json")))
    found = [record for folder in folders if (record := _finished(folder, config)) is not None]
    found.sort(key=lambda record: (record["seed"], list(CIFAR_NETWORKS).index(record["network"])))
    content = {**record_header("vovnet study aggregation"), "runs": found}
    write_json(config.output / "aggregation.json", content)
    return found, all(records.values())


def _run_one(
    name: str,
    seed: int,
    train: Cifar10,
    test: Cifar10,
    config: AggregationConfig,
    device: torch.device,
    hook: Hook,
    stop: threading.Event,
) -> dict[str, Any] | None:
    """Train one network as far as it goes; its record, or None when it was asked to stop."""
    torch.manual_seed(seed)
    model = CIFAR_NETWORKS[name]().to(device).to(memory_format=torch.channels_last)
    log = train_classifier(model, train, config, seed, _folder(config, name, seed), hook, stop)
    if log is None:
        return None
    accuracy = test_accuracy(model, test)
    cost = count_cost(model, (1, 3, SIDE, SIDE)).total
    record = {
        "network": name,
        "seed": seed,
        "test_accuracy": accuracy,
        "test_images": len(test.labels),
        "train_images": len(train.labels),
        "images": train.form,
        "parameters": count_parameters(model),
        "multiply_adds": cost.multiply_adds,
        "memory_access_cost": cost.memory_access_cost,
        **strengths(model),
        "images_per_s": statistics.median(line["images_per_s"] for line in log),
        "log": [[line["epoch"], line["loss"], line["train_accuracy"]] for line in log],
        "settings": config.settings(),
        **record_header(),
        "device": f"{device_name(device)}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    write_json(_folder(config, name, seed) / "record.json", record)
    hook({"network": name, "seed": seed, "test_accuracy": accuracy})
    return record


def train_classifier(
    model: nn.Module,
    data: Cifar10,
    config: AggregationConfig,
    seed: int,
    folder: Path,
    hook: Hook,
    stop: threading.Event | None = None,
) -> list[dict[str, Any]] | None:
    """SGD with Nesterov momentum on random crops and mirrors; the log's lines, or None where `stop` was set before the
    last step.

    Goes on from FOLDER/last.pt. What a step sees depends on `seed` and its number only, so a run that was killed ends
    as the whole one does. Raises FloatingPointError at a loss that is not finite.
    """
    device = next(model.parameters()).device
    all_images, all_labels = data.images.to(device), data.labels.to(device)
    stop = stop or threading.Event()
    steps = max(1, math.ceil(config.epochs * len(data.labels) / config.batch_size))
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
    )
    step, log, sums = 0, [], _zeros(device)
    last = folder / "last.pt"
    if last.exists():
        state = load_checkpoint(last, FORMAT)
        _check_settings(state["settings"], config, last)
        load_state(model, state["model"], str(last))
        optimizer.load_state_dict(state["optimizer"])
        step, log, sums = state["step"], state["log"], state["sums"].to(device)

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "log": log}
        save_checkpoint(last, {"format": FORMAT, "settings": config.settings(), "sums": sums, **state})

    model.train()
    mixed = config.precision == "bf16"
    started, first_step = time.perf_counter(), step
    while step < steps:
        rate = config.learning_rate * 0.1 ** sum(step >= part * steps for part in config.milestones)
        for group in optimizer.param_groups:
            group["lr"] = rate
        picks = _picks(step, config.batch_size, len(data.labels), seed).to(device)
        images = augment(normalize(all_images[picks]), torch.Generator().manual_seed(_seed(seed, step)))
        labels = all_labels[picks]
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        right = (logits.detach().argmax(dim=1) == labels).float().mean()
        sums += torch.stack([loss.detach().float(), right, torch.ones((), device=device)])
        step += 1
        if step % config.log_every == 0 or step == steps:
            total, hits, count = sums.tolist()
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"the loss became infinite or not a number by step {step} of {folder.name}; lower learning_rate"
                )
            seconds = time.perf_counter() - started
            line = {
                "step": step,
                "steps": steps,
                "epoch": round(step * config.batch_size / len(data.labels), 3),
                "loss": round(total / count, 5),
                "train_accuracy": round(hits / count, 4),
                "images_per_s": round((step - first_step) * config.batch_size / seconds, 1),
            }
            log.append(line)
            hook({"run": folder.name, **line})
            sums, started, first_step = _zeros(device), time.perf_counter(), step
        if stop.is_set() or step % config.checkpoint_every == 0 or step == steps:
            save()
        if stop.is_set() and step < steps:
            return None
    return log


@torch.inference_mode()
def test_accuracy(model: nn.Module, data: Cifar10) -> float:
    """The part of the images that is classified right, in float32."""
    device = next(model.parameters()).device
    model.eval()
    right = 0
    for images, labels in zip(data.images.split(TEST_BATCH), data.labels.split(TEST_BATCH), strict=True):
        right += int((model(normalize(images.to(device))).argmax(dim=1).cpu() == labels).sum())
    return right / len(data.labels)


def strengths(model: nn.Module) -> dict[str, Any]:
    """Of a network with connections, block by block: "targets", the names of the layers that read, and "strengths",
    for each of these one number a source from the block's input on, None where it does not read it."""
    if not isinstance(model, AggregationNet):
        return {}
    targets, found = [], []
    for connections in model.connections():
        count = len(connections[-1].sources)
        columns = []
        for one in connections:
            values: list[float | None] = [None] * count
            read = [round(v, 7) for v in connection_strengths(one.weight, one.sources).tolist()]
            values[one.first : one.first + len(read)] = read
            columns.append(values)
        targets.append([one.name for one in connections])
        found.append(columns)
    return {"targets": targets, "strengths": found}


def _picks(step: int, batch_size: int, count: int, seed: int) -> Tensor:
    """The images of a step: shuffled epochs one after another, cut into batches."""
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    picks = torch.empty(batch_size, dtype=torch.int64)
    for epoch in positions.div(count, rounding_mode="floor").unique().tolist():
        order = torch.randperm(count, generator=torch.Generator().manual_seed(_seed(seed, -1 - epoch)))
        here = positions // count == epoch
        picks[here] = order[positions[here] % count]
    return picks


def _seed(seed: int, part: int) -> int:
    """A seed for each step (from 0) and each epoch (from −1 down)."""
    return (seed * 1_000_003 + part) % 2**63


def _zeros(device: torch.device) -> Tensor:
    return torch.zeros(3, device=device)


def _folder(config: AggregationConfig, name: str, seed: int) -> Path:
    return config.output / f"{name}_{seed}"


def _finished(folder: Path, config: AggregationConfig) -> dict[str, Any] | None:
    path = folder / "record.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text())
    _check_settings(record["settings"], config, path)
    return record


def _check_settings(then: Mapping[str, Any], config: AggregationConfig, path: Path) -> None:
    now = config.settings()
    changed = [key for key in now if then.get(key) != now[key]]
    if changed:
        raise UsageError(
            f"{path} belongs to a run with other settings ({', '.join(changed)}); choose another output=FOLDER"
        )
