"""Steps, batches, learning rates and evaluation periods of a run."""

from types import SimpleNamespace

import pytest

from vovnet.engine.config import load_config
from vovnet.engine.training import run_length
from vovnet.engine.training.run_length import RunLength
from vovnet.engine.training.schedule import epochs_done, evaluation_is_due, learning_rate, micro_batches, total_steps
from vovnet.errors import UsageError


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        """
model: dsod300_vovnet27_slim
data: {root: somewhere}
schedule: {iterations: 5, warmup_iterations: 2, kind: cosine}
batch_size: 2
micro_batch_size: 1
"""
    )
    return path


def test_learning_rate_schedules(config_file):
    step = load_config(config_file, ["schedule.kind=step", "schedule.milestones=[4,8]", "schedule.warmup_iterations=2"])
    rates = [learning_rate(s, 10, 0.1, step.schedule) for s in (0, 1, 2, 3, 4, 7, 8)]
    assert rates == pytest.approx([0.001, 0.0505, 0.1, 0.1, 0.01, 0.01, 0.001])
    cosine = load_config(config_file, ["schedule.warmup_iterations=0"]).schedule
    assert [learning_rate(s, 10, 0.1, cosine) for s in (0, 5, 10)] == pytest.approx([0.1, 0.05, 0.0])
    epochs = load_config(config_file, ["schedule.iterations=null", "schedule.epochs=3"])
    assert total_steps(epochs, 5) == 8


def test_evaluation_at_the_end_of_every_period(config_file):
    """5 images, 2 per step: epochs end within steps 3, 5, 8 and 10."""
    every_epoch, every_other = (load_config(config_file, [f"evaluate_every={epochs}"]) for epochs in (1, 2))
    assert [step for step in range(1, 11) if evaluation_is_due(step, every_epoch, 5)] == [3, 5, 8, 10]
    assert [step for step in range(1, 11) if evaluation_is_due(step, every_other, 5)] == [5, 10]
    assert epochs_done(3, every_epoch, 5) == 1.2


def test_micro_batches_fit_the_processes():
    config = load_config("configs/bccd_dsod300_vovnet27_slim.yaml")
    assert [micro_batches(config, world) for world in (1, 2, 4, 8)] == [(8, 1), (4, 1), (2, 1), (1, 1)]
    with pytest.raises(ValueError, match="must be a multiple of the 3 processes"):
        micro_batches(config, 3)
    published = load_config("configs/voc_dsod300_vovnet27_slim.yaml")
    assert micro_batches(published, 8) == (4, 4)


class TestMinutes:
    """A run that ends after some minutes: its clock and its learning rates follow the time, not the steps."""

    @staticmethod
    def make(config_file, monkeypatch, *, seconds=0.0, step=0):
        config = load_config(config_file, ["schedule.iterations=null", "schedule.minutes=2"])
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr(run_length.time, "monotonic", lambda: clock.now)
        state = SimpleNamespace(step=step, seconds=seconds)
        return RunLength(config, 5, state, world_size=1), state, clock

    def test_the_rate_falls_with_the_time(self, config_file, monkeypatch):
        length, state, clock = self.make(config_file, monkeypatch)
        state.step = 10  # after the warm-up
        rates = []
        for clock.now in (1000.0, 1060.0, 1120.0, 1150.0):
            over = length.is_over()
            rates.append((round(length.rate(), 6), over))
        assert rates == [(0.1, False), (0.05, False), (0.0, True), (0.0, True)]

    def test_a_resumed_run_goes_on_where_its_time_stood(self, config_file, monkeypatch):
        length, state, clock = self.make(config_file, monkeypatch, seconds=90.0, step=30)
        assert not length.is_over()
        assert length.steps == 40
        clock.now += 29
        assert not length.is_over()
        clock.now += 1
        assert length.is_over()
        assert (length.steps, state.seconds) == (30, 120.0)

    def test_it_is_for_one_process(self, config_file):
        config = load_config(config_file, ["schedule.iterations=null", "schedule.minutes=2"])
        with pytest.raises(UsageError, match=r"for one process.*set schedule\.epochs=N and schedule\.minutes=null"):
            RunLength(config, 5, SimpleNamespace(step=0, seconds=0.0), world_size=2)
