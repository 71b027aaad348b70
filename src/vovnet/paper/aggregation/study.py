"""Running the aggregation study: every network with every seed is trained, tested and recorded."""

from __future__ import annotations

import statistics
import threading
from pathlib import Path
from typing import Any

import torch

from vovnet.engine.distributed import choose_device
from vovnet.engine.interrupts import stop_requests
from vovnet.files import write_json
from vovnet.folder_lock import folder_lock
from vovnet.freed_memory import keep_freed_memory
from vovnet.paper.aggregation.cifar10 import SIDE, Cifar10, read_cifar10
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.paper.aggregation.connections import strengths
from vovnet.paper.aggregation.networks import CIFAR_NETWORKS
from vovnet.paper.aggregation.training import Hook, check_settings, test_accuracy, train_classifier
from vovnet.paper.records import check_alike, read_aggregation_run
from vovnet.profiling.cost import count_cost, count_parameters
from vovnet.provenance import count_threads, device_name, record_header


def run_study(config: AggregationConfig, hook: Hook = lambda line: None) -> tuple[list[dict[str, Any]], bool]:
    """Train, test and record every network with every seed. Finished runs are not repeated, interrupted ones continue.

    Returns the records of all finished runs in the output folder, whichever call made them, and whether all runs of
    `config` are finished (False after Ctrl-C). Writes these records into aggregation.json, and each one into
    NETWORK_SEED/record.json. Raises UsageError if the output folder holds runs with other settings.

    hook: called with every log entry of the training runs, and with every test accuracy.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    device = choose_device(config.device)
    with folder_lock(config.output):
        runs = [(network, seed) for seed in config.seeds for network in config.networks]
        unfinished = [run for run in runs if _finished_record(config.run_folder(*run), config) is None]
        if unfinished:
            train = read_cifar10(config.data, "train", download=config.download).first(config.train_images)
            test = read_cifar10(config.data, "test", download=config.download)
            with stop_requests() as stop:
                while unfinished and not stop.is_set():
                    network, seed = unfinished[0]
                    record = train_and_test(network, seed, train, test, config, device=device, hook=hook, stop=stop)
                    if record is None:
                        break
                    write_json(config.run_folder(network, seed) / "record.json", record)
                    hook({"network": network, "seed": seed, "test_accuracy": record["test_accuracy"]})
                    unfinished.pop(0)
        folders = (path.parent for path in sorted(config.output.glob("*/record.json")))
        records = [record for folder in folders if (record := _finished_record(folder, config)) is not None]
        check_alike(records, config.output)
        records.sort(key=lambda record: (record["seed"], list(CIFAR_NETWORKS).index(record["network"])))
        write_json(config.output / "aggregation.json", {**record_header("vovnet study aggregation"), "runs": records})
        return records, not unfinished


def train_and_test(
    network: str,
    seed: int,
    train: Cifar10,
    test: Cifar10,
    config: AggregationConfig,
    *,
    device: torch.device,
    hook: Hook = lambda line: None,
    stop: threading.Event | None = None,
) -> dict[str, Any] | None:
    """Train one network from the start or its checkpoint, and test it: its record, None if `stop` was set before."""
    folder = config.run_folder(network, seed)
    torch.manual_seed(seed)
    model = CIFAR_NETWORKS[network]().to(device).to(memory_format=torch.channels_last)
    log = train_classifier(model, train, config, seed=seed, folder=folder, hook=hook, stop=stop)
    if log is None:
        return None
    accuracy = test_accuracy(model, test)
    cost = count_cost(model, (1, 3, SIDE, SIDE)).total
    return {
        "network": network,
        "seed": seed,
        "test_accuracy": accuracy,
        "test_images": len(test.labels),
        "train_images": len(train.labels),
        "images": train.form,
        "parameters": count_parameters(model),
        "multiply_adds": cost.multiply_adds,
        "memory_access_cost": cost.memory_access_cost,
        **strengths(model),
        "images_per_s": statistics.median(entry["images_per_s"] for entry in log),
        "log": [[entry["epoch"], entry["loss"], entry["train_accuracy"]] for entry in log],
        "settings": config.settings(),
        **record_header(),
        "device": f"{device_name(device)}, {count_threads(torch.get_num_threads())}, torch {torch.__version__}",
    }


def _finished_record(folder: Path, config: AggregationConfig) -> dict[str, Any] | None:
    path = folder / "record.json"
    if not path.exists():
        return None
    record = read_aggregation_run(path, CIFAR_NETWORKS)
    check_settings(record["settings"], config.settings(), path)
    return record
