"""What a detector costs on this machine, measured: a step of its training, and the detection on one image."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import torch

from vovnet.data.batches.worker_count import usable_cores
from vovnet.data.dataset import DetectionDataset
from vovnet.data.images import read_image
from vovnet.data.loading import Batch
from vovnet.engine.config import TrainConfig
from vovnet.engine.detector import Detector
from vovnet.engine.distributed import Workers
from vovnet.engine.training.data import open_batches
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import compute_dtype, make_scaler, train_step
from vovnet.models.detectors.contract import DetectionModel
from vovnet.planning.memory import available_mib, choose_micro_batch, peak_of
from vovnet.profiling.speed import synchronize
from vovnet.runtime.cpu import has_bf16_products
from vovnet.zoo import create_model, find_detector

Precision = Literal["auto", "fp32", "bf16", "fp16"]
MOST_S = 40.0
_STEPS, _PASSES = 2, 7  # that are timed, after one that is not
_FIRST_IMAGES = 2  # of the steps that show how much memory and time an image takes
_MOST_DETECTING_S = 3.0
_TRAINED = 0.9  # a score that few boxes of random weights reach, as few of trained ones reach the usual threshold
_LOADERS = 2  # processes, on a CPU with cores for them
_WORTH_IT = 0.9  # bf16 is chosen if it takes less than this part of fp32's time


@dataclass(frozen=True)
class Trial:
    """How long a detector takes here.

    precision: the faster one in training.
    step_s: seconds of a step in each precision that was tried: forward, loss, backward and update.
    load_s: seconds that one process takes to load the images of a step.
    detect_ms: one image through the network in float32, and the decoding of its outputs.
    mib_per_image: memory of a training step per image of a forward pass; None if it cannot be measured.
    batch_size: images of a step.
    micro_batch_size: images of a forward pass that fit into the memory.
    """

    precision: Precision
    step_s: dict[Precision, float]
    load_s: float
    detect_ms: float
    mib_per_image: float | None
    batch_size: int
    micro_batch_size: int

    def seconds_per_step(self, device: torch.device) -> float:
        """With the loading: on a CPU it takes its share of the cores, on a GPU it runs beside the network."""
        step_s, cores = self.step_s[self.precision], usable_cores()
        if device.type != "cpu":
            return max(step_s, self.load_s / max(1, cores - 1))
        return max(step_s + self.load_s / cores, self.load_s / min(_LOADERS, max(1, cores - 1)))


def try_detector(
    config: TrainConfig, dataset: DetectionDataset, device: torch.device, *, most_s: float = MOST_S
) -> Trial:
    """Measure the one-stage detector of a config with images of `dataset`: a few steps, then a few detections.

    most_s: about so many seconds are spent, if need be with steps of fewer images.
    """
    if config.threads:
        torch.set_num_threads(config.threads)  # as in training
    torch.manual_seed(config.seed)
    model = create_model(config.model, len(dataset.class_names), **config.model_options)
    model = model.to(device).to(memory_format=torch.channels_last).train()
    batch, load_s = _load_batch(config, dataset, model, device)
    free = available_mib(device)
    steps = _Steps(config, model, device)
    precisions = _precisions(config, device)
    few = min(_FIRST_IMAGES, config.batch_size)
    first, step_s = _part_of(batch, few), {}
    steps.time(first, precisions[-1])  # allocates the state of the optimizer
    peak = peak_of(lambda: steps.time(first, precisions[0]), device)
    mib_per_image = None if peak is None else peak / few
    micro = choose_micro_batch(config.batch_size, mib_per_image, free)
    for precision in precisions:
        images, part = few, first
        seconds = [steps.time(part, precision)]
        if seconds[0] * (1 + _STEPS) * micro / images * len(precisions) <= most_s:
            images, part = micro, _part_of(batch, micro)
            steps.time(part, precision)
            seconds = [steps.time(part, precision) for _ in range(_STEPS)]
        step_s[precision] = config.batch_size / images * statistics.median(seconds)
    best = precisions[-1] if step_s[precisions[-1]] < _WORTH_IT * step_s[precisions[0]] else precisions[0]
    return Trial(best, step_s, load_s, _detect_ms(model, dataset, device), mib_per_image, config.batch_size, micro)


def _precisions(config: TrainConfig, device: torch.device) -> tuple[Precision, ...]:
    """Those worth trying, fp32 first; only the one that was asked for; on a GPU "auto" is right."""
    if config.precision != "auto":
        return (config.precision,)
    if device.type != "cpu":
        return ("auto",)
    return ("fp32", "bf16") if has_bf16_products() else ("fp32",)


class _Steps:
    """Training steps of a model; its weights change."""

    def __init__(self, config: TrainConfig, model: DetectionModel, device: torch.device) -> None:
        spec = find_detector(config.model)
        self._config, self._device = config, device
        self._criterion = spec.make_loss(config.loss.model_dump())
        ema = EMA(model, config.ema_decay) if config.ema_decay else None
        scaler = make_scaler(torch.float32, device)
        self._state = TrainState(model, ema, make_optimizer(model, spec, config.optimizer), scaler)

    def time(self, batch: Batch, precision: Precision) -> float:
        """Seconds of one step. Its rate is tiny: steps that are no part of a training must not make losses explode."""
        for group in self._state.optimizer.param_groups:
            group["lr"] = 1e-6
        synchronize(self._device)
        started = time.perf_counter()
        train_step(
            self._state, self._state.model, self._criterion, iter([batch]), accumulate=1,
            dtype=compute_dtype(precision, self._device), device=self._device,
            clip_norm=self._config.optimizer.clip_norm,
        )  # fmt: skip
        synchronize(self._device)
        return time.perf_counter() - started


def _load_batch(
    config: TrainConfig, dataset: DetectionDataset, model: DetectionModel, device: torch.device
) -> tuple[Batch, float]:
    """The second batch of a training, and the seconds that it took one process."""
    values = {"micro_batch_size": config.batch_size, "workers": 0, "draw_images": "workers"}
    alone = config.model_copy(update=values)
    with closing(open_batches(dataset, alone, model.preprocessing, Workers(0, 1, device), start_step=0)) as batches:
        next(batches)
        started = time.perf_counter()
        return next(batches), time.perf_counter() - started


def _part_of(batch: Batch, images: int) -> Batch:
    """The first images of a batch without masks."""
    return Batch(batch.images[:images], batch.packed_objects[:images], batch.counts[:images], batch.names[:images])


def _detect_ms(model: DetectionModel, dataset: DetectionDataset, device: torch.device) -> float:
    detector = Detector(model, dataset.class_names, dataset.category_ids, device=device)
    pixels = read_image(dataset[0].image_path)
    batch, sizes = detector.prepare([pixels]), [(pixels.shape[1], pixels.shape[2])]
    times: list[float] = []
    while len(times) < 2 or (len(times) <= _PASSES and sum(times) < _MOST_DETECTING_S):
        synchronize(device)
        started = time.perf_counter()
        detector.decode(detector.forward(batch), sizes, score_threshold=_TRAINED)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times[1:])
