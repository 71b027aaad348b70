"""Losses that nobody looked at yet lose nothing, and the first bad ones are named."""

from __future__ import annotations

import pytest
import torch

from vovnet.engine.training import loss_window
from vovnet.engine.training.log import mean_losses
from vovnet.engine.training.loss_window import LossWindow

NAN = float("nan")


def add(window: LossWindow, values: list[float], *, step: int = 0) -> None:
    for index, value in enumerate(values):
        losses = {"loss": torch.tensor(value), "box_loss": torch.tensor(value / 2)}
        window.add_losses(losses, step, [f"step{step}_{index}.jpg"])


@pytest.mark.parametrize("together", [True, False])
def test_sums_are_those_of_python_however_often_one_looks(together: bool) -> None:
    window, expected = LossWindow(), 0.0
    for value in torch.rand(50).tolist():
        add(window, [value])
        expected += value
        if not together:
            window.look()
    window.look()
    assert window.state_dict() == {"count": 50, "sums": {"loss": expected, "box_loss": pytest.approx(expected / 2)}}
    assert window.means()["loss"] == expected / 50


def test_the_first_bad_micro_batch_is_named() -> None:
    window = LossWindow()
    add(window, [1.0, 2.0], step=3)
    window.add_gradient_norm(torch.tensor(1.0), 3, ["all of step 3"])
    add(window, [3.0, NAN, 4.0], step=4)
    window.add_gradient_norm(torch.tensor(NAN), 4, ["all of step 4"])
    with pytest.raises(FloatingPointError, match=r"the loss became .* at step 4 with step4_1.jpg: check these images"):
        window.look()


def test_a_gradient_names_all_images_of_its_step() -> None:
    window = LossWindow()
    add(window, [1.0], step=7)
    window.add_gradient_norm(torch.tensor(float("inf")), 7, ["a.jpg", "b.jpg"])
    add(window, [NAN], step=8)
    with pytest.raises(FloatingPointError, match=r"the gradient became .* at step 7 with a.jpg, b.jpg: check"):
        window.look()


def test_a_gradient_of_all_processes_accuses_no_image_of_this_one() -> None:
    window = LossWindow()
    window.add_gradient_norm(torch.tensor(NAN), 7, ["innocent.jpg"], shared=True)
    with pytest.raises(FloatingPointError, match=r"the gradient of all processes became .* at step 7: lower") as error:
        window.look()
    assert "innocent" not in str(error.value)


def test_a_device_is_not_waited_for_until_many_losses_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LossWindow, "_is_free", lambda self: False)
    monkeypatch.setattr(loss_window, "_MOST_UNSEEN", 5)
    window = LossWindow()
    for count in range(1, 5):
        add(window, [1.0])
        window.look(wait=False)
        assert (window.count, len(window.unseen)) == (0, count)
    add(window, [1.0])
    window.look(wait=False)
    assert (window.count, len(window.unseen)) == (5, 0)


def test_values_in_main_memory_are_looked_at_at_once() -> None:
    window = LossWindow()
    add(window, [NAN])
    with pytest.raises(FloatingPointError):
        window.look(wait=False)


def test_what_overflows_in_float16_is_left_out() -> None:
    window = LossWindow(may_overflow=True)
    add(window, [NAN, float("inf")])
    window.look()
    assert window.means() == {}
    assert window.left_out == (0, ["step0_1.jpg"])
    assert mean_losses([window.means(), {"loss": 2.0}]) == {"loss": 2.0}
    assert mean_losses([window.means()]) == {}
    add(window, [3.0, NAN])
    window.look()
    assert window.means() == {"loss": 3.0, "box_loss": 1.5}
    window.clear()
    assert window.state_dict() == {"count": 0, "sums": {}}
