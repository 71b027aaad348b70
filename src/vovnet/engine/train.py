"""Training: `train(config)` is one function to be read from top to bottom."""

from __future__ import annotations

import json
import logging
import math
import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from vovnet.data.dataset import DetectionDataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.engine.config import ScheduleConfig, TrainConfig
from vovnet.engine.distributed import workers
from vovnet.engine.evaluate import detect
from vovnet.engine.interrupts import stop_requests
from vovnet.engine.log import LogHook, announce, console, has_tensorboard, json_lines, tensorboard
from vovnet.engine.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.training_data import aspect_ratios, fingerprint, make_augmentation, open_data
from vovnet.files import replacing
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.models.detectors.contract import DetectionModel
from vovnet.provenance import record_header
from vovnet.structures import Detections
from vovnet.weights.checkpoint import (
    CHECKPOINT_FORMAT,
    ModelInfo,
    info_from_dict,
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_weights,
)
from vovnet.weights.pretrained import build_pretrained
from vovnet.zoo import find_detector

_LOG = logging.getLogger("vovnet")


@dataclass(frozen=True)
class TrainResult:
    """best: the metric of the best evaluation on `val` (None without one); finished: False after Ctrl-C."""

    output: Path
    steps: int
    best: float | None
    finished: bool


def train(config: TrainConfig, hooks: Sequence[LogHook] = ()) -> TrainResult:
    """Train a detector as `config` says; leaves log.jsonl, last.pt, best.safetensors and record.json in its output.

    Without a `val` split best.safetensors holds the last weights. hooks: further places for the log's records (see
    `vovnet.engine.log`).

    Raises FileExistsError when the output holds another run, FloatingPointError naming the images when a loss or
    gradient is not finite, ValueError and OSError with the remedy for wrong data or a full disk.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with workers(config.device) as group, stop_requests() as stop_requested:
        # Build.
        torch.manual_seed(config.seed)
        dataset, val = open_data(config)
        info = ModelInfo(config.model, config.model_options, dataset.class_names, dataset.category_ids)
        last_path, best_path = config.output / "last.pt", config.output / "best.safetensors"
        checkpoint = load_checkpoint(last_path) if config.resume and last_path.exists() else None
        if checkpoint is not None:
            _check_same_run(checkpoint, config, dataset, last_path)
            info = info_from_dict(checkpoint["info"])  # with what its backbone's weights brought; they may be gone
        if config.backbone_weights and checkpoint is None:
            info, model = build_pretrained(info, config.backbone_weights)
        else:
            model = info.build()
        model = model.to(group.device).to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = not model.preprocessing.keep_ratio  # where every batch has the same shape
        if config.sync_bn:
            if group.device.type != "cuda":
                raise ValueError("sync_bn=true needs CUDA GPUs; on CPU raise micro_batch_size instead")
            model = cast(DetectionModel, nn.SyncBatchNorm.convert_sync_batchnorm(model))
        spec = find_detector(config.model)
        criterion = spec.make_loss(config.loss.model_dump())
        optimizer = make_optimizer(model, spec, config.optimizer)
        ema = make_ema(model, config.ema_decay) if config.ema_decay else None
        precision = _resolve_precision(config.precision, group.device)
        scaler = torch.amp.GradScaler(group.device.type, enabled=precision == torch.float16)
        steps = total_steps(config, len(dataset))
        micro_batch_size, accumulate = micro_batches(config, group.world_size)

        # Resume.
        step, best, best_step, window = 0, None, None, _Window()
        if checkpoint is not None:
            load_state(model, checkpoint["model"], str(last_path))
            if ema is not None:
                load_state(ema.module, checkpoint["ema"], str(last_path))
                ema.n_averaged.fill_(checkpoint["step"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            scaler.load_state_dict(checkpoint["scaler"])
            step, window = checkpoint["step"], _Window(**checkpoint["window"])
            best, best_step = checkpoint["best"], checkpoint["best_step"]
        else:
            _check_nothing_is_lost(config)
        if len(set(group.gather(step))) > 1:
            raise ValueError(f"every process needs {last_path}; share the output folder between the hosts")
        network = DistributedDataParallel(model) if group.world_size > 1 else model
        evaluated = cast(DetectionModel, ema.module) if ema is not None else model
        log_hooks = _log_hooks(config, step, hooks) if group.is_main else []
        if group.is_main:
            announce(config, dataset, step, steps, str(group.device))
            if config.schedule.warmup_iterations >= steps:
                _LOG.warning(
                    "the warm-up of %d iterations is not over within the run's %d; lower schedule.warmup_iterations",
                    config.schedule.warmup_iterations,
                    steps,
                )

        def save_last() -> None:
            # Weights that are not finite must not take the place of the last good ones.
            _stop_unless_finite([p.sum() for p in model.parameters()], "weights", step, [])
            if group.is_main:
                state = {
                    "format": CHECKPOINT_FORMAT,
                    "model": model.state_dict(),
                    "ema": evaluated.state_dict() if ema is not None else None,
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "step": step,
                    "best": best,
                    "best_step": best_step,
                    "window": asdict(window),
                    "info": {**asdict(info), "options": dict(info.options)},
                    "images": fingerprint(dataset),
                    "config": config.model_dump(mode="json"),
                }
                save_checkpoint(last_path, state)

        # Loop.
        stream = BatchStream(
            len(dataset), config.batch_size, micro_batch_size, steps,
            start_step=step, seed=config.seed, rank=group.rank, world_size=group.world_size,
            aspect_ratios=aspect_ratios(dataset) if model.preprocessing.keep_ratio else None,
        )  # fmt: skip
        augment = make_augmentation(model.preprocessing, config)
        on_cuda = group.device.type == "cuda"
        batches = iter(training_batches(dataset, augment, stream, workers=config.workers, pin_memory=on_cuda))
        if step == 0:
            save_last()  # so that there is something to resume from whenever the kill comes
        clock = _Clock(step)
        network.train()
        while step < steps:
            rate = learning_rate(step, steps, config.optimizer.learning_rate, config.schedule)
            set_learning_rate(optimizer, rate)
            torch.manual_seed(_seed_of(config.seed, step, group.rank))  # two-stage detectors sample proposals
            names: list[str] = []
            for micro in range(accumulate):
                batch = next(batches)
                names += batch.names
                # Gradients cross the network once a step, with the last micro-batch.
                last = micro == accumulate - 1
                with network.no_sync() if isinstance(network, DistributedDataParallel) and not last else nullcontext():
                    with torch.autocast(group.device.type, precision, enabled=precision != torch.float32):
                        images = model.preprocessing.normalize(batch.images.to(group.device, non_blocking=True))
                        targets = batch.targets
                        outputs = network(images, targets) if model.two_stage else network(images)
                        losses = criterion(outputs, targets)
                    loss = torch.stack(list(losses.values())).sum()
                    scaler.scale(loss / accumulate).backward()
                values = torch.stack([loss, *losses.values()]).detach()
                _stop_unless_finite([values], "loss", step, batch.names)
                window.add(dict(zip(["loss", *losses], values.tolist(), strict=True)))
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm or math.inf)
            if not scaler.is_enabled():  # the scaler skips such steps and goes on with a smaller scale
                _stop_unless_finite([norm], "gradient", step, names)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            if ema is not None:
                ema.update_parameters(model)
            step += 1
            progress = {"step": step, "steps": steps, "epoch": round(step * config.batch_size / len(dataset), 4)}

            if step % config.log_every == 0 or step == steps:
                losses_of_all = _mean_of_each(group.gather(window.means()))
                timing = clock.lap(step, steps, config.batch_size)
                for hook in log_hooks:
                    hook({**progress, **losses_of_all, "learning_rate": rate, **timing})
                window = _Window()

            if val is not None and (_ends_evaluation_period(step, config, len(dataset)) or step == steps):
                with clock.paused():
                    group.share(evaluated)
                    found = detect(evaluated, val, batch_size=micro_batch_size, workers=config.workers, group=group)
                    network.train()
                    score = _score(found, val, config.metric)
                    for hook in log_hooks:
                        hook({**progress, f"val_{config.metric}": score})
                    if best is None or score > best:
                        best, best_step = score, step
                        if group.is_main:
                            record = make_record(config, step, score)
                            save_weights(best_path, evaluated.state_dict(), info, record)
                    save_last()
            elif step % config.checkpoint_every == 0 or step == steps:
                save_last()

            if group.any(stop_requested.is_set()):
                save_last()
                break

        # Record.
        if group.is_main and step == steps:
            record = make_record(config, best_step or step, best)
            if val is None:
                save_weights(best_path, evaluated.state_dict(), info, record)
            with replacing(config.output / "record.json") as temporary:
                temporary.write_text(json.dumps({**record, "steps": steps}, indent=2))
        return TrainResult(config.output, step, best, step == steps)


def micro_batches(config: TrainConfig, world_size: int) -> tuple[int, int]:
    """(images a forward pass, forward passes a step) of each process: at most `micro_batch_size` images, all equal."""
    if config.batch_size % world_size:
        raise ValueError(f"batch_size {config.batch_size} must be a multiple of the {world_size} processes")
    local = config.batch_size // world_size
    size = math.gcd(local, config.micro_batch_size)
    return size, local // size


def total_steps(config: TrainConfig, num_images: int) -> int:
    schedule = config.schedule
    if schedule.iterations is not None:
        return schedule.iterations
    assert schedule.epochs is not None
    return max(1, math.ceil(schedule.epochs * num_images / config.batch_size))


def learning_rate(step: int, steps: int, base: float, schedule: ScheduleConfig) -> float:
    """The rate of optimizer step `step` (from 0) of `steps`."""
    if schedule.kind == "cosine":
        rate = base * (1 + math.cos(math.pi * step / steps)) / 2
    else:
        rate = base * schedule.gamma ** sum(step >= milestone for milestone in schedule.milestones)
    if step < schedule.warmup_iterations:
        progress = step / schedule.warmup_iterations
        rate *= schedule.warmup_factor + (1 - schedule.warmup_factor) * progress
    return rate


def _seed_of(seed: int, step: int, rank: int) -> int:
    """A seed of its own for every step and process, the same after a restart."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def _stop_unless_finite(values: Sequence[Tensor], what: str, step: int, names: Sequence[str]) -> None:
    if not torch.stack([value.detach().isfinite().all() for value in values]).all():
        where = f" with {', '.join(names)}: check these images with `vovnet data check`, or" if names else ":"
        raise FloatingPointError(
            f"the {what} became infinite or not a number at step {step}{where} lower optimizer.learning_rate or set "
            "optimizer.clip_norm; the last checkpoint is unharmed"
        )


