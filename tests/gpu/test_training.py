"""Training on the GPU: a scale that is too large, resuming, several processes, no waiting."""

import copy
import shutil
import warnings
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vovnet.engine.config import load_config
from vovnet.engine.distributed import Workers
from vovnet.engine.train import train
from vovnet.engine.training.network import place, wrap
from vovnet.engine.training.state import TrainState
from vovnet.engine.training.step import make_scaler, train_step
from vovnet.models.preprocessing import Preprocessing
from vovnet.weights.file import load_checkpoint

from ..no_synchronisation import no_synchronisation
from ..small_training import FAMILIES, Family, losses_of, make_batch, make_state, step

SMALL = Family("refinedet320_vovnet27_slim", (64, 64), {"width": 16})
ON_GPU = torch.cuda.is_available()


def weights(state):
    return torch.cat([weight.detach().flatten().cpu() for weight in state.model.parameters()])


def test_float16_survives_a_scale_that_overflows(device):
    state = make_state(SMALL, device, dtype=torch.float16)
    state.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    before = weights(state)
    scales = []
    for _ in range(2):
        step(state, SMALL, iter([make_batch(SMALL)]), device, dtype=torch.float16)
        scales.append(state.scaler.get_scale())
    assert scales == [2.0**39, 2.0**38]
    assert torch.equal(weights(state), before)
    state.scaler = make_scaler(torch.float16, device)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 16.0})
    step(state, SMALL, iter([make_batch(SMALL)]), device, dtype=torch.float16)
    assert state.scaler.get_scale() == 16
    assert weights(state).isfinite().all()
    assert not torch.equal(weights(state), before)


def test_float16_survives_activations_that_overflow(device):
    state = make_state(SMALL, device, dtype=torch.float16)
    state.window.may_overflow = True
    (first, *_) = state.model.parameters()
    with torch.no_grad():
        first.mul_(1e6)
    before, scale = weights(state), state.scaler.get_scale()
    step(state, SMALL, iter([make_batch(SMALL)]), device, dtype=torch.float16)
    assert losses_of(state) == {}
    assert state.scaler.get_scale() == scale / 2
    assert torch.equal(weights(state), before)
    assert all(buffer.isfinite().all() for buffer in state.model.buffers())


@contextmanager
def never_waiting(device):
    """Raises where the program waits for the GPU, or would wait for one."""
    if device.type == "cpu":
        with no_synchronisation():
            yield
        return
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")  # once a process
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pinned(batch, device):
    if device.type == "cpu":
        return batch
    return batch._replace(images=batch.images.pin_memory(), packed_objects=batch.packed_objects.pin_memory())


def test_waiting_is_noticed(device):
    with never_waiting(device), pytest.raises((RuntimeError, AssertionError), match="synchroniz|waits|reads"):
        torch.ones(3, device=device).sum().item()


@pytest.mark.parametrize(
    "family", FAMILIES[:4] if torch.cuda.is_available() else [SMALL], ids=lambda family: family.name
)
def test_a_step_waits_for_nothing(family, device):
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    state = make_state(family, device, ema_decay=0.9)
    batches = [pinned(make_batch(family, seed=seed), device) for seed in range(3)]
    step(state, family, iter(batches[:1]), device, dtype=dtype, clip_norm=10.0)  # makes anchors, momentum, constants
    with never_waiting(device):
        for batch in batches[1:]:
            step(state, family, iter([batch]), device, dtype=dtype, clip_norm=10.0)
    assert losses_of(state)["loss"] > 0
    assert state.window.count == 3


class Tiny(nn.Module):
    """So small that it is compiled in seconds; with what training asks of a detector."""

    two_stage, preprocessing = False, Preprocessing((64, 64))

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, images):
        return {"output": self.head(self.norm(self.conv(images)).relu())}


@pytest.mark.parametrize("value", ["true", "graphs"])
def test_a_compiled_network(value, compiler, tmp_path):
    """With two passes a step, or one of graphs, which are recorded in the second step and replayed from then on."""
    check_compiled(value, compiler, tmp_path)


