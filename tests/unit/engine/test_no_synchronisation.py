"""A training step never waits for its device. On a GPU, PyTorch itself checks it; see tests/gpu."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
import torch

from vovnet.data.batches.device_drawing import LeaveToDevice
from vovnet.data.formats import open_dataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.config import OptimizerConfig
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import make_scaler, train_step
from vovnet.zoo import find_detector

from ...no_synchronisation import SynchronisationError, no_synchronisation
from ...small_training import FAMILIES, Family, build, make_batch

CPU = torch.device("cpu")


def steps(family: Family, dtype: torch.dtype, clip_norm: float | None) -> Iterator[TrainState]:
    """The state of a training run, after each step."""
    spec, model = find_detector(family.name), build(family)
    optimizer = make_optimizer(model, spec, OptimizerConfig())
    state = TrainState(model, EMA(model, 0.9), optimizer, make_scaler(torch.float32, CPU))
    batches = repeat(make_batch(family))
    while True:
        set_learning_rate(optimizer, 1e-3)
        train_step(
            state, model, spec.make_loss({"use_difficult": False}), batches,
            accumulate=1, dtype=dtype, device=CPU, clip_norm=clip_norm, norm_momentum=0.01,
        )  # fmt: skip
        yield state


@pytest.mark.parametrize(
    ("family", "dtype", "clip_norm"),
    [
        (FAMILIES[0], torch.bfloat16, None),
        (FAMILIES[1], torch.float32, 10.0),
        (FAMILIES[2], torch.float32, None),
        (FAMILIES[3], torch.bfloat16, 10.0),
    ],
    ids=lambda value: value.name if isinstance(value, Family) else str(value),
)
def test_a_step_waits_for_nothing(family: Family, dtype: torch.dtype, clip_norm: float | None) -> None:
    run = steps(family, dtype, clip_norm)
    next(run)  # makes the anchors, the momentum and the constants
    with no_synchronisation():
        state = next(run)
    if dtype == torch.bfloat16:  # on CPUs, PyTorch's gradients of small maps are now and then NaN then
        return
    state.look()
    assert state.window.count == 2
    assert state.window.sums["loss"] > 0


def test_images_are_drawn_without_waiting() -> None:
    dataset = open_dataset("samples/bccd", "train")
    augment = LeaveToDevice(SSDAugmentation((64, 64), (123.0, 117.0, 104.0), transpose=0.5))
    stream = BatchStream(len(dataset), batch_size=8, micro_batch_size=8, steps=2)
    first, second = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    first.to(CPU)
    with no_synchronisation():
        images = second.to(CPU).images
    assert images.shape == (8, 3, 64, 64)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool(x.any()),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: torch.tensor(3.0) * x,
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("meta"),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.index_put_((x > 0,), torch.zeros(())),
        lambda x: torch.repeat_interleave(torch.ones(4, dtype=torch.int64)),
        lambda x: max(x.sum(), 1),
    ],
)
def test_what_waits_is_found(wait: Any) -> None:
    with no_synchronisation(), pytest.raises(SynchronisationError):
        wait(torch.ones(4))
