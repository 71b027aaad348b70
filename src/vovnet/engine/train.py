"""Training: `train(config)` reads from top to bottom."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vovnet.data.batches.worker_count import choose_workers
from vovnet.data.dataset import DetectionDataset
from vovnet.data.loading import batch_bytes
from vovnet.engine.config import TrainConfig
from vovnet.engine.detector import Detector
from vovnet.engine.distributed import Workers, stop_votes_of, workers
from vovnet.engine.evaluate import detect_dataset
from vovnet.engine.interrupts import stop_requests
from vovnet.engine.training.data import fingerprint, open_batches, open_data
from vovnet.engine.training.early_stop import stops_early, why_stopped
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.initial_model import InitialModel, initial_model
from vovnet.engine.training.log import Clock, LogHook, announce, mean_losses, open_log, say
from vovnet.engine.training.network import place, wrap
from vovnet.engine.training.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.training.resume import find_checkpoint
from vovnet.engine.training.run_length import RunLength
from vovnet.engine.training.schedule import epochs_done, evaluation_is_due, micro_batches
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import compute_dtype, make_scaler, train_step
from vovnet.engine.training.warnings import warn_before_training
from vovnet.files import write_json
from vovnet.folder_lock import folder_lock
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.voc import evaluate_voc
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.layers import memory_format_of
from vovnet.provenance import record_header
from vovnet.weights.detector import ModelInfo, save_weights
from vovnet.zoo import DetectorSpec, find_detector


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    best: the best metric on `val`, None without an evaluation.
    last: the metric on `val` of the last weights, None before the end of the run and without an evaluation.
    finished: False after Ctrl-C or SIGTERM.
    """

    output: Path
    steps: int
    best: float | None
    last: float | None
    finished: bool


def train(config: TrainConfig, hooks: Sequence[LogHook] = ()) -> TrainResult:
    """Train a detector and write the log, the checkpoint, the best and the last weights and record.json to `output`.

    best.safetensors holds the weights that were best on `val`, last.safetensors those at the end of the run, or their
    EMA if there is one; without a `val` split both hold the last. `hooks` are called with each record of the log.
    On a GPU the losses are looked at only when a line of the log, a checkpoint or an evaluation is due.

    Raises FileExistsError if the output folder holds another run, FloatingPointError that names the images if a loss or
    gradient is not finite, and ValueError or OSError with the remedy for wrong data or a full disk.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with workers(config.device) as group, stop_requests() as stop_requested, ExitStack() as until_end:
        until_end.enter_context(folder_lock(config.output) if group.is_main else nullcontext())
        # Build.
        torch.manual_seed(config.seed)
        dataset, val = open_data(config)
        last_path = config.output / "last.pt"
        checkpoint = find_checkpoint(config, dataset)
        start = _build_model(config, dataset, checkpoint, group)
        info, model = start.info, start.model
        spec = find_detector(config.model)
        criterion = spec.make_loss({**config.loss.model_dump(), "images_per_group": config.norm_batch_size})
        dtype = compute_dtype(config.precision, group.device)
        state = _make_state(config, start, spec, make_scaler(dtype, group.device))

        # Resume.
        _resume(state, checkpoint, last_path, group)
        length = RunLength(config, len(dataset), state, world_size=group.world_size)
        network = wrap(model, config, group).train()
        log = open_log(config, state.step, hooks) if group.is_main else lambda record: None
        if group.is_main:
            announce(config, dataset, state.step, length.steps, str(group.device))
            say(*start.sentences)
            warn_before_training(dataset, val, config.model, model)

        def save_last() -> None:
            state.check_weights()
            length.count_time()
            if group.is_main:
                state.save(last_path, info=info, images=fingerprint(dataset), config=config)

        # Loop.
        batches = open_batches(dataset, config, model.preprocessing, group, start_step=state.step)
        until_end.enter_context(closing(batches))
        group.gather(None)  # a cache of images may take others longer than NCCL would wait for them
        if state.step == 0:
            save_last()  # so that the run can be resumed whenever it is killed
        clock, stop_votes = Clock(state.step), until_end.enter_context(stop_votes_of(group))
        is_last = length.is_over()
        while not is_last:
            rate = length.rate()
            set_learning_rate(state.optimizer, rate)
            torch.manual_seed(_step_seed(config.seed, state.step, group.rank))  # two-stage detectors sample proposals
            train_step(
                state, network, criterion, batches, accumulate=micro_batches(config, group.world_size)[1],
                dtype=dtype, device=group.device, clip_norm=config.optimizer.clip_norm,
                norm_momentum=config.norm_momentum, memory_format=memory_format_of(config.channels_last),
                graphs=config.compile == "graphs",
            )  # fmt: skip
            state.look(wait=False)
            step, is_last, state.last = state.step, length.is_over(), None
            progress = {"step": step, "steps": length.steps, "epoch": epochs_done(step, config, len(dataset))}

            if step % config.log_every == 0 or is_last:
                losses = _mean_losses(state, group, keep=step % config.log_every != 0)
                log({**progress, **losses, "learning_rate": rate, **length.lap(clock)})

            if val is not None and (evaluation_is_due(step, config, len(dataset)) or is_last):
                with clock.paused():
                    score = _evaluate_and_keep(state, val, config, group, info)
                    log({**progress, f"val_{config.metric}": score})
                    is_last = is_last or stops_early(state, config, len(dataset))
                    state.last = score if is_last else None
                    save_last()
            elif step % config.checkpoint_every == 0 or is_last:
                save_last()

            if stop_votes.any(stop_requested.is_set()):
                save_last()
                break

        # Record.
        if is_last:
            if val is not None and state.last is None:  # no step was left, and they were not evaluated as the last ones
                state.last = _evaluate_and_keep(state, val, config, group, info)
                save_last()
            if group.is_main:
                _write_results(config, state, info)
        return TrainResult(config.output, state.step, state.best, state.last, is_last)


def _make_state(
    config: TrainConfig, start: InitialModel, spec: DetectorSpec, scaler: torch.amp.GradScaler
) -> TrainState:
    """The state before the first step."""
    ema = EMA(start.model, config.ema_decay) if config.ema_decay else None
    state = TrainState(start.model, ema, make_optimizer(start.model, spec, config.optimizer), scaler)
    state.default_boxes = start.default_boxes
    return state


def _resume(state: TrainState, checkpoint: Mapping[str, Any] | None, path: Path, group: Workers) -> None:
    """Go back to the state of a checkpoint, if there is one. ValueError unless all processes have it."""
    if checkpoint is not None:
        state.load(checkpoint, path)
    if len(set(group.gather(state.step))) > 1:
        raise ValueError(f"every process needs {path}; put the output folder where all hosts can read it")


def _mean_losses(state: TrainState, group: Workers, *, keep: bool) -> dict[str, float]:
    """The losses since the last log line over all processes. keep: a longer run will go on with their sums."""
    state.look()
    losses = mean_losses(group.gather(state.window.means()))
    if not keep:
        state.window.clear()
    return losses


def _build_model(
    config: TrainConfig, dataset: DetectionDataset, checkpoint: Mapping[str, Any] | None, group: Workers
) -> InitialModel:
    """What the run starts with, placed on the device."""
    start = initial_model(config, dataset, checkpoint)
    torch.backends.cudnn.benchmark = not start.model.preprocessing.keep_ratio  # all batches must have the same shape
    return replace(start, model=place(start.model, config, group))


def _step_seed(seed: int, step: int, rank: int) -> int:
    """A different seed for every step and process, the same after a restart."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def _evaluate(model: DetectionModel, val: DetectionDataset, config: TrainConfig, group: Workers) -> float:
    """The run's metric on the validation set. The model returns to training mode."""
    group.broadcast_buffers(model)
    batch_size, _ = micro_batches(config, group.world_size)
    detector = Detector(model, val.class_names, val.category_ids, device=group.device)
    num_workers = config.workers
    if num_workers == "auto":
        pixels = batch_bytes(batch_size, model.preprocessing.least_pixels)
        num_workers = choose_workers(group.device.type, pixels)
    tiling = None if config.data.tiles is None else config.data.tiles.tiling
    detections = detect_dataset(detector, val, batch_size=batch_size, workers=num_workers, group=group, tiling=tiling)
    model.train().to(memory_format=memory_format_of(config.channels_last))

    def score() -> float:
        targets, num_classes = [sample.target for sample in val], len(val.class_names)
        if config.metric == "voc07_map":
            return evaluate_voc(detections, targets, num_classes).mean_ap11 or 0.0
        coco = evaluate_coco(detections, targets, num_classes, masks=config.metric == "coco_mask_ap")
        return coco.figures["AP"] or 0.0

    return group.once(score)


