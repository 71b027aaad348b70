"""Copies of models that `copy.deepcopy` refuses, and what counting and measuring make of such models."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from vovnet.profiling import measure as measuring
from vovnet.profiling.cost import count_cost
from vovnet.profiling.live_tensors import follow_tensors
from vovnet.profiling.measure import measure, measure_models
from vovnet.profiling.model_copy import copy_model
from vovnet.profiling.peak import DevicePeak

SHAPE = (1, 3, 20, 20)
CONVOLUTION = 18 * 18 * 8 * 27


def convolution() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())


def after_a_pass(model: nn.Module) -> nn.Module:
    model(torch.rand(SHAPE))
    return model


def weight_norm() -> nn.Module:
    model = convolution()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model[0])
    return model


def parametrised_weight_norm() -> nn.Module:
    model = convolution()
    parametrizations.weight_norm(model[0])
    return after_a_pass(model)


def pruned_twice() -> nn.Module:
    model = convolution()
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_structured(model[0], "weight", 2, dim=0)
    return after_a_pass(model)


class Keeps(nn.Module):
    """Keeps feature maps where only itself knows: in a list, a dictionary and an object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.kept: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append({"conv": self.conv(x)})
        return self.kept[-1]["conv"].relu()


def with_attribute(value: object) -> nn.Module:
    model = convolution()
    model.value, model[0].values = value, {"values": [value]}
    return model


class RefusesToBeCopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        raise NotImplementedError("one of a kind")

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("one of a kind")


def numbers() -> Iterator[int]:
    yield from range(10)


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())


def built_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return convolution()


def exported_program() -> nn.Module:
    return torch.export.export(convolution().eval(), (torch.rand(SHAPE),)).module()


def knows_its_owner() -> nn.Module:
    model = with_attribute(threading.Lock())
    model[0].owners = [model]
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "weight norm": weight_norm,
    "weight norm after a pass": lambda: after_a_pass(weight_norm()),
    "parametrised": parametrised_weight_norm,
    "pruned": pruned_twice,
    "keeps feature maps": lambda: after_a_pass(Keeps()),
    "lock": lambda: with_attribute(threading.Lock()),
    "Python generator": lambda: with_attribute(numbers()),
    "random generator": lambda: with_attribute(torch.Generator()),
    "open file": lambda: with_attribute(sys.__stderr__),
    "lambda": lambda: with_attribute(lambda x: x),
    "Python module": lambda: with_attribute(torch),
    "own way of copying": lambda: nn.Sequential(RefusesToBeCopied(), nn.ReLU()),
    "lazy": lazy,
    "refers to its owner": knows_its_owner,
    "built in inference mode": built_in_inference_mode,
}


@pytest.fixture(autouse=True)
def peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "measure_peak", lambda device, precision: DevicePeak("float32", 100.0, 10.0))


def state_of(model: nn.Module) -> dict[str, Any]:
    """What a user could notice: tensors, their kind and place, modes, hooks, and the identity of all attributes."""
    state: dict[str, Any] = {}
    for path, part in model.named_modules():
        state[path] = part.training, len(part._forward_hooks), len(part._forward_pre_hooks)
        attributes = vars(part) | part._parameters | part._buffers | part._modules
        state |= {f"{path}.{name}": id(value) for name, value in attributes.items() if not name.startswith("_")}
        tensors = {name: value for name, value in attributes.items() if isinstance(value, Tensor)}
        for name, tensor in tensors.items():
            lazy_one = nn.parameter.is_lazy(tensor)
            values = None if lazy_one else tensor.detach().clone().tolist()
            state[f"{path}.{name} values"] = values, tensor.dtype, tensor.device, tensor.requires_grad, tensor.is_leaf
    return state


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_any_model_is_counted_and_measured_and_stays_as_it_is(build: Callable[[], nn.Module]) -> None:
    model = build()
    before = state_of(model)
    assert count_cost(model, SHAPE).total.multiply_adds == CONVOLUTION
    measured = measure(model, 20, repetitions=1, memory=False, precision="bfloat16")
    assert measured.cost.total.multiply_adds == CONVOLUTION
    assert measured.cost.uncounted == {}
    assert state_of(model) == before