def check_compiled(value, device, folder):
    path = folder / "run.yaml"
    passes = 1 if value == "graphs" else 2
    path.write_text(
        f"{{model: {SMALL.name}, data: {{root: x}}, schedule: {{iterations: 5}}, batch_size: {2 * passes}, "
        f"micro_batch_size: 2, norm_momentum: 0.1, compile: {value}}}"
    )
    config, alone, states = load_config(path), Workers(0, 1, device), []
    torch.manual_seed(0)
    first = Tiny()
    for compiled in (False, True):
        model = place(copy.deepcopy(first), config, alone)
        network = wrap(model, config, alone) if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        state = TrainState(model, None, optimizer, make_scaler(torch.float32, device))
        for seed in range(5):
            batches = iter([make_batch(SMALL, seed=seed), make_batch(SMALL, seed=seed + 10)])
            train_step(
                state, network, lambda outputs, _: {"square": outputs["output"].square().mean()}, batches,
                accumulate=passes, dtype=torch.float32, device=device, clip_norm=10.0, norm_momentum=0.1,
                graphs=value == "graphs",
            )  # fmt: skip
        states.append(state)
    eager, compiled = states
    assert losses_of(compiled) == pytest.approx(losses_of(eager), rel=1e-4)
    for (name, tensor), other in zip(
        eager.model.state_dict().items(), compiled.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(other, tensor, rtol=1e-3, atol=1e-4, msg=name)
    assert not torch.allclose(eager.model.head.weight.cpu(), first.head.weight, atol=1e-3)


def test_a_resumed_run_is_the_whole_run(small_voc, tmp_path, device):
    """Bit for bit on a CPU. On a GPU sums over atomics have no order: there losses agree within a hundredth."""
    path = tmp_path / "run.yaml"
    path.write_text(
        f"{{model: ssd300_mobilenet, data: {{root: {small_voc}, val: null}}, schedule: {{iterations: 4}}, "
        "batch_size: 2, micro_batch_size: 2, workers: 0, threads: 1, log_every: 1, checkpoint_every: 2, "
        f"ema_decay: 0.9, precision: fp32, tensorboard: false, device: {device.type}, output: {tmp_path / 'run'}}}"
    )
    in_one, in_two = [], []
    train(load_config(path), hooks=[in_one.append])
    whole = load_checkpoint(tmp_path / "run" / "last.pt")
    shutil.rmtree(tmp_path / "run")
    train(load_config(path, ["schedule.iterations=2"]))
    train(load_config(path, ["resume=true"]), hooks=[in_two.append])
    resumed = load_checkpoint(tmp_path / "run" / "last.pt")
    assert [record["step"] for record in in_two] == [3, 4]
    tolerance = 0 if device.type == "cpu" else 1e-2
    for record, expected in zip(in_two, in_one[2:], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    for name, tensor in whole["model"].items():
        if device.type == "cpu" or "running" not in name:  # averages of few values amplify the last digits
            torch.testing.assert_close(resumed["model"][name].cpu(), tensor.cpu(), rtol=tolerance, atol=tolerance)


@pytest.fixture
def one_process(tmp_path, device):
    """A process group with this process only: nccl on a GPU, gloo on a CPU."""
    where = {"device_id": torch.device("cuda", 0)} if device.type == "cuda" else {}
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1, **where)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "family", [SMALL, FAMILIES[5]] if torch.cuda.is_available() else [SMALL], ids=lambda family: family.name
)
def test_the_network_of_several_processes(family, device, one_process, same_samples):
    """DistributedDataParallel, with two micro-batches, of which the first exchanges no gradients."""
    bare, wrapped = make_state(family, device), make_state(family, device)
    batches = [make_batch(family, seed=seed) for seed in (0, 1)]
    step(bare, family, iter(batches), device, accumulate=2)
    step(wrapped, family, iter(batches), device, accumulate=2, network=DistributedDataParallel(wrapped.model))
    assert losses_of(wrapped) == pytest.approx(losses_of(bare), rel=1e-4)
    torch.testing.assert_close(weights(wrapped), weights(bare), rtol=1e-3, atol=1e-4)


def test_synchronised_batch_norm(cuda, one_process):
    bare, synchronised = make_state(SMALL, cuda), make_state(SMALL, cuda)
    synchronised.model = nn.SyncBatchNorm.convert_sync_batchnorm(synchronised.model)
    network = DistributedDataParallel(synchronised.model)
    step(bare, SMALL, iter([make_batch(SMALL)]), cuda)
    step(synchronised, SMALL, iter([make_batch(SMALL)]), cuda, network=network)
    assert losses_of(synchronised) == pytest.approx(losses_of(bare), rel=1e-3)
