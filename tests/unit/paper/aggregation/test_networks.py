"""DenseNet-40 and its one-shot counterparts: widths, counts and connections."""

import pytest
import torch
from torch import nn

from vovnet.paper.aggregation.networks import CIFAR_NETWORKS, AggregationNet, Block
from vovnet.profiling.cost import count_cost, count_parameters


@pytest.mark.parametrize(
    ("name", "multiply_adds", "memory_access_cost"),
    # The last column is Eq. (1) over all convolutions and the classifier.
    [
        ("densenet40", 264_812_928, 3_684_442),
        ("osa_5_43", 263_710_866, 2_594_490),
        ("osa_12_20", 238_889_152, 2_742_634),
    ],
)
def test_counts(name, multiply_adds, memory_access_cost):
    cost = count_cost(CIFAR_NETWORKS[name](), (1, 3, 32, 32)).total
    assert (cost.multiply_adds, cost.memory_access_cost) == (multiply_adds, memory_access_cost)


def test_parameters():
    parameters = {name: count_parameters(build()) for name, build in CIFAR_NETWORKS.items()}
    assert parameters == {"densenet40": 1_019_722, "osa_12_20": 1_125_394, "osa_5_43": 1_170_549, "resnet56": 855_770}


def test_widths_grow_as_the_concatenations_do():
    def widths(name):
        return [
            conv.weight.shape[1] for conv in CIFAR_NETWORKS[name]().transitions.modules() if isinstance(conv, nn.Conv2d)
        ]

    assert widths("densenet40") == [160, 304]
    assert widths("osa_12_20") == [256, 496, 736]
    assert widths("osa_5_43") == [231, 446, 661]


@pytest.mark.parametrize("name", CIFAR_NETWORKS)
def test_logits_and_gradients(name):
    torch.manual_seed(0)
    model = CIFAR_NETWORKS[name]()
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_dense_block_concatenates_its_input_and_every_layer_in_order():
    torch.manual_seed(0)
    block, x = Block(4, 3, 2, dense=True).eval(), torch.randn(1, 4, 5, 5)
    expected = [x]
    for layer in block.layers:
        expected.append(layer(torch.cat(expected, dim=1)))
    torch.testing.assert_close(block(x), torch.cat(expected, dim=1))


def test_a_layer_of_a_one_shot_block_reads_only_the_previous_layer():
    torch.manual_seed(0)
    block, x = Block(4, 3, 2, dense=False).eval(), torch.randn(1, 4, 5, 5)
    first = block.layers[0](x)
    second = block.layers[1](first)
    torch.testing.assert_close(block(x), torch.cat([x, first, second, block.layers[2](second)], dim=1))


def test_connections_of_densenet():
    """Each block has twelve layers and a transition; the last block is read by the classifier."""
    model = CIFAR_NETWORKS["densenet40"]()
    assert isinstance(model, AggregationNet)
    blocks = model.connections()
    assert [block[-1].name for block in blocks] == ["transition 1", "transition 2", "classifier"]
    assert [connection.sources for connection in blocks[0][:3]] == [(16,), (16, 12), (16, 12, 12)]
    assert blocks[2][-1].weight is model.head.weight
    for block in blocks:
        assert len(block) == 13
        assert all(connection.weight.shape[1] == sum(connection.sources) for connection in block)
        assert all(connection.first == 0 for connection in block)


def test_connections_of_one_shot_aggregation():
    """Five layers with one source each, then a transition with all six, also in the last block."""
    for number, block in enumerate(CIFAR_NETWORKS["osa_5_43"]().connections(), start=1):
        assert [connection.first for connection in block] == [0, 1, 2, 3, 4, 0]
        assert [len(connection.sources) for connection in block] == [1, 1, 1, 1, 1, 6]
        assert block[-1].name == f"transition {number}"
        assert all(connection.weight.shape[1] == sum(connection.sources) for connection in block)
