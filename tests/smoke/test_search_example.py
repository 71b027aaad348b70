"""The example of a search: with Optuna where it is installed, and with a stand-in for what the example uses of it."""

import importlib.util
import math
import sys
from types import SimpleNamespace

import pytest

from vovnet.engine.config import TrainConfig


class StandIn:
    """Proposes the middle of each range, then what lies above it, as far as the range goes."""

    def __init__(self):
        self.told = []

    def ask(self):
        share = min(1.0, 0.5 + 0.1 * len(self.told))

        def suggest_float(name, low, high, *, log=False):
            return low * (high / low) ** share if log else low + share * (high - low)

        return SimpleNamespace(suggest_float=suggest_float)

    def tell(self, trial, value):
        self.told.append(value)


@pytest.fixture
def example(monkeypatch):
    """The example with runs that take no time but their minutes, and are best at a learning rate of 0.03."""
    spec = importlib.util.spec_from_file_location("search_with_optuna", "examples/search_with_optuna.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock, configs = [0.0], []

    def train(config: TrainConfig):
        configs.append(config)
        clock[0] += 60 * config.schedule.minutes
        return SimpleNamespace(finished=True, last=1 - abs(math.log10(config.optimizer.learning_rate / 0.03)))

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(module, "train", train)
    return module, configs


CONFIG = ("own_data_dsod300_vovnet27_slim", ["data.root=x", "output=runs/mine"])


@pytest.mark.parametrize("library", ["optuna", "stand-in"])
def test_short_runs_are_proposed_until_the_time_is_over(example, library):
    module, configs = example
    if library == "optuna":
        optuna = pytest.importorskip("optuna")
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    else:
        study = StandIn()
    best, score = module.search(study, *CONFIG, minutes=2, run_minutes=0.4)
    assert len(configs) == 5
    assert len({config.output for config in configs}) == 5
    assert all(config.output.parent.as_posix() == "runs/mine" for config in configs)
    assert all(config.schedule.kind == "cosine" and config.schedule.epochs is None for config in configs)
    assert len({config.optimizer.learning_rate for config in configs}) == 5
    rates = [config.optimizer.learning_rate for config in configs]
    assert best[0] == f"optimizer.learning_rate={min(rates, key=lambda rate: abs(math.log10(rate / 0.03))):.4g}"
    assert score == max(1 - abs(math.log10(rate / 0.03)) for rate in rates)
    assert [setting.partition("=")[0] for setting in best] == [
        "optimizer.learning_rate",
        "augment.expand",
        "augment.crop_min_scale",
    ]
    if library == "stand-in":
        assert max(study.told) == score


def test_too_little_time_for_a_run_is_said(example, monkeypatch):
    module, configs = example
    assert module.search(StandIn(), *CONFIG, minutes=0.3, run_minutes=0.4) is None
    assert configs == []
    study = SimpleNamespace(create_study=lambda **_: StandIn(), samplers=SimpleNamespace(TPESampler=lambda **_: None))
    monkeypatch.setitem(sys.modules, "optuna", study)
    monkeypatch.setattr(sys, "argv", ["search", *[CONFIG[0], *CONFIG[1]], "--minutes", "0.1"])
    with pytest.raises(SystemExit, match="no run ended: give more --minutes"):
        module.main()