def _write_best(config: TrainConfig, state: TrainState, info: ModelInfo) -> None:
    record = make_record(config, state.best_step or state.step, state.best, state.default_boxes)
    save_weights(config.output / "best.safetensors", state.evaluated_model.state_dict(), info, record)


def _write_results(config: TrainConfig, state: TrainState, info: ModelInfo) -> None:
    """Write last.safetensors, without a `val` split best.safetensors too, and then record.json: the run is finished."""
    if config.data.val is None:
        _write_best(config, state, info)
    last = make_record(config, state.step, state.last, state.default_boxes)
    save_weights(config.output / "last.safetensors", state.evaluated_model.state_dict(), info, last)
    record = make_record(config, state.best_step or state.step, state.best, state.default_boxes) | {"steps": state.step}
    record["last"] = {key: last[key] for key in ("step", f"val_{config.metric}")}
    if state.stopped_step == state.step:
        record["stopped_early"] = True
        say(why_stopped(state, config))
    write_json(config.output / "record.json", record, indent=2)


def _evaluate_and_keep(
    state: TrainState, val: DetectionDataset, config: TrainConfig, group: Workers, info: ModelInfo
) -> float:
    """The run's metric of the present weights, which are kept if they are the best."""
    state.check_weights()
    score = _evaluate(state.evaluated_model, val, config, group)
    if state.best is None or score > state.best:
        state.best, state.best_step = score, state.step
        if group.is_main:
            _write_best(config, state, info)
    return score


def make_record(
    config: TrainConfig, step: int, score: float | None, default_boxes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """How the weights of a step came to be: settings, step, metric on `val`, commit, date and library versions.

    default_boxes: what the fitted default boxes match, if they were fitted.
    """
    import torchvision

    import vovnet

    return {
        "config": config.model_dump(mode="json"),
        "step": step,
        f"val_{config.metric}": score,
        **({} if default_boxes is None else {"default_boxes": default_boxes}),
        **record_header(),
        "versions": {
            "vovnet": vovnet.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
