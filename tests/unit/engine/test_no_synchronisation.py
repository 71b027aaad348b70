"""A training step never waits for its device. On a GPU, PyTorch itself checks it; see tests/gpu."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch

from vovnet import create_model
from vovnet.data.loading import Batch
from vovnet.engine.config import OptimizerConfig
from vovnet.engine.ema import EMA
from vovnet.engine.optimizer import make_optimizer, set_learning_rate
from vovnet.engine.train_state import TrainState
from vovnet.engine.train_step import make_scaler, train_step
from vovnet.padded_targets import pack
from vovnet.structures import Target
from vovnet.zoo import find_detector

from ...no_synchronisation import SynchronisationError, no_synchronisation

CPU = torch.device("cpu")
DETECTORS = {
    "dsod300_vovnet27_slim": {},
    "pelee304": {},
    "ssd300_mobilenet": {},
    "refinedet320_vovnet27_slim": {"width": 16},
}


def batch_of(size: tuple[int, int]) -> Batch:
    rng = np.random.default_rng(0)
    targets = []
    for count in (3, 0):
        corner = rng.uniform(0, size[0] / 2, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, size[0] / 2, (count, 2))], axis=1)
        targets.append(Target.make(boxes, rng.integers(0, 2, count), difficult=[False] * count))
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, *size), dtype=np.uint8))
    return Batch(images, pack(targets), [3, 0], ["a.jpg", "b.jpg"])


def steps(name: str, dtype: torch.dtype, clip_norm: float | None) -> Iterator[TrainState]:
    """The state of a training run, after each step."""
    torch.manual_seed(0)
    spec = find_detector(name)
    model = create_model(name, 2, **DETECTORS[name]).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, spec, OptimizerConfig())
    state = TrainState(model, EMA(model, 0.9), optimizer, make_scaler(torch.float32, CPU))
    options: dict[str, Any] = {"use_difficult": False}
    batches = repeat(batch_of(model.preprocessing.image_size))
    while True:
        set_learning_rate(optimizer, 1e-3)
        train_step(
            state, model, spec.make_loss(options), batches,
            accumulate=1, dtype=dtype, device=CPU, clip_norm=clip_norm, norm_momentum=0.01,
        )  # fmt: skip
        yield state


@pytest.mark.parametrize(
    ("name", "dtype", "clip_norm"),
    [
        ("dsod300_vovnet27_slim", torch.float32, None),
        ("pelee304", torch.bfloat16, None),
        ("ssd300_mobilenet", torch.bfloat16, 10.0),
        ("refinedet320_vovnet27_slim", torch.float32, 10.0),
    ],
)
def test_a_step_waits_for_nothing(name: str, dtype: torch.dtype, clip_norm: float | None) -> None:
    run = steps(name, dtype, clip_norm)
    next(run)  # makes the anchors, the momentum and the constants
    with no_synchronisation():
        state = next(run)
    state.look()
    assert state.window.count == 2
    assert state.window.sums["loss"] > 0


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
