"""One optimizer step of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vovnet.data.loading import Batch
from vovnet.engine.mixed_precision import autocast
from vovnet.engine.train_state import TrainState, stop_unless_finite


def train_step(
    state: TrainState,
    network: nn.Module,
    criterion: nn.Module,
    batches: Iterator[Batch],
    *,
    accumulate: int,
    dtype: torch.dtype,
    device: torch.device,
    clip_norm: float | None,
) -> None:
    """Update the weights and their EMA once, and count the step.

    network: `state.model`, or the DistributedDataParallel around it.
    batches: yields micro-batches, of which the step takes `accumulate`.
    dtype: number format of the forward pass.

    Raises FloatingPointError that names the images if a loss or gradient is not finite.
    """
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    names: list[str] = []
    for index in range(accumulate):
        batch = next(batches)
        names += batch.names
        # The processes exchange gradients once per step, with the last micro-batch.
        last = index == accumulate - 1
        with network.no_sync() if isinstance(network, DistributedDataParallel) and not last else nullcontext():
            with autocast(dtype, device):
                images = model.preprocessing.normalize(batch.images.to(device, non_blocking=True))
                targets = batch.targets
                outputs = network(images, targets) if model.two_stage else network(images)
                losses = criterion(outputs, targets)
            loss = torch.stack(list(losses.values())).sum()
            scaler.scale(loss / accumulate).backward()
        values = torch.stack([loss, *losses.values()]).detach()
        stop_unless_finite([values], "loss", state.step, batch.names)
        state.loss_sums.add(dict(zip(["loss", *losses], values.tolist(), strict=True)))
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
    if not scaler.is_enabled():  # the scaler skips such a step and continues with a smaller scale
        stop_unless_finite([norm], "gradient", state.step, names)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update_parameters(model)
    state.step += 1