@pytest.mark.parametrize("name", ["weight norm", "pruned", "keeps feature maps", "lock", "refers to its owner"])
def test_live_tensors_are_followed_in_a_copy(name: str) -> None:
    model = MODELS[name]()
    before = state_of(model)
    live_bytes, _ = follow_tensors(model, torch.rand(SHAPE))
    assert live_bytes >= 4 * (3 * 400 + 8 * 324)  # the input and the output of the convolution
    assert state_of(model) == before


@pytest.mark.parametrize(
    "build", [built_in_inference_mode, exported_program, lambda: nn.Sequential(exported_program())]
)
def test_models_that_cannot_be_moved_or_put_in_eval_mode_are_measured_by_name(build: Callable[[], nn.Module]) -> None:
    assert count_cost(build(), SHAPE).total.multiply_adds == CONVOLUTION
    (measured,) = measure_models({"net": build()}, {"net": SHAPE}, device=torch.device("cpu"), repetitions=1)
    assert measured.cost.total.multiply_adds == CONVOLUTION
    assert measured.memory is not None
    assert measured.memory.live_mib is not None


def test_memory_of_a_pruned_model() -> None:
    memory = measure(pruned_twice(), 20, repetitions=1).memory
    assert memory is not None
    assert memory.peak_mib is not None


@pytest.mark.parametrize(("name", "parameters"), [("weight norm", 232), ("parametrised", 232), ("pruned", 224)])
def test_parameters_are_those_that_are_trained(name: str, parameters: int) -> None:
    assert count_cost(MODELS[name](), SHAPE).total.parameters == parameters


def test_a_copy_computes_the_same_and_shares_no_tensor() -> None:
    for build in (weight_norm, pruned_twice, parametrised_weight_norm, knows_its_owner):
        model = build().eval()
        duplicate = copy_model(model)
        x = torch.rand(SHAPE)
        torch.testing.assert_close(duplicate(x), model(x))
        own = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        assert not own & {tensor.data_ptr() for tensor in (*duplicate.parameters(), *duplicate.buffers())}


def test_only_what_cannot_be_copied_is_shared() -> None:
    lock, held = threading.Lock(), torch.ones(3)
    model = with_attribute({"lock": lock, "held": held, "names": ["a"]})
    duplicate = copy_model(model)
    assert duplicate.value["lock"] is lock
    assert duplicate.value["held"] is not held
    duplicate.value["names"].append("b")
    assert model.value["names"] == ["a"]
    assert duplicate[0].values["values"][0] is duplicate.value


def test_looking_for_what_cannot_be_copied_changes_nothing() -> None:
    class Restored:
        """Takes its state apart when it is restored."""

        def __init__(self) -> None:
            self.value = 1

        def __setstate__(self, state: dict[str, Any]) -> None:
            self.value = state.pop("value")
            state.clear()

    restored = Restored()
    model = with_attribute((restored, threading.Lock()))
    assert copy_model(model).value[0].value == 1
    assert vars(restored) == {"value": 1}


def test_a_module_with_its_own_way_of_copying_is_copied_by_its_attributes() -> None:
    model = nn.Sequential(RefusesToBeCopied())
    duplicate = copy_model(model)
    assert type(duplicate[0]) is RefusesToBeCopied
    assert duplicate[0].conv is not model[0].conv
    assert torch.equal(duplicate[0].conv.weight, model[0].conv.weight)


def test_values_that_a_pass_needs_are_changed_in_the_copy_only() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lock = nn.Conv2d(3, 8, 3), threading.Lock()
            self.register_buffer("calls", torch.zeros(()))
            self.seen: list[float] = []

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.seen.append(x.mean().item())
            return self.conv(x)

    model = Counts()
    cost = count_cost(model, SHAPE)
    assert cost.note is not None
    assert cost.total.multiply_adds == CONVOLUTION
    assert model.calls == 0
    assert model.seen == []


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
@pytest.mark.usefixtures("process_group")
def test_a_model_that_was_wrapped_for_several_processes_is_the_model_inside() -> None:
    inside = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    wrapped = nn.parallel.DistributedDataParallel(inside)
    for _ in range(2):  # with its process group and without
        assert count_cost(wrapped, SHAPE) == count_cost(inside, SHAPE)
        measured = measure(wrapped, 20, repetitions=1, memory=False)
        assert (measured.name, measured.cost.total.multiply_adds) == ("Sequential", CONVOLUTION)
        (one,) = measure_models(
            {"net": wrapped}, {"net": SHAPE}, device=torch.device("cpu"), repetitions=1, memory=False
        )
        assert one.cost.total.multiply_adds == CONVOLUTION
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
