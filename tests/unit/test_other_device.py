"""Every detector on a device that is not the CPU: nothing mixes devices or reads memory of the device directly."""

from contextlib import nullcontext

import pytest
import torch
from torch.testing import assert_close

from vovnet.engine.training import step as train_step_module
from vovnet.masks import decode

from ..other_device import OTHER, OtherTensor, other_device
from ..small_training import FAMILIES, build, make_batch, make_state, run, step

CPU = torch.device("cpu")
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def test_mixed_devices_are_noticed():
    with other_device() as waits:
        a = torch.arange(6.0, device=OTHER).view(2, 3)
        assert isinstance(a, OtherTensor)
        for mixed in (
            lambda: a + torch.ones(3),
            lambda: torch.cat([a, torch.ones(1, 3)]),
            lambda: torch.stack([a[0], torch.ones(3)]),
            lambda: a @ torch.ones(3, 2),
            lambda: torch.where(a > 0, a, torch.ones(3)),
            lambda: torch.ones(2, 3)[torch.zeros(1, dtype=torch.long, device=OTHER)],
            lambda: a.gather(1, torch.zeros(2, 1, dtype=torch.long)),
            lambda: torch.nn.functional.linear(a, torch.ones(2, 3)),
        ):
            with pytest.raises(RuntimeError, match="expected all tensors on one device"):
                mixed()
        with pytest.raises(RuntimeError, match="expected a generator of device meta"):
            torch.rand(2, device=OTHER, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="numpy"):
            a.numpy()
        assert not waits
        assert (a + torch.tensor(1.0)).tolist() == [[1, 2, 3], [4, 5, 6]]
        assert a.new_tensor([2]).device == torch.tensor([2], device=a.device).device == OTHER


@pytest.mark.parametrize(
    "waiting",
    [
        lambda a: a.sum().item(),
        lambda a: bool((a > 0).any()),
        lambda a: a[a > 0],
        lambda a: (a > 0).nonzero(),
        lambda a: a.cpu(),
        lambda a: a + a.new_tensor([1.0]),
        lambda a: a[torch.tensor([0])],
        lambda a: torch.ones(2).to(OTHER),
        lambda a: a.tolist(),
    ],
)
def test_what_a_gpu_waits_for_is_noticed(waiting):
    with other_device() as waits:
        a = torch.ones(2, 3, device=OTHER)
        assert (a * 2 + torch.zeros_like(a)).sum(dim=1).argmax().shape == ()
        assert not waits
        waiting(a)
        assert waits


@every_family
def test_it_trains_there_as_on_the_cpu(family, monkeypatch):
    monkeypatch.setattr(train_step_module, "autocast", lambda dtype, device: nullcontext())  # not for torch's "meta"
    batch = make_batch(family)
    expected = make_state(family, CPU)
    step(expected, family, iter([batch]), CPU, clip_norm=10.0)
    with other_device():
        state = make_state(family, OTHER)
        step(state, family, iter([batch]), OTHER, clip_norm=10.0)
        found = {name: value.cpu() for name, value in state.model.state_dict().items()}
        state.look()
    expected.look()
    assert state.window.means() == pytest.approx(expected.window.means(), rel=1e-5)
    assert_close(found, dict(expected.model.state_dict()), rtol=1e-4, atol=1e-5)


@every_family
def test_it_finds_there_what_it_finds_on_the_cpu(family):
    batch, sizes = make_batch(family), [(100, 80), (211, 307)]

    def detect(device):
        model = build(family).eval().to(device)
        with torch.inference_mode():
            outputs = run(model, batch, device)
            return [item.cpu() for item in model.decode(outputs, sizes, input_size=family.size, top_k=50)]

    expected = detect(CPU)
    with other_device():
        found = detect(OTHER)
    assert sum(map(len, expected)) > 0
    for there, here in zip(found, expected, strict=True):
        there_columns, here_columns = [(item.boxes, item.labels, item.scores) for item in (there, here)]
        assert_close(there_columns, here_columns, rtol=1e-5, atol=1e-3)
        assert (there.masks is None) == (here.masks is None)
        if here.masks is not None:
            assert (decode(there.masks) != decode(here.masks)).float().mean() < 1e-3
