"""Connection strengths by hand."""

import numpy as np
import pytest
import torch

from vovnet.paper.aggregation.connections import connection_strengths, normalized, strengths
from vovnet.paper.aggregation.networks import AggregationNet


def test_mean_magnitude_of_the_weights_of_each_source():
    weight = torch.zeros(2, 5, 3, 3)
    weight[:, 0] = -1
    weight[0, 1] = 4  # a quarter of the weights of two channels and two outputs
    weight[:, 3:] = torch.tensor([1.0, -3.0]).view(1, 2, 1, 1)
    assert connection_strengths(weight, [1, 2, 2]).tolist() == [1, 1, 2]


def test_a_classifier():
    assert connection_strengths(torch.tensor([[1.0, -2, 3], [1, 2, 3]]), (1, 2)).tolist() == [1, 2.5]


def test_sources_that_do_not_add_up():
    with pytest.raises(RuntimeError, match="to sum exactly to 5"):
        connection_strengths(torch.zeros(2, 5, 3, 3), [2, 2])


def test_every_column_has_a_one():
    np.testing.assert_equal(normalized([[2.0, 4.0, None], [None, 5.0, None]]), [[0.5, 1, np.nan], [np.nan, 1, np.nan]])


def test_strengths_are_listed_at_their_sources():
    model = AggregationNet(2, 4, dense=False, last_transition=True)
    with torch.no_grad():
        model.transitions[0].conv.weight[:] = torch.cat([torch.full((16,), 1.0), torch.full((4,), -2.0), torch.full((4,), 3.0)]).view(1, 24, 1, 1)  # fmt: skip # noqa: E501
    recorded = strengths(model)
    assert recorded["targets"][0] == ["1", "2", "transition 1"]
    assert [[value is None for value in column] for column in recorded["strengths"][0]] == [
        [False, True, True], [True, False, True], [False, False, False]
    ]  # fmt: skip
    assert recorded["strengths"][0][-1] == [1, 2, 3]
