"""The aggregation study on a few images: training, continuing, records."""

import json
import signal

import pytest
import torch
from torch import nn

from vovnet.engine.config import read_config
from vovnet.paper.aggregation import config as config_module
from vovnet.paper.aggregation import study
from vovnet.paper.aggregation.cifar10 import Cifar10
from vovnet.paper.aggregation.config import AggregationConfig
from vovnet.paper.aggregation.networks import AggregationNet
from vovnet.paper.aggregation.study import run_study
from vovnet.paper.aggregation.training import batch_indices, train_classifier

TINY = {
    "tiny_dense": lambda: AggregationNet(2, 4, dense=True, last_transition=False),
    "tiny_osa": lambda: AggregationNet(2, 4, dense=False, last_transition=True),
    "plain": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)),
}


def coloured(count, seed):
    """Images whose class is their brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    noise = torch.randint(0, 15, (count, 3, 32, 32), generator=generator)
    return Cifar10((labels.view(-1, 1, 1, 1) * 25 + noise).clamp(max=255).to(torch.uint8), labels)


@pytest.fixture
def config(monkeypatch, tmp_path):
    for module in (study, config_module):
        monkeypatch.setattr(module, "CIFAR_NETWORKS", TINY)
    monkeypatch.setattr(
        study, "read_cifar10", lambda root, split, download: coloured(96 if split == "train" else 50, 1)
    )
    return AggregationConfig(
        data=tmp_path, networks=tuple(TINY), epochs=2, batch_size=20, log_every=3, checkpoint_every=2, device="cpu",
        learning_rate=0.05, threads=1, output=tmp_path / "study",
    )  # fmt: skip


def test_records_of_all_networks_and_seeds(config):
    config = config.model_copy(update={"seeds": (0, 3)})
    records, finished = run_study(config)
    assert finished
    assert [(record["network"], record["seed"]) for record in records] == [
        (name, seed) for seed in (0, 3) for name in TINY
    ]
    assert json.loads((config.output / "aggregation.json").read_text())["runs"] == records
    first = records[0]
    assert first["test_images"] == 50
    assert 0 <= first["test_accuracy"] <= 1
    assert first["log"][-1][0] == pytest.approx(10 * 20 / 96, abs=1e-3)  # 10 steps of 20
    assert "strengths" not in records[2]
    assert records[0]["strengths"] != records[3]["strengths"]
    again, finished = run_study(config, lambda line: pytest.fail("finished runs are not run again"))
    assert finished
    assert again == records


def test_it_learns(config):
    config = config.model_copy(update={"networks": ("tiny_osa",), "epochs": 30})
    (record,), _ = run_study(config)
    assert record["test_accuracy"] > 0.5
    assert record["log"][-1][1] < record["log"][0][1]


@pytest.mark.parametrize("mixed", ["fp32", "bf16"])
def test_an_interrupted_run_ends_like_a_whole_one(config, mixed):
    config = config.model_copy(update={"networks": ("tiny_dense",), "precision": mixed})
    (whole,), _ = run_study(config)
    parts = config.model_copy(update={"output": config.output.with_name("parts")})

    def stop(line):
        if line.get("step") == 6:
            signal.raise_signal(signal.SIGINT)

    records, finished = run_study(parts, stop)
    assert (records, finished) == ([], False)
    (record,), finished = run_study(parts)
    assert finished
    timed = ("images_per_s", "date", "commit")
    assert {k: v for k, v in record.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}


def test_other_settings_are_refused(config):
    run_study(config.model_copy(update={"networks": ("plain",), "epochs": 0.1}))
    with pytest.raises(ValueError, match=r"other settings \(epochs, learning_rate\); choose another output"):
        run_study(config.model_copy(update={"networks": ("plain",), "epochs": 0.2, "learning_rate": 0.2}))


def test_the_rate_falls_at_the_milestones(config, monkeypatch, tmp_path):
    rates = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1], raising=True
    )
    train_classifier(TINY["plain"](), coloured(80, 0), config, seed=0, folder=tmp_path)
    assert rates == pytest.approx([0.05] * 4 + [0.005] * 2 + [0.0005] * 2)


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config = config.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(FloatingPointError, match=r"infinite or not a number by step 3 of run; lower learning_rate"):
        train_classifier(TINY["tiny_osa"](), coloured(80, 0), config, seed=0, folder=tmp_path / "run")


def test_every_image_is_seen_once_per_epoch():
    indices = torch.cat([batch_indices(step, 20, 50, 7) for step in range(5)])
    assert sorted(indices[:50].tolist()) == sorted(indices[50:].tolist()) == list(range(50))
    assert indices[:50].tolist() != indices[50:].tolist()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("networks=[densenet41]", "no network of the study is called 'densenet41', did you mean 'densenet40'"),
        ("epoch=3", "unknown key 'epoch', did you mean 'epochs'"),
        ("milestones=[1.5]", "milestones.0"),
    ],
)
def test_wrong_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        read_config(AggregationConfig, "configs/cifar10_aggregation.yaml", [setting])


def test_the_published_protocol():
    config = read_config(AggregationConfig, "configs/cifar10_aggregation.yaml")
    assert (config.epochs, config.batch_size, config.learning_rate, config.milestones) == (300, 64, 0.1, (0.5, 0.75))
    assert (config.momentum, config.weight_decay, config.precision, config.train_images) == (0.9, 1e-4, "fp32", None)
    short = read_config(AggregationConfig, "configs/cifar10_aggregation_cpu.yaml")
    same = {"epochs", "precision"}
    assert {k: v for k, v in short.settings().items() if k not in same} == {
        k: v for k, v in config.settings().items() if k not in same
    }


def test_runs_of_several_calls_are_collected(config):
    for seed in (0, 1):
        run_study(config.model_copy(update={"networks": ("plain",), "seeds": (seed,)}))
    content = json.loads((config.output / "aggregation.json").read_text())
    assert [run["seed"] for run in content["runs"]] == [0, 1]
    assert {"command", "commit", "date"} <= content.keys()


def test_a_stop_in_the_last_step_does_not_start_the_next_network(config):
    config = config.model_copy(update={"networks": ("plain", "tiny_osa")})

    def stop(line):
        if "step" in line and line["step"] == line["steps"]:
            signal.raise_signal(signal.SIGINT)

    records, finished = run_study(config, stop)
    assert ([record["network"] for record in records], finished) == (["plain"], False)
