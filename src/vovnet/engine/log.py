"""Where a run's records go. A log hook is any function that takes a record: one flat dict with a "step"."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from vovnet.data.dataset import DetectionDataset
from vovnet.engine.config import TrainConfig
from vovnet.files import replacing

Record = Mapping[str, Any]
LogHook = Callable[[Record], None]


def json_lines(path: Path, last_step: int) -> LogHook:
    """Append each record as a line; lines of steps after `last_step`, left by a killed run, are dropped."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # the kill cut this line short
            break
    with replacing(path) as temporary:
        temporary.write_text("".join(kept))

    def log(record: Record) -> None:
        with path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    return log


def has_tensorboard() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def tensorboard(folder: Path, last_step: int) -> LogHook:
    """Write every number of a record as a TensorBoard scalar."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder, purge_step=last_step + 1)

    def log(record: Record) -> None:
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                writer.add_scalar(name, value, record["step"])
        writer.flush()

    return log


def announce(config: TrainConfig, dataset: DetectionDataset, step: int, steps: int, device: str) -> None:
    """One line on stderr before the first step: what is about to happen."""
    start = f"goes on at step {step}" if step else "starts anew"
    classes = ", ".join(dataset.class_names[:20]) + (", …" if len(dataset.class_names) > 20 else "")
    print(
        f"{len(dataset)} images, {len(dataset.class_names)} classes ({classes}); {steps} steps of {config.batch_size} "
        f"images on {device} → {config.output}; {start}",
        file=sys.stderr,
        flush=True,
    )


def console(record: Record) -> None:
    """One line on stderr."""
    parts = [f"step {record['step']}/{record['steps']}", f"epoch {record['epoch']:.2f}"]
    if "loss" in record:
        losses = " ".join(f"{k.removesuffix('_loss')} {v:.3f}" for k, v in record.items() if k.endswith("_loss"))
        parts.append(f"loss {record['loss']:.3f} ({losses})")
        parts.append(f"lr {record['learning_rate']:.2e}  {record['images_per_s']:.2f} images/s")
        parts.append(f"{timedelta(seconds=round(record['seconds_left']))} left")
    else:
        parts += [f"{k} {v:.4f}" for k, v in record.items() if k.startswith("val_") and v is not None]
    print("  ".join(parts), file=sys.stderr, flush=True)
