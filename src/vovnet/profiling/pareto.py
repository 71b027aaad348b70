"""Which of several models to take: the front of accuracy and cost, and the cheapest within limits.

Time, memory and energy are compared only where they were measured in one run; multiply-adds and parameters always
can be. An estimated energy is never compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from vovnet.errors import UsageError, did_you_mean
from vovnet.profiling.measurement import Measurement

AccuracyName = Literal["AP", "AP50", "VOC07"]
CostName = Literal["energy", "time", "multiply_adds", "parameters", "memory"]

_UNITS: dict[CostName, str] = {
    "energy": "J an image",
    "time": "ms an image, the median",
    "multiply_adds": "multiply-adds an image",
    "parameters": "parameters",
    "memory": "MiB at the peak",
}


@dataclass(frozen=True)
class Choice:
    """The cheapest model within the limits, or why there is none.

    limits: in words, "" without any. by, reason: the cost that was compared, and why that one. rejected: a sentence
    for every model that is outside the limits or has no figure to compare. nearest: without a winner, the model that
    misses the limits by the smallest part of them; None where no model has the figures.
    """

    limits: str
    by: CostName
    reason: str
    winner: Measurement | None
    nearest: Measurement | None
    rejected: tuple[str, ...]

    def __str__(self) -> str:
        if self.winner is not None:
            cost = f"{_cost(self.winner, self.by):.4g} {_UNITS[self.by]}"
            first = f"{self.winner.name} is the cheapest model{self.limits} by {self.by} ({self.reason}): {cost}"
        else:
            nearest = f"; {self.nearest.name} comes nearest" if self.nearest is not None else ""
            first = f"there is no model{self.limits}{nearest}"
        return "\n".join([first, *self.rejected])

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with the names of the models."""
        return vars(self) | {
            "winner": None if self.winner is None else self.winner.name,
            "nearest": None if self.nearest is None else self.nearest.name,
        }


class _Miss(NamedTuple):
    """What keeps a model from being chosen, and what part of the limit it is away: infinity where that is unknown."""

    sentence: str
    part: float


def pareto_front(measurements: Sequence[Measurement], accuracy: AccuracyName, by: CostName) -> list[Measurement]:
    """The models that no other beats: at least as accurate and as cheap, and better in one of the two. Cheapest first.

    Models with equal figures are all kept. One that lacks either figure cannot be placed and is left out.
    Raises ValueError where the figures cannot be compared.
    """
    _check_names(accuracy, by)
    points = []
    for one in measurements:
        worth, cost = _accuracy(one, accuracy), _cost(one, by)
        if worth is not None and cost is not None:
            points.append((cost, worth, one))
    placed = [one for _, _, one in points]
    _check_same_data(placed)
    _check_same_conditions(placed, by)

    def dominated(cost: float, worth: float) -> bool:
        return any(c <= cost and w >= worth and (c < cost or w > worth) for c, w, _ in points)

    front = [(cost, one) for cost, worth, one in points if not dominated(cost, worth)]
    return [one for _, one in sorted(front, key=lambda point: (point[0], point[1].name))]


def cheapest(
    measurements: Sequence[Measurement],
    *,
    accuracy: AccuracyName = "VOC07",
    min_ap: float | None = None,
    max_p99_ms: float | None = None,
    by: CostName | None = None,
) -> Choice:
    """The model that costs least, among those whose `accuracy` is at least `min_ap` and whose forward pass takes at
    most `max_p99_ms` at the 99th percentile.

    by: None is energy where every model has a measured and undisputed figure by the same method, else time. Of models
    that cost the same the most accurate wins. Raises ValueError for limits out of range and where the figures cannot
    be compared.
    """
    if not measurements:
        raise ValueError("expected measurements to choose from, got none")
    if min_ap is not None and not 0 <= min_ap <= 1:
        raise UsageError(f"min_ap must lie in 0…1, got {min_ap:g}")
    if max_p99_ms is not None and not max_p99_ms > 0:
        raise UsageError(f"max_p99_ms must be above 0, got {max_p99_ms:g}")
    if by is None:
        doubt = _doubt_of_energy(measurements)
        by, reason = ("energy", "measured for every model") if doubt is None else ("time", f"energy is {doubt}")
    else:
        reason = f"as asked, {doubt}" if by == "energy" and (doubt := _disputed(measurements)) else "as asked"
    _check_names(accuracy, by)
    _check_same_conditions(measurements, by)
    if max_p99_ms is not None:
        _check_same_conditions(measurements, "time")
    if min_ap is not None:
        _check_same_data(measurements)

    # Where some model has an accuracy, the cheapest of those that have none would win by saying nothing.
    if min_ap is None and any(_accuracy(one, accuracy) is not None for one in measurements):
        min_ap = 0.0
    judged = [(one, list(_misses(one, by, accuracy, min_ap, max_p99_ms))) for one in measurements]
    within = [one for one, misses in judged if not misses]
    outside = [(max(miss.part for miss in misses), one.name, one) for one, misses in judged if misses]
    near = [] if within else [point for point in outside if point[0] < math.inf]
    limits = [f"{accuracy} at least {min_ap:g}"] if min_ap else []
    limits += [f"99th percentile at most {max_p99_ms:g} ms"] if max_p99_ms is not None else []
    return Choice(
        " with " + " and ".join(limits) if limits else "",
        by,
        reason,
        winner=min(within, key=lambda one: _rank(one, by, accuracy), default=None),
        nearest=min(near, key=lambda point: point[:2])[-1] if near else None,
        rejected=tuple(
            f"{one.name} {' and '.join(miss.sentence for miss in misses)}" for one, misses in judged if misses
        ),
    )


