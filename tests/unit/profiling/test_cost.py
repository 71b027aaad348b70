from __future__ import annotations

import torch
from torch import nn

from vovnet.profiling.cost import count_multiply_adds, count_parameters


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