def _ends_evaluation_period(step: int, config: TrainConfig, num_images: int) -> bool:
    """Whether step number `step` completes a multiple of `evaluate_every` epochs."""
    images = num_images * config.evaluate_every
    return step * config.batch_size // images > (step - 1) * config.batch_size // images


def _score(found: Sequence[Detections], val: DetectionDataset, metric: str) -> float:
    targets, classes = [sample.target for sample in val], len(val.class_names)
    if metric != "voc07_map":
        return evaluate_coco(found, targets, classes, masks=metric == "coco_mask_ap").figures["AP"] or 0.0
    return evaluate_voc(found, targets, classes).mean_ap11 or 0.0


def make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """The running average of weights and norm statistics; it forgets faster while it is young."""

    def update(average: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        if not average[0].is_floating_point():
            torch._foreach_copy_(list(average), list(current))
            return
        age = int(count)
        now = min(decay, (1 + age) / (10 + age))
        torch._foreach_lerp_(list(average), list(current), 1 - now)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


@dataclass
class _Window:
    """Sums of the losses since the last log line; part of a checkpoint, so that a resumed log is the same."""

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.count += 1

    def means(self) -> dict[str, float]:
        return {name: value / self.count for name, value in self.sums.items()}


def _mean_of_each(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(record[name] for record in records), 6) for name in records[0]}


