"""The speed that training keeps up, after the batches that its loader processes had ready."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vovnet.data.loading import BATCHES_AHEAD

MEASURED = 100  # steps, at least
# Full queues hide loaders that are 20 % slower than the steps for five times their length: they lose a fifth of a batch
# with each step. Loaders that are less slow than that still flatter the speed.
HIDDEN = 5
STARTING = 8  # steps in which kernels are chosen


@dataclass(frozen=True)
class Span:
    """The steps of a run, and after which of them it is measured."""

    first: int
    steps: int

    def speed(self, log: Sequence[Mapping[str, Any]]) -> float:
        """Images/s over the measured steps, of which all log entries cover as many."""
        speeds = [entry["images_per_s"] for entry in log if "images_per_s" in entry and entry["step"] > self.first]
        return statistics.harmonic_mean(speeds)


REHEARSED = Span(1, 3)


def span(workers: int, log_every: int) -> Span:
    first = math.ceil((HIDDEN * workers * BATCHES_AHEAD + STARTING) / log_every) * log_every
    return Span(first, first + math.ceil(MEASURED / log_every) * log_every)
