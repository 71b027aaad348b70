"""Whether a run ends before its schedule does, because its metric no longer rises (`early_stop`)."""

from __future__ import annotations

from vovnet.engine.config import TrainConfig
from vovnet.engine.training.schedule import evaluations_due
from vovnet.engine.training.state import TrainState
from vovnet.errors import counted


def stops_early(state: TrainState, config: TrainConfig, num_images: int) -> bool:
    """Whether the metric has not risen in the last `early_stop` evaluations; the state then remembers the step.

    To be asked after an evaluation. All processes know the same scores, so all get the same answer. A run that goes on
    after such a stop has as many evaluations again.
    """
    if config.early_stop is None or state.best_step is None:
        return False
    since = max(state.best_step, state.stopped_step or 0)
    if evaluations_due(since, state.step, config, num_images) < config.early_stop:
        return False
    state.stopped_step = state.step
    return True


def why_stopped(state: TrainState, config: TrainConfig) -> str:
    """What the log says of a run that has stopped early."""
    assert config.early_stop is not None
    rate, schedule = state.optimizer.param_groups[0]["lr"], config.schedule
    sentence = (
        f"stopped early at step {state.step}: no better val_{config.metric} than {state.best:.4f}, that of step "
        f"{state.best_step}, in the last {counted(config.early_stop, 'evaluation')}; resume=true goes on"
    )
    if schedule.kind == "step" and all(milestone <= state.step for milestone in schedule.milestones):
        return sentence
    lower = "falls until the end of the run" if schedule.kind == "cosine" else "has milestones to come"
    return (
        f"{sentence}. The learning rate was still {rate:.2g}, and a {schedule.kind} schedule {lower}: the metric often "
        "rises when it falls, so a shorter schedule may reach more"
    )