def _misses(
    one: Measurement, by: CostName, accuracy: AccuracyName, min_ap: float | None, max_p99_ms: float | None
) -> Iterator[_Miss]:
    worth, p99_ms = _accuracy(one, accuracy), one.latency.percentile_ms(99)
    if _cost(one, by) is None:
        yield _Miss(f"has no measured {by}{_why_none(one, by)}", math.inf)
    if min_ap is not None and worth is None:
        yield _Miss(f"has no {accuracy}, so nobody knows how good it is", math.inf)
    elif min_ap is not None and worth is not None and worth < min_ap:
        yield _Miss(f"has {accuracy} {worth:.4g}, below {min_ap:g}", 1 - worth / min_ap)
    if max_p99_ms is not None and p99_ms > max_p99_ms:
        yield _Miss(f"takes {p99_ms:.4g} ms at the 99th percentile, above {max_p99_ms:g}", p99_ms / max_p99_ms - 1)


def _rank(one: Measurement, by: CostName, accuracy: AccuracyName) -> tuple[float, float, str]:
    cost, worth = _cost(one, by), _accuracy(one, accuracy)
    assert cost is not None
    return cost, -(worth or 0), one.name


def _accuracy(one: Measurement, accuracy: AccuracyName) -> float | None:
    return None if one.accuracy is None else one.accuracy.figures.get(accuracy)


def _cost(one: Measurement, by: CostName) -> float | None:
    if by == "energy":
        return one.energy_j_per_image
    if by == "time":
        return one.latency.median_ms / one.input_shape[0]
    if by == "multiply_adds":
        return one.cost.total.multiply_adds / one.input_shape[0]
    if by == "parameters":
        return one.cost.total.parameters
    return None if one.memory is None else one.memory.peak_mib


def _why_none(one: Measurement, by: CostName) -> str:
    measured = one.energy if by == "energy" else one.memory
    return f" ({measured.reason})" if measured is not None and measured.reason else ""


def _doubt_of_energy(measurements: Sequence[Measurement]) -> str | None:
    """Why energy is not what to compare by; None where it is."""
    if without := [one.name for one in measurements if one.energy_j_per_image is None]:
        return f"not measured for {', '.join(without)}"
    if len(methods := _methods(measurements)) > 1:
        return f"measured by different methods, {', '.join(methods)}"
    return _disputed(measurements)


def _disputed(measurements: Sequence[Measurement]) -> str | None:
    names = [one.name for one in measurements if one.energy is not None and one.energy.disputed]
    return f"disputed for {', '.join(names)}" if names else None


def _methods(measurements: Sequence[Measurement]) -> list[str]:
    figures = [one.energy.figure for one in measurements if one.energy is not None]
    return sorted({figure.method for figure in figures if figure is not None})


def _check_names(accuracy: str, by: str) -> None:
    for what, name, known in (("accuracy", accuracy, get_args(AccuracyName)), ("by", by, get_args(CostName))):
        if name not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}, got {name!r}{did_you_mean(name, known)}")


def _check_same_conditions(measurements: Sequence[Measurement], by: CostName) -> None:
    if by in ("multiply_adds", "parameters"):
        return
    runs = {f"{one.conditions.run} ({one.conditions.device_name})" for one in measurements}
    if len(runs) > 1:
        raise UsageError(
            f"{by} of the runs {', '.join(sorted(runs))} cannot be compared: measure the models together, in one run, "
            "or compare multiply_adds or parameters"
        )
    if by == "energy" and len(methods := _methods(measurements)) > 1:
        raise UsageError(f"energy by different methods, {', '.join(methods)}, cannot be compared: choose one")


def _check_same_data(measurements: Sequence[Measurement]) -> None:
    known = [one.accuracy for one in measurements if one.accuracy is not None]
    seen = sorted({f"{one.data}, split {one.split}, {one.images} images" for one in known})
    if len(seen) > 1:
        raise UsageError(f"accuracy on different data cannot be compared: {'; '.join(seen)}")
