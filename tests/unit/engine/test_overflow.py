"""float16 overflows now and then: such a step is skipped. Tried on the CPU, whose float16 has the same limits."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from itertools import repeat

import pytest
import torch
from torch import Tensor, nn

from vovnet.data.loading import Batch
from vovnet.engine.config import OptimizerConfig
from vovnet.engine.training import optimizer as optimizer_module
from vovnet.engine.training.ema import EMA
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import train_step
from vovnet.models.preprocessing import Preprocessing
from vovnet.padded_targets import PaddedTargets, pack
from vovnet.structures import Target
from vovnet.zoo import DetectorSpec

CPU = torch.device("cpu")


class Network(nn.Module):
    """A convolution and a batch norm. `gain` makes its activations overflow."""

    two_stage = False
    preprocessing = Preprocessing((4, 4), mean=(0.0, 0.0, 0.0))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.gain = 1.0

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"x": self.norm(self.conv(images) * self.gain)}


def criterion(outputs: dict[str, Tensor], targets: PaddedTargets) -> dict[str, Tensor]:
    assert targets.boxes.shape == (2, 8, 4)
    return {"box_loss": outputs["x"].float().pow(2).sum(), "class_loss": outputs["x"].float().sum()}


def start(init_scale: float, *, enabled: bool = True) -> TrainState:
    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=init_scale, enabled=enabled)
    return TrainState(model, EMA(model, 0.9), optimizer, scaler)


def step(
    state: TrainState,
    clip_norm: float | None = None,
    dtype: torch.dtype = torch.float16,
    network: nn.Module | None = None,
) -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, pack([Target.make(), Target.make()]), [0, 0], ["a.jpg", "b.jpg"])
    train_step(
        state, network or state.model, criterion, repeat(batch),
        accumulate=2, dtype=dtype, device=CPU, clip_norm=clip_norm,
    )  # fmt: skip


def values(state: TrainState) -> list[Tensor]:
    return [tensor.clone() for tensor in state.model.state_dict().values()]


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_overflows_halves_the_scale_until_it_fits(clip_norm: float | None) -> None:
    state = start(2.0**40)
    weights = state.model.conv.weight.clone()
    skipped = 0
    while torch.equal(weights, state.model.conv.weight):
        assert state.scaler.get_scale() == 2.0 ** (40 - skipped)
        step(state, clip_norm)
        state.look()
        skipped += 1
        assert skipped < 40
    assert skipped > 2
    assert state.step == skipped
    assert state.model.conv.weight.isfinite().all()
    assert state.window.count == 2 * skipped  # the losses themselves were finite all the time


def test_activations_that_overflow_once_leave_no_trace() -> None:
    state = start(2.0**4)
    step(state)
    before = values(state)
    state.model.gain = 1e30
    step(state)
    state.look()
    assert state.window.count == 2
    assert all(value.isfinite().all() for value in values(state))
    floats = [(a, b) for a, b in zip(before, values(state), strict=True) if a.is_floating_point()]
    assert all(torch.equal(a, b) for a, b in floats)
    state.model.gain = 1.0
    step(state)
    state.check_weights()
    assert not torch.equal(before[0], state.model.conv.weight)


def test_overflow_without_end_ends_the_run_with_a_sentence() -> None:
    state = start(2.0**4)
    state.model.gain = 1e30
    sentence = (
        r"float16 overflows in every step, up to step 1\d, .* precision=bf16 .*, or check with `vovnet data check` the "
        r"images of the last loss that was not finite, at step 1\d: a.jpg, b.jpg; the last checkpoint"
    )
    with pytest.raises(FloatingPointError, match=sentence):
        for _ in range(30):
            step(state)
            state.look()
    assert all(value.isfinite().all() for value in values(state))


def test_other_formats_are_stopped_by_the_same_values() -> None:
    state = start(1.0, enabled=False)
    state.model.gain = float("inf")
    step(state, dtype=torch.float32)
    with pytest.raises(FloatingPointError, match=r"the loss became infinite .* at step 0 with a.jpg, b.jpg"):
        state.look()


class Root(nn.Module):
    """√0 has a finite value, and no finite slope."""

    two_stage = False
    preprocessing = Network.preprocessing

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"x": self.weight.sqrt()}


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_noticed_also_without_clipping(clip_norm: float | None) -> None:
    model = Root()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    state = TrainState(model, None, optimizer, torch.amp.GradScaler("cpu", enabled=False))
    step(state, clip_norm, torch.float32)
    with pytest.raises(FloatingPointError, match=r"the gradient became .* at step 0 with a.jpg, b.jpg, a.jpg, b.jpg"):
        state.look()
    with pytest.raises(FloatingPointError, match="the weights became infinite or not a number at step 1"):
        state.check_weights()


def make_sgd(model: nn.Module) -> torch.optim.Optimizer:
    spec = DetectorSpec(partial(Network), nn.Module)
    return optimizer_module.make_optimizer(model, spec, OptimizerConfig(learning_rate=1e-3))


def test_fused_sgd_survives_an_overflow_in_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, tried on the CPU: momentum that was never written must not be read."""
    weights = []
    for fused in (False, True):
        monkeypatch.setattr(optimizer_module, "_has_fused_sgd", lambda _, answer=fused: answer)
        state = start(2.0**24)
        state.optimizer = make_sgd(state.model)
        assert bool(state.optimizer.param_groups[0]["fused"]) == fused
        monkeypatch.setattr(torch, "empty_like", lambda tensor, **options: torch.full_like(tensor, 7.0, **options))
        before = state.model.conv.weight.clone()
        step(state)
        assert torch.equal(before, state.model.conv.weight)
        for _ in range(20):
            step(state)
        monkeypatch.undo()
        assert not torch.equal(before, state.model.conv.weight)
        state.check_weights()
        weights.append(values(state))
    for plain, other in zip(*weights, strict=True):
        torch.testing.assert_close(plain, other)


def test_a_gradient_that_overflows_without_end_accuses_no_image() -> None:
    state = start(2.0**-9)
    state.model.conv.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        FloatingPointError, match=r"float16 overflows in every step, up to step 2, .* unharmed"
    ) as error:
        for _ in range(5):
            step(state)
            state.look()
    assert ".jpg" not in str(error.value)


class Shared(nn.parallel.DistributedDataParallel):
    """A network as several processes share it, in one process."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.shared = module

    def forward(self, images: Tensor) -> Tensor:
        return self.shared(images)

    def no_sync(self) -> nullcontext[None]:
        return nullcontext()


def test_the_gradient_of_all_processes_accuses_no_image_of_this_one() -> None:
    model = Root()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, None, torch.optim.SGD(model.parameters(), lr=1e-3), scaler)
    step(state, dtype=torch.float32, network=Shared(model))
    with pytest.raises(FloatingPointError, match="the gradient of all processes became .* at step 0: lower"):
        state.look()
