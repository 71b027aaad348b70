"""One optimizer step of a training run, in bfloat16 or float16 if asked for, with float32 weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vovnet.data.loading import Batch
from vovnet.engine.training.state import TrainState
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.ghost_norm import GhostBatchNorm, count_passes


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
    norm_momentum: float | None = None,
    memory_format: torch.memory_format = torch.channels_last,
    graphs: bool = False,
) -> None:
    """Update the weights and their EMA once, and count the step.

    network: `state.model`, or what compiles it or shares it with other processes.
    batches: yields micro-batches, of which the step takes `accumulate`.
    dtype: number format of the forward pass.
    norm_momentum: see `set_norm_momentum`.
    memory_format: of the network's input.
    graphs: whether the network was compiled into CUDA graphs, for which `accumulate` must be 1.

    It looks at no loss or gradient, because that would wait for the device; `TrainState.look` does. In float16 the
    scaler skips a step that overflows and continues with a smaller scale.
    """
    model, optimizer, scaler = state.model, state.optimizer, state.scaler
    names: list[str] = []
    with _finite_statistics(model, scaler):
        for index in range(accumulate):
            batch = next(batches)
            names += batch.names
            set_norm_momentum(model, norm_momentum, state.step * accumulate + index)
            if graphs:
                # With compile=graphs: what the network gave for the last step is no longer needed.
                torch.compiler.cudagraph_mark_step_begin()
            # The processes exchange gradients once per step, with the last micro-batch.
            last = index == accumulate - 1
            with network.no_sync() if isinstance(network, DistributedDataParallel) and not last else nullcontext():
                images, moved = _prepared(model, batch, device, memory_format)
                with autocast(dtype, device):
                    if model.two_stage:
                        # In main memory, where crowds are known; bitmaps of masks are unpacked on the device.
                        targets = batch._replace(packed_masks=moved.packed_masks).targets
                        losses = criterion(network(images, targets), targets)
                    else:
                        losses = criterion(network(images), moved.padded)
                loss = torch.stack(list(losses.values())).sum()
                scaler.scale(loss / accumulate).backward()
            state.window.add_losses({"loss": loss, **losses}, state.step, batch.names)
    norm = None
    if clip_norm is not None:
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    elif not scaler.is_enabled():
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if norm is not None and not scaler.is_enabled():
        shared = isinstance(network, DistributedDataParallel)
        state.window.add_gradient_norm(norm, state.step, names, shared=shared)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update_parameters(model)
    state.step += 1


def _prepared(
    model: DetectionModel, batch: Batch, device: torch.device, memory_format: torch.memory_format
) -> tuple[Tensor, Batch]:
    """The input of the network in float32, and the batch on the device."""
    moved = batch.to(device)
    return model.preprocessing.normalize(moved.images).contiguous(memory_format=memory_format), moved


@contextmanager
def _finite_statistics(model: nn.Module, scaler: torch.amp.GradScaler) -> Iterator[None]:
    """Undo what a step that overflows in float16 does to the running averages of norms, for ever after."""
    statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()] if scaler.is_enabled() else []
    if not statistics:
        yield
        return
    before = torch.cat([buffer.flatten() for buffer in statistics])
    yield
    after = torch.cat([buffer.flatten() for buffer in statistics])
    kept = torch.where(after.isfinite(), after, before).split([buffer.numel() for buffer in statistics])
    torch._foreach_copy_(statistics, [new.view_as(old) for new, old in zip(kept, statistics, strict=True)])


def set_norm_momentum(model: nn.Module, momentum: float | None, passes: int) -> None:
    """Set the share of the next forward pass in the running averages of batch norm, see `average_share`.

    None leaves the layers as they are. Frozen batch norm and group norm have no averages.
    """
    if momentum is None:
        return
    for layer in model.modules():
        if isinstance(layer, GhostBatchNorm):
            layer.momentum = momentum  # of each group of images
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = average_share(momentum, passes)
    count_passes(model, passes)


def average_share(momentum: float, passes: int) -> float:
    """The share of a value in a running average after `passes` earlier values, as Caffe computes it.

    Caffe divides a sum that starts at 0 by the sum of its weights: each value counts 1 - momentum times as much as the
    next one, and nothing else counts. The average of the first values is therefore close to their mean.
    """
    return momentum / (1 - (1 - momentum) ** (passes + 1))


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The number format of the forward pass for `TrainConfig.precision`. ValueError if the device lacks it."""
    if device.type != "cuda":
        allowed = ("auto", "fp32", "bf16") if device.type == "cpu" else ("auto", "fp32")
        if precision not in allowed:
            raise ValueError(f"precision={precision} needs a CUDA GPU; on {device.type} use precision={allowed[-1]}")
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def make_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler:
    """A loss scaler. It is switched off unless `dtype` is float16, the only format whose gradients underflow."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products run in `dtype`. It does nothing for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
