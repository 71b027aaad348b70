from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from vovnet import create_backbone, create_model
from vovnet.profiling.cost import count_cost, count_multiply_adds, count_parameters

from .counted import Call, total


class Branches(nn.Module):
    """A shared layer, a concatenation, an output in a list, and outputs in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.tail = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.unused = nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        small = F.max_pool2d(x, 2)
        joined = torch.cat([self.shared(x), x], 1)
        return {"maps": [self.tail(joined)], "small": self.shared(small)}


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y[y > y.median().item()]


# Parameters and multiply-adds.


def test_a_convolution_with_stride() -> None:
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert count_parameters(conv) == 8 * 3 * 9 + 8
    assert count_multiply_adds(conv, (10, 13)) == 5 * 7 * 8 * 3 * 9  # 10 × 13 → 5 × 7; adding the bias is free


def test_groups_divide_the_work() -> None:
    grouped = nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False)
    assert count_parameters(grouped) == 16 * 2 * 9
    assert count_multiply_adds(grouped, (6, 5), channels=8) == 6 * 5 * 16 * 2 * 9
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    assert count_multiply_adds(depthwise, (6, 5), channels=8) == 6 * 5 * 8 * 9


def test_a_linear_layer() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 2, 7))
    assert count_parameters(linear) == 24 * 7 + 7
    assert count_multiply_adds(linear, (4, 2)) == 24 * 7


def test_norms_activations_and_pooling_cost_no_multiply_adds() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=False)
    whole = nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    assert count_multiply_adds(whole, (8, 8)) == count_multiply_adds(conv, (8, 8)) == 8 * 8 * 4 * 3
    assert count_parameters(whole) == 4 * 3 + 2 * 4  # scale and shift, not the running mean and variance


def test_a_layer_used_twice_works_twice_and_counts_once() -> None:
    conv = nn.Conv2d(3, 3, 1, bias=False)
    twice = nn.Sequential(conv, conv)
    assert count_parameters(twice) == 9
    assert count_multiply_adds(twice, (4, 4)) == 2 * 16 * 9


def test_the_module_stays_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_multiply_adds(module, (4, 4))
    assert module.training
    for name, tensor in module.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])


# Rows.


def test_rows_name_the_layer_that_does_the_work() -> None:
    cost = count_cost(Branches(), (1, 4, 6, 6))
    rows = [(row.path, row.kind, row.input_shapes, row.parameters) for row in cost.layers]
    x, joined, small = (1, 4, 6, 6), (1, 8, 6, 6), (1, 4, 3, 3)
    assert rows == [
        ("", "Branches", (x,), 0),
        ("shared", "Conv2d", (x,), 16),
        ("tail.0", "BatchNorm2d", (joined,), 16),
        ("tail.1", "ReLU", (joined,), 0),
        ("shared", "Conv2d", (small,), 0),  # its parameters were counted at the first call
        ("unused", "Linear", (), 12),
    ]
    own = cost.layers[0]  # the pool and the concatenation
    assert own.other_elements == (144 + 36) + 2 * 288
    assert own.output_shapes == (joined, small)
    assert cost.total.parameters == count_parameters(Branches())
    assert cost.total.multiply_adds == (36 + 9) * 16
    assert sum(row.multiply_adds for row in cost.layers) == cost.total.multiply_adds


def test_a_concatenation_inside_one_shot_aggregation_is_not_free() -> None:
    cost = count_cost(create_backbone("vovnet27_slim", features_only=True), (1, 3, 64, 64))
    rows = {row.path: row for row in cost.layers}
    modules = [row for row in cost.layers if row.kind == "OSAModule"]
    assert len(modules) == 4
    # Stage 2: the input of 128 channels and five layers of 64, at a quarter of the size, read once and written once.
    assert modules[0].other_elements == 2 * (128 + 5 * 64) * 16 * 16
    assert all(row.multiply_adds == 0 for row in modules)
    assert rows[modules[0].path].output_shapes[0][1] == 128


def test_tied_parameters_count_once() -> None:
    module = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    module[1].weight = module[0].weight
    cost = total(module, (1, 6))
    assert cost.parameters == 36
    assert cost.multiply_adds == 72


def test_json() -> None:
    values = json.loads(json.dumps(count_cost(Branches(), (1, 4, 6, 6)).to_dict()))
    assert values["kind"] == "Branches"
    assert values["input_shapes"] == [[1, 4, 6, 6]]
    assert values["layers"][1]["path"] == "shared"
    assert values["layers"][1]["flops"] == 2 * 36 * 16
    assert values["total"]["memory_access_ratio"] == pytest.approx(1)  # a 1×1 convolution from 4 channels to 4


# Inputs, and models whose shapes depend on values.


def test_inputs_may_be_tensors_and_lists_of_them() -> None:
    module = Call(lambda images, other: torch.stack(images) + other)
    images = [torch.zeros(3, 4), torch.zeros(3, 4)]
    assert total(module, images, (2, 3, 4)).other_elements == (24 + 24) + 3 * 24


def test_the_type_of_the_input_is_that_of_the_weights() -> None:
    assert total(nn.Linear(3, 4).half(), (1, 3)).multiply_adds == 12


def test_a_model_whose_shapes_depend_on_values_is_run_with_a_note() -> None:
    module = DataDependent().train()
    cost = count_cost(module, (1, 3, 8, 8))
    assert cost.total.multiply_adds == 36 * 9 * 12
    assert cost.note is not None
    assert cost.note.startswith("counted in a real run on the CPU, since its shapes depend on values (")
    assert module.training
    assert cost == count_cost(module, (1, 3, 8, 8))


class ChoosesByType(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return {Tensor: super().forward}[type(x)](x)


class AssertsValues(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        assert type(x) is Tensor
        return super().forward(x)


class AsksForAddress(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.data_ptr() else -x)


@pytest.mark.parametrize("kind", [ChoosesByType, AssertsValues, AsksForAddress])
def test_a_model_that_fails_on_shapes_alone_is_run(kind: type[nn.Conv2d]) -> None:
    cost = count_cost(kind(3, 8, 3), (1, 3, 10, 10))
    assert cost.total.multiply_adds == 64 * 8 * 27
    assert cost.note is not None
    assert "real run" in cost.note


def test_errors() -> None:
    with pytest.raises(ValueError, match="such as \"float32\", got 'float23'"):
        count_cost(nn.Identity(), (1, 2), dtype="float23")
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4 channels"):
        count_cost(nn.Conv2d(3, 4, 1), (1, 4, 8, 8))
    with pytest.raises(ValueError, match="must have values to be counted"):
        count_cost(DataDependent().to("meta"), (1, 3, 8, 8))


def test_nothing_is_allocated_and_nothing_is_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert total(module, (1, 3, 100_000, 100_000)).multiply_adds == 10**10 * 27 * 64  # 2.6 TB of activations
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_three_hundred_layers_take_less_than_three_seconds() -> None:
    layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(300)]
    module = nn.Sequential(*layers)
    started = time.process_time()
    cost = total(module, (1, 16, 512, 512))
    assert time.process_time() - started < 3
    assert cost.multiply_adds == 300 * 512 * 512 * 9 * 256


# Published counts, and PyTorch's own counter.


def test_backbones_of_table_1() -> None:
    for name, parameters, multiply_adds in [
        ("vovnet27_slim", 3_525_736, 2_870_328_320),
        ("vovnet39", 22_600_296, 7_765_860_352),
        ("vovnet57", 36_640_296, 9_623_777_280),
    ]:
        cost = total(create_backbone(name), (1, 3, 224, 224))
        assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("build", "size"),
    [
        pytest.param(lambda: create_model("dsod300_vovnet27_slim", 20), 300, id="dsod300"),
        pytest.param(models.densenet121, 224, id="densenet"),
        pytest.param(models.shufflenet_v2_x0_5, 224, id="shufflenet"),
        pytest.param(models.swin_t, 224, id="swin"),
        pytest.param(models.vit_b_32, 224, id="vit"),
        pytest.param(lambda: models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None), 224, id="lraspp"),
    ],
)
def test_multiply_adds_agree_with_torch(build: Callable[[], nn.Module], size: int) -> None:
    module = build().eval()
    torch.backends.mha.set_fastpath_enabled(False)  # torch's counter does not see inside the fused layer
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(torch.rand(1, 3, size, size))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    cost = total(module, (1, 3, size, size))
    assert cost.flops == counter.get_total_flops() > 0
    assert cost.parameters == count_parameters(module)
    assert cost.memory_access_cost > cost.memory_access_bound > 0


def test_published_multiply_adds_of_torchvision() -> None:
    with torch.device("meta"):
        resnet = models.resnet50()
    assert round(total(resnet, (1, 3, 224, 224)).multiply_adds / 1e9, 4) == 4.0892
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ssd = models.detection.ssd300_vgg16(weights=None, weights_backbone=None)
    cost = count_cost(ssd, (1, 3, 300, 300))
    assert round(cost.total.multiply_adds / 1e9, 3) == 34.858
    assert cost.note is not None
    assert set(cost.uncounted) <= {"torchvision::nms"}
    assert cost.total.parameters == count_parameters(ssd)
