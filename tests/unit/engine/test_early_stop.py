"""`early_stop`: a run ends after so many evaluations without a better metric, and can go on."""

import json
import sys
from types import SimpleNamespace

import pytest

from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.engine.training.early_stop import stops_early, why_stopped
from vovnet.engine.training.schedule import evaluation_is_due, evaluations_due
from vovnet.weights.detector import load_model
from vovnet.weights.file import load_checkpoint

BASIC = """
model: ssd300_mobilenet
data: {{root: {root}}}
optimizer: {{learning_rate: 0.01}}
schedule: {{iterations: 12}}
batch_size: 5
micro_batch_size: 5
early_stop: 2
workers: 0
tensorboard: false
"""


@pytest.fixture
def run(small_voc, tmp_path, monkeypatch):
    """A run whose steps only count and whose evaluations find these scores; one epoch, with its evaluation, a step."""
    path = tmp_path / "small.yaml"
    path.write_text(BASIC.format(root=small_voc))
    module = sys.modules[train.__module__]

    def count(state, *_, **__):
        state.step += 1

    monkeypatch.setattr(module, "train_step", count)

    def start(scores, *overrides):
        left = iter(scores)
        monkeypatch.setattr(module, "_evaluate", lambda *_: next(left))
        return train(load_config(path, [f"output={tmp_path / 'run'}", *overrides]))

    return start


def test_it_stops_with_everything_saved_and_goes_on(run, tmp_path, capsys):
    result = run([0.1, 0.3, 0.2, 0.3])
    assert (result.steps, result.best, result.last, result.finished) == (4, 0.3, 0.3, True)
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["stopped_early"], record["step"], record["steps"], record["last"]["step"]) == (True, 2, 4, 4)
    assert load_model(tmp_path / "run" / "best.safetensors").record["step"] == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "stopped early at step 4: no better val_voc07_map than 0.3000, that of step 2, in the last 2 eval" in said
    assert "resume=true goes on" in said
    assert "learning rate was still" not in said  # no milestone was left

    result = run([0.2, 0.2], "resume=true")  # as many evaluations again
    assert (result.steps, result.best) == (6, 0.3)
    result = run([0.4, 0.3, 0.2], "resume=true")
    assert (result.steps, result.best) == (9, 0.4)
    result = run([0.3] * 3, "resume=true", "early_stop=null")
    assert (result.steps, result.finished) == (12, True)
    assert "stopped_early" not in json.loads((tmp_path / "run" / "record.json").read_text())
    assert load_checkpoint(tmp_path / "run" / "last.pt")["stopped_step"] == 9


def test_a_killed_run_counts_the_evaluations_before(run, monkeypatch):
    """The third evaluation never comes; the resumed run stops where the whole run would have."""
    with pytest.raises(StopIteration):
        run([0.3, 0.2])
    result = run([0.1], "resume=true")
    assert result.steps == 3


def test_a_rising_metric_or_no_early_stop_never_ends_a_run(run):
    assert run([0.01 * step for step in range(1, 13)]).steps == 12


def test_without_val_it_is_refused(run):
    with pytest.raises(ValueError, match=r"early_stop needs evaluations: set data.val=SPLIT or early_stop=null"):
        run([], "data.val=null")


def test_a_rate_that_would_still_fall_is_told():
    group = {"lr": 0.04}
    state = SimpleNamespace(step=10, best=0.5, best_step=5, optimizer=SimpleNamespace(param_groups=[group]))

    def said(kind, milestones=()):
        schedule = SimpleNamespace(kind=kind, milestones=milestones)
        return why_stopped(state, SimpleNamespace(early_stop=1, metric="coco_ap", schedule=schedule))

    assert "in the last 1 evaluation; resume" in said("step", (5, 10))
    assert "still 0.04, and a cosine schedule falls until the end of the run" in said("cosine")
    assert "a step schedule has milestones to come" in said("step", (5, 11))
    assert "still" not in said("step", (5, 10))


@pytest.mark.parametrize(("batch", "every"), [(8, 1), (8, 3), (50, 1), (250, 1), (33, 2)])
def test_evaluations_are_counted_as_they_come(batch, every):
    config = SimpleNamespace(batch_size=batch, evaluate_every=every)
    due = [step for step in range(1, 101) if evaluation_is_due(step, config, 100)]
    for after, step in ((0, 100), (7, 60), (50, 51), (9, 9)):
        assert evaluations_due(after, step, config, 100) == sum(after < each <= step for each in due)


def test_several_processes_decide_the_same():
    """All know the same scores, so the answer depends on nothing else."""
    config = SimpleNamespace(batch_size=10, evaluate_every=1, early_stop=2)
    state = SimpleNamespace(step=40, best_step=20, stopped_step=None)
    assert stops_early(state, config, 100) is True
    assert state.stopped_step == 40
    assert stops_early(SimpleNamespace(step=40, best_step=30, stopped_step=None), config, 100) is False
    assert stops_early(SimpleNamespace(step=40, best_step=20, stopped_step=30), config, 100) is False