class _Clock:
    """Images/s since the last log line, and the time left; evaluations and their files are not counted."""

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


def _log_hooks(config: TrainConfig, step: int, more: Sequence[LogHook]) -> list[LogHook]:
    config.output.mkdir(parents=True, exist_ok=True)
    for leftover in config.output.glob(".*.part*"):  # of a killed run's unfinished files
        leftover.unlink()
    hooks: list[LogHook] = [console, json_lines(config.output / "log.jsonl", step), *more]
    if config.tensorboard and not has_tensorboard():
        raise ValueError("tensorboard=true needs an extra: pip install 'vovnet[train]', or set tensorboard=false")
    if config.tensorboard or (config.tensorboard is None and has_tensorboard()):
        hooks.append(tensorboard(config.output / "tensorboard", step))
    return hooks


def _resolve_precision(name: str, device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        allowed = ("auto", "fp32", "bf16") if device.type == "cpu" else ("auto", "fp32")
        if name not in allowed:
            raise ValueError(f"precision={name} is for CUDA; on {device.type} use precision={allowed[-1]}")
        return torch.bfloat16 if name == "bf16" else torch.float32
    if name == "auto":
        name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


_MAY_DIFFER = {"resume", "workers", "threads", "output", "device", "log_every", "checkpoint_every", "tensorboard"}


def _check_nothing_is_lost(config: TrainConfig) -> None:
    """FileExistsError where a new run would overwrite another's files."""
    weights, last = config.output / "best.safetensors", config.output / "last.pt"
    if weights.exists() or last.exists():
        remedy = "go on with resume=true or " if last.exists() else ""
        raise FileExistsError(f"{config.output} holds a run already; {remedy}choose another output=FOLDER")


def _check_same_run(checkpoint: Mapping[str, Any], config: TrainConfig, dataset: DetectionDataset, path: Path) -> None:
    """ValueError when what is to be resumed was trained differently from what `config` now says."""
    then = TrainConfig.model_validate(checkpoint["config"])  # an older version's lacks the newer settings
    changed = [
        key for key in TrainConfig.model_fields if key not in _MAY_DIFFER and getattr(then, key) != getattr(config, key)
    ]
    if tuple(checkpoint["info"]["class_names"]) != tuple(dataset.class_names):
        changed.append("the data's classes")
    if checkpoint["images"] != fingerprint(dataset):
        changed.append("the data's images")
    if changed:
        raise ValueError(
            f"{path} belongs to a run with other settings ({', '.join(changed)}); resume with the same ones or choose "
            "another output=FOLDER"
        )


def make_record(config: TrainConfig, step: int, score: float | None) -> dict[str, Any]:
    """How a model came to be: settings, source version, libraries, machine."""
    import torchvision

    import vovnet

    return {
        "config": config.model_dump(mode="json"),
        "step": step,
        f"val_{config.metric}": score,
        **record_header(),
        "versions": {
            "vovnet": vovnet.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
