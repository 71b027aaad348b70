"""Which detector a plan takes: the most accurate one that is fast enough and has the time to learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vovnet.engine.predicting.known_exports import any_known, known
from vovnet.errors import UsageError
from vovnet.names import shipped_weights
from vovnet.planning.candidates import CANDIDATES, SMALL_SIDE, Candidate, find_candidate
from vovnet.planning.facts import Facts
from vovnet.planning.recipe import Length
from vovnet.planning.trial import Trial
from vovnet.printing import line, shell_word
from vovnet.weights.detector import digest_of_weights, load_weights

LONGEST_S = 3 * 3600.0
"""A run without a limit of time should not take longer, if a smaller detector is done sooner."""


@dataclass(frozen=True)
class Tried:
    """A candidate with what was measured.

    step_s: seconds of a step with the loading of its images.
    exported_ms: of the fastest export of this detector that is known on this machine; None without one.
    """

    candidate: Candidate
    trial: Trial
    step_s: float
    length: Length
    exported_ms: float | None = None

    @classmethod
    def of(cls, candidate: Candidate, trial: Trial, length: Length, device: torch.device) -> Tried:
        return cls(candidate, trial, trial.seconds_per_step(device), length, exported_ms(candidate))

    @property
    def least_ms(self) -> float:
        return min(self.trial.detect_ms, self.exported_ms or self.trial.detect_ms)

    @property
    def images(self) -> int:
        """That the run sees, counted once per epoch."""
        return self.length.steps * self.trial.batch_size

    def describe(self) -> str:
        """The measured times, in words."""
        exported = "" if self.exported_ms is None else f", {self.exported_ms:.1f} ms as exported"
        return f"{self.candidate.model}: {self.trial.detect_ms:.1f} ms an image{exported}, {self.step_s:.2f} s a step"


def possible_candidates(facts: Facts, model: str | None) -> tuple[Candidate, ...]:
    """Those for this data, fastest first; only the one called `model` if that is given."""
    if model is None:
        small = facts.median_side * 300 < SMALL_SIDE
        fitting = (candidate for candidate in CANDIDATES if len(facts.train) >= candidate.least_dataset)
        return tuple(candidate for candidate in fitting if small or not candidate.for_small_objects)
    return (named_candidate(model),)


def named_candidate(model: str, root: object = "DIR") -> Candidate:
    """The candidate with this detector. UsageError if there is none."""
    candidate = find_candidate(model)
    if candidate is None:
        names = ", ".join(candidate.model for candidate in CANDIDATES)
        raise UsageError(
            f"without a config only these detectors are planned for: {names}; for {line(model)} start from "
            f"`vovnet init {shell_word(root)} > my.yaml` and set its model there"
        )
    return candidate


def choose(tried: Sequence[Tried], max_ms: float | None, *, alone: str = "") -> tuple[Tried, str]:
    """The last of `tried` that is fast enough and learns enough, else the first that is fast enough; and why.

    max_ms: most milliseconds for one image. UsageError if none is that fast.
    alone: why there is only one.
    """
    fast = [item for item in tried if max_ms is None or item.least_ms <= max_ms]
    if not fast:
        fastest = min(tried, key=lambda item: item.least_ms)
        raise UsageError(
            f"no detector takes {max_ms:g} ms or less on this machine: the fastest is "
            f"{fastest.describe()}; allow more, or use a faster machine"
        )
    fit = [item for item in fast if _has_time(item)] or fast[:1]
    chosen = fit[-1]
    reason = f"the most accurate of {len(tried)} that were tried" if len(tried) > 1 else alone
    reason += "" if max_ms is None else f" and takes {max_ms:g} ms or less"
    slower = [item.candidate.model for item in tried if item not in fast]
    hurried = [item.candidate.model for item in fast if item not in fit]
    reason += f"; too slow: {', '.join(slower)}" if slower else ""
    reason += f"; too little time for {', '.join(hurried)}" if hurried else ""
    return chosen, f"{chosen.candidate.model} ({chosen.candidate.evidence}): {reason}"


def _has_time(item: Tried) -> bool:
    ends = item.length.minutes is not None or item.length.seconds <= LONGEST_S
    return ends and item.images >= item.candidate.least_images


def exported_ms(candidate: Candidate) -> float | None:
    """Of the fastest export of shipped weights of this detector that passed its test on this machine."""
    if not any_known():
        return None
    times = [
        export.latency_ms
        for name in shipped_weights()
        if load_weights(name).info.name == candidate.model
        for export in known(digest_of_weights(name))
    ]
    return min(times, default=None)
