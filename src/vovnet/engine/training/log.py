"""The log of a training run. A log hook is any function that takes a record: a flat dict with a "step"."""

from __future__ import annotations

import importlib.util
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import recognise
from vovnet.engine.config import TrainConfig
from vovnet.errors import counted, install_extra, listed
from vovnet.files import LEFTOVERS, append_text, make_folder, write_bytes
from vovnet.parsing import naming, parse_json, read_bounded
from vovnet.printing import SENTENCE, line

_MOST_SECONDS = 86_400 * 99_999
_LOG = logging.getLogger("vovnet")

Record = Mapping[str, Any]
LogHook = Callable[[Record], None]


def open_log(config: TrainConfig, last_step: int, more: Sequence[LogHook] = ()) -> LogHook:
    """The log of a run that starts after `last_step`: stderr, log.jsonl, `more`, and TensorBoard if it is wanted.

    Makes the output folder and removes unfinished files of a killed run from it.
    """
    make_folder(config.output)
    for leftover in config.output.glob(LEFTOVERS):
        leftover.unlink()
    hooks: list[LogHook] = [console, json_lines(config.output / "log.jsonl", last_step), *more]
    if config.tensorboard and not has_tensorboard():
        raise ValueError(f"tensorboard=true needs an extra: {install_extra('train')}; or set tensorboard=false")
    if config.tensorboard or (config.tensorboard is None and has_tensorboard()):
        hooks.append(tensorboard(config.output / "tensorboard", last_step))

    def log(record: Record) -> None:
        for hook in hooks:
            hook(record)

    return log


def json_lines(path: Path, last_step: int) -> LogHook:
    """Append each record to a file as one line of JSON.

    Removes lines of steps after `last_step`: the killed run that wrote them did not save these steps.
    """
    with naming(path):
        lines = read_bounded(path, "record_bytes").splitlines() if path.exists() else []
    kept = []
    for written in lines:
        try:
            if parse_json(written)["step"] <= last_step:
                kept.append(written + b"\n")
        except (ValueError, KeyError, TypeError):  # a kill cut this line short
            continue
    write_bytes(path, b"".join(kept))

    def log(record: Record) -> None:
        append_text(path, json.dumps(record) + "\n")

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


def console(record: Record) -> None:
    """Print a record as one line on stderr."""
    parts = [f"step {record['step']}/{record['steps']}", f"epoch {record['epoch']:.2f}"]
    if "loss" in record:
        losses = " ".join(f"{k.removesuffix('_loss')} {v:.3f}" for k, v in record.items() if k.endswith("_loss"))
        parts.append(f"loss {record['loss']:.3f} ({losses})")
        parts.append(f"lr {record['learning_rate']:.2e}  {record['images_per_s']:.2f} images/s")
        parts.append(f"{timedelta(seconds=min(round(record['seconds_left']), _MOST_SECONDS))} left")
    else:
        parts += [f"{k} {v:.4f}" for k, v in record.items() if k.startswith("val_") and v is not None]
    print("  ".join(parts), file=sys.stderr, flush=True)


def announce(config: TrainConfig, dataset: DetectionDataset, step: int, steps: int, device: str) -> None:
    """Print on stderr, before the first step, what is about to be trained; warn of a warm-up that never ends."""
    start = f"resumes at step {step}" if step else "starts anew"
    classes = listed(dataset.class_names, 20)
    minutes = config.schedule.minutes
    length = counted(steps, "step") if minutes is None else f"{minutes:g} min of steps"
    data = f"{config.data.root} is read as {recognise(config.data.root).sentence()}"
    sentence = (
        f"{counted(len(dataset), 'image')}, {counted(len(dataset.class_names), 'class', 'classes')} ({classes}); "
        f"{length} of {counted(config.batch_size, 'image')} on {device} → {config.output}; {start}"
    )
    print(line(data, SENTENCE), line(sentence, SENTENCE), sep="\n", file=sys.stderr, flush=True)
    if minutes is None and config.schedule.warmup_iterations >= steps:
        _LOG.warning(
            "the warm-up of %d iterations is longer than the run of %d; lower schedule.warmup_iterations",
            config.schedule.warmup_iterations,
            steps,
        )


def say(*sentences: str) -> None:
    """Print what is about to be trained, or how it ended, on stderr."""
    for sentence in sentences:
        print(line(sentence, SENTENCE), file=sys.stderr, flush=True)


def mean_losses(losses_of_processes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each loss over the processes; over those that have losses, if all overflowed in the others."""
    with_losses = [losses for losses in losses_of_processes if losses]
    return {
        name: round(statistics.fmean(losses[name] for losses in with_losses), 6)
        for name in (with_losses[0] if with_losses else ())
    }


class Clock:
    """Images per second since the last log line, and the time left. Neither counts time spent in `paused`."""

    def __init__(self, step: int) -> None:
        self.start = self.last = time.monotonic()
        self.start_step = self.last_step = step

    def lap(self, step: int, steps: int, batch_size: int) -> dict[str, float]:
        now = time.monotonic()
        images_per_s = (step - self.last_step) * batch_size / (now - self.last)
        seconds_left = (now - self.start) / (step - self.start_step) * (steps - step)
        self.last, self.last_step = now, step
        return {"images_per_s": round(images_per_s, 3), "seconds_left": round(seconds_left, 1)}

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.start += time.monotonic() - began
        self.last += time.monotonic() - began
