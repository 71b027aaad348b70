"""The exponential moving average of the weights."""

import pytest
import torch

from vovnet.engine.ema import make_ema


def test_the_ema_follows_weights_and_statistics():
    model = torch.nn.BatchNorm1d(1)
    ema = make_ema(model, 0.5)
    for value in (1.0, 2.0, 4.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        model.num_batches_tracked += 1
        ema.update_parameters(model)
    # The first update copies; the next two keep 2/11 and 3/12 of the average.
    second = 1 * 2 / 11 + 2 * 9 / 11
    third = second * 3 / 12 + 4 * 9 / 12
    assert ema.module.weight.item() == pytest.approx(third)
    assert ema.module.running_mean.item() == pytest.approx(third)
    assert ema.module.num_batches_tracked.item() == 3
