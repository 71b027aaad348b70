"""How long a run trains, in which batches, at which learning rate, and when it evaluates."""

from __future__ import annotations

import math

from vovnet.engine.config import ScheduleConfig, TrainConfig

_ENDLESS = 10**9  # steps


def total_steps(config: TrainConfig, num_images: int) -> int:
    """Number of optimizer steps of the whole run; more than it will take for one that ends after some minutes."""
    schedule = config.schedule
    if schedule.iterations is not None:
        return schedule.iterations
    if schedule.epochs is None:
        return _ENDLESS
    return max(1, math.ceil(schedule.epochs * num_images / config.batch_size))


def micro_batches(config: TrainConfig, world_size: int) -> tuple[int, int]:
    """(images per forward pass, forward passes per step) of each process.

    All micro-batches have the same size, at most `config.micro_batch_size`.
    """
    if config.batch_size % world_size:
        raise ValueError(f"batch_size {config.batch_size} must be a multiple of the {world_size} processes")
    local = config.batch_size // world_size
    size = math.gcd(local, config.micro_batch_size)
    return size, local // size


def learning_rate(step: int, steps: int, base: float, schedule: ScheduleConfig, share: float | None = None) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    share: how much of the time has passed, from 0 to 1, in a run of minutes, which has no number of steps.
    """
    if schedule.kind == "cosine":
        angle = math.pi * step / steps if share is None else math.pi * share
        rate = base * (1 + math.cos(angle)) / 2
    else:
        rate = base * schedule.gamma ** sum(step >= milestone for milestone in schedule.milestones)
    if step < schedule.warmup_iterations:
        progress = step / schedule.warmup_iterations
        rate *= schedule.warmup_factor + (1 - schedule.warmup_factor) * progress
    return rate


def epochs_done(step: int, config: TrainConfig, num_images: int) -> float:
    """Epochs after `step` steps, rounded for the log."""
    return round(step * config.batch_size / num_images, 4)


def evaluation_is_due(step: int, config: TrainConfig, num_images: int) -> bool:
    """Whether the number of epochs reaches a multiple of `evaluate_every` with the `step`-th step."""
    return evaluations_due(step - 1, step, config, num_images) > 0


def evaluations_due(after: int, step: int, config: TrainConfig, num_images: int) -> int:
    """How many evaluations were due after step `after`, up to step `step`, at most one a step."""
    images_per_period = num_images * config.evaluate_every
    periods = [done * config.batch_size // images_per_period for done in (after, step)]
    return min(step - after, periods[1] - periods[0])
