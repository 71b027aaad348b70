"""How far a training run is, in steps or in minutes, and the learning rate that this means."""

from __future__ import annotations

import math
import time

from vovnet.engine.config import TrainConfig
from vovnet.engine.training.log import Clock
from vovnet.engine.training.schedule import learning_rate, total_steps
from vovnet.engine.training.state import TrainState
from vovnet.errors import UsageError


class RunLength:
    """The length of a run whose state is `state`: steps, or the minutes of `schedule.minutes`.

    A run of minutes counts its time from here on, in `state.seconds`, and goes on from the time of a checkpoint.
    """

    def __init__(self, config: TrainConfig, num_images: int, state: TrainState, *, world_size: int) -> None:
        minutes = config.schedule.minutes
        if minutes is not None and world_size > 1:
            raise UsageError(
                "schedule.minutes is for one process, because several would measure different times: set "
                "schedule.epochs=N and schedule.minutes=null"
            )
        self._config, self._state = config, state
        self._seconds = None if minutes is None else 60 * minutes
        self._steps = total_steps(config, num_images)
        self._began = time.monotonic() - state.seconds

    def count_time(self) -> None:
        """Note in the state what time has passed, if this is a run of minutes."""
        if self._seconds is not None:
            self._state.seconds = time.monotonic() - self._began

    def is_over(self) -> bool:
        """Whether no step is left now."""
        self.count_time()
        return self._share() >= 1 if self._seconds is not None else self._state.step == self._steps

    def rate(self) -> float:
        """The learning rate of the next step."""
        share = None if self._seconds is None else min(1.0, self._share())
        config = self._config
        return learning_rate(self._state.step, self._steps, config.optimizer.learning_rate, config.schedule, share)

    @property
    def steps(self) -> int:
        """Steps of the whole run; of a run of minutes an estimate by those that are done, which are all at its end."""
        if self._seconds is None:
            return self._steps
        share, done = self._share(), self._state.step
        return done if share >= 1 or not done else max(done + 1, math.ceil(done / share))

    def lap(self, clock: Clock) -> dict[str, float]:
        """`Clock.lap`; in a run of minutes what is left of them."""
        times = clock.lap(self._state.step, self.steps, self._config.batch_size)
        if self._seconds is None:
            return times
        return times | {"seconds_left": round(max(0.0, self._seconds - self._state.seconds), 1)}

    def _share(self) -> float:
        """The part of the time that is gone."""
        assert self._seconds is not None
        return self._state.seconds / self._seconds
