"""Choosing among measured models: the Pareto front of accuracy and cost, and the cheapest model within limits.

Time, memory and energy are compared only within one run. Multiply-adds and parameters can always be compared.
Estimated energy is never compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from vovnet.errors import UsageError, did_you_mean
from vovnet.profiling.measurement import Measurement

AccuracyName = Literal["AP", "AP50", "VOC07"]
CostName = Literal["energy", "time", "multiply_adds", "parameters", "memory"]

_COSTS: dict[CostName, Callable[[Measurement], float | None]] = {
    "energy": lambda model: model.energy_j_per_image,
    "time": lambda model: model.latency.median_ms / model.input_shape[0],
    # A lower bound cannot be compared with anything.
    "multiply_adds": lambda m: None if m.cost.is_lower_bound else m.cost.total.multiply_adds / m.input_shape[0],
    "parameters": lambda model: model.cost.total.parameters,
    "memory": lambda model: model.memory.peak_mib if model.memory else None,
}
_UNITS: dict[CostName, str] = {
    "energy": "J per image",
    "time": "ms per image (median)",
    "multiply_adds": "multiply-adds per image",
    "parameters": "parameters",
    "memory": "MiB peak memory",
}


@dataclass(frozen=True)
class Choice:
    """The cheapest model within the limits, or why there is none.

    limits: in words; "" without limits.
    reason: why the cost `by` was compared.
    winner: None if no model is within the limits.
    nearest: without a winner, the model that exceeds the limits by the smallest fraction; None if no model has the
        necessary values.
    rejected: a sentence for every model that is outside the limits or has no value to compare.
    """

    limits: str
    by: CostName
    reason: str
    winner: Measurement | None
    nearest: Measurement | None
    rejected: tuple[str, ...]

    def sentences(self) -> list[str]:
        """The choice, and why other models were rejected."""
        if self.winner:
            cost = f"{_COSTS[self.by](self.winner):.4g} {_UNITS[self.by]}"
            first = f"{self.winner.name} is the cheapest model{self.limits} by {self.by} ({self.reason}): {cost}"
        else:
            nearest = f"; {self.nearest.name} comes nearest" if self.nearest else ""
            first = f"there is no model{self.limits}{nearest}"
        return [first, *self.rejected]

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def to_dict(self) -> dict[str, Any]:
        """The fields, with models by name, ready for JSON."""
        return vars(self) | {
            "winner": self.winner.name if self.winner else None,
            "nearest": self.nearest.name if self.nearest else None,
        }


class _Miss(NamedTuple):
    """Why a model is rejected, and the fraction of a limit that it misses; infinity if unknown."""

    sentence: str
    fraction: float


def pareto_front(measurements: Sequence[Measurement], accuracy: AccuracyName, by: CostName) -> list[Measurement]:
    """The Pareto front, cheapest model first.

    A model is on it unless another one is at least as accurate and at least as cheap, and better in one of the two.
    Models with equal values are all kept. A model without an accuracy or cost is left out.

    Raises ValueError if the values cannot be compared.
    """
    _check_names(accuracy, by)
    points = []
    for model in measurements:
        value, cost = _accuracy(model, accuracy), _COSTS[by](model)
        if value is not None and cost is not None:
            points.append((cost, value, model))
    comparable = [model for _, _, model in points]
    _check_same_data(comparable)
    _check_same_conditions(comparable, by)

    kept = undominated([(cost, value) for cost, value, _ in points])
    front = [(cost, model) for (cost, _, model), keep in zip(points, kept, strict=True) if keep]
    return [model for _, model in sorted(front, key=lambda point: (point[0], point[1].name))]


def undominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of each (cost, accuracy), whether it is on the Pareto front of these points; equal points all are."""
    return [not any(c <= cost and v >= value and (c < cost or v > value) for c, v in points) for cost, value in points]


def cheapest(
    measurements: Sequence[Measurement],
    *,
    accuracy: AccuracyName = "VOC07",
    min_ap: float | None = None,
    max_p99_ms: float | None = None,
    by: CostName | None = None,
) -> Choice:
    """The cheapest model within the limits; among equally cheap ones, the most accurate.

    min_ap: the lowest accuracy, in 0…1.
    max_p99_ms: the longest forward pass at the 99th percentile.
    by: the cost to compare; None is energy if it was measured by the same method and is undisputed for every model,
        else time.

    Raises ValueError for limits out of range and for values that cannot be compared.
    """
    if not measurements:
        raise ValueError("expected measurements to choose from, got none")
    if min_ap is not None and not 0 <= min_ap <= 1:
        raise UsageError(f"min_ap must be in 0…1, got {min_ap:g}")
    if max_p99_ms is not None and not max_p99_ms > 0:
        raise UsageError(f"max_p99_ms must be above 0, got {max_p99_ms:g}")
    if by is None:
        problem = _problem_of_energy(measurements)
        by, reason = ("energy", "measured for every model") if problem is None else ("time", f"energy is {problem}")
    else:
        problem = _disputed(measurements) if by == "energy" else None
        reason = f"as requested, {problem}" if problem else "as requested"
    _check_names(accuracy, by)
    _check_same_conditions(measurements, by)
    if max_p99_ms is not None:
        _check_same_conditions(measurements, "time")
    if min_ap is not None:
        _check_same_data(measurements)

    # If any model has an accuracy, models without one are rejected; else a model could win by not being evaluated.
    if min_ap is None and any(_accuracy(model, accuracy) is not None for model in measurements):
        min_ap = 0.0
    judged = [(model, list(_misses(model, by, accuracy, min_ap, max_p99_ms))) for model in measurements]
    within = [model for model, misses in judged if not misses]
    outside = [(max(miss.fraction for miss in misses), model.name, model) for model, misses in judged if misses]
    near = [] if within else [miss for miss in outside if miss[0] < math.inf]
    limits = [f"{accuracy} at least {min_ap:g}"] if min_ap else []
    limits += [f"99th percentile at most {max_p99_ms:g} ms"] if max_p99_ms is not None else []
    reasons = [(model.name, " and ".join(miss.sentence for miss in misses)) for model, misses in judged if misses]
    return Choice(
        " with " + " and ".join(limits) if limits else "",
        by,
        reason,
        winner=min(within, key=lambda model: _rank(model, by, accuracy), default=None),
        nearest=min(near, key=lambda miss: miss[:2])[-1] if near else None,
        rejected=tuple(f"{name} {sentence}" for name, sentence in reasons),
    )


def _misses(
    model: Measurement, by: CostName, accuracy: AccuracyName, min_ap: float | None, max_p99_ms: float | None
) -> Iterator[_Miss]:
    value, p99_ms = _accuracy(model, accuracy), model.latency.percentile_ms(99)
    if _COSTS[by](model) is None and by == "multiply_adds":
        operations = ", ".join(model.cost.uncounted)
        yield _Miss(f"has only a lower bound of its multiply-adds: {operations} cannot be counted", math.inf)
    elif _COSTS[by](model) is None:
        result = model.energy if by == "energy" else model.memory
        why = f" ({result.reason})" if result and result.reason else ""
        yield _Miss(f"has no measured {by}{why}", math.inf)
    if min_ap is not None and value is None:
        yield _Miss(f"has no {accuracy}: its accuracy was not measured", math.inf)
    elif min_ap is not None and value is not None and value < min_ap:
        yield _Miss(f"has {accuracy} {value:.4g}, below {min_ap:g}", 1 - value / min_ap)
    if max_p99_ms is not None and p99_ms > max_p99_ms:
        yield _Miss(f"takes {p99_ms:.4g} ms at the 99th percentile, above {max_p99_ms:g}", p99_ms / max_p99_ms - 1)


def _rank(model: Measurement, by: CostName, accuracy: AccuracyName) -> tuple[float, float, str]:
    cost = _COSTS[by](model)
    assert cost is not None
    return cost, -(_accuracy(model, accuracy) or 0), model.name


def _accuracy(model: Measurement, accuracy: AccuracyName) -> float | None:
    return model.accuracy.figures.get(accuracy) if model.accuracy else None


def _problem_of_energy(measurements: Sequence[Measurement]) -> str | None:
    """Why energy cannot be compared by default; None if it can."""
    if without := [model.name for model in measurements if model.energy_j_per_image is None]:
        return f"not measured for {', '.join(without)}"
    if len(methods := _methods(measurements)) > 1:
        return f"measured by different methods, {', '.join(methods)}"
    return _disputed(measurements)


def _disputed(measurements: Sequence[Measurement]) -> str | None:
    names = [model.name for model in measurements if model.energy and model.energy.disputed]
    return f"disputed for {', '.join(names)}" if names else None


def _methods(measurements: Sequence[Measurement]) -> list[str]:
    return sorted({model.energy.figure.method for model in measurements if model.energy and model.energy.figure})


def _check_names(accuracy: str, by: str) -> None:
    for option, name, names in (("accuracy", accuracy, get_args(AccuracyName)), ("by", by, get_args(CostName))):
        if name not in names:
            raise UsageError(f"{option} must be one of {', '.join(names)}, got {name!r}{did_you_mean(name, names)}")


def _check_same_conditions(measurements: Sequence[Measurement], by: CostName) -> None:
    if by in ("multiply_adds", "parameters"):
        return
    runs = {f"{model.conditions.run} ({model.conditions.device_name})" for model in measurements}
    if len(runs) > 1:
        raise UsageError(
            f"{by} of the runs {', '.join(sorted(runs))} cannot be compared: measure the models together, in one run, "
            "or compare multiply_adds or parameters"
        )
    if by == "energy" and len(methods := _methods(measurements)) > 1:
        raise UsageError(f"energy by different methods, {', '.join(methods)}, cannot be compared: choose one method")


def _check_same_data(measurements: Sequence[Measurement]) -> None:
    evaluated = [model.accuracy for model in measurements if model.accuracy]
    datasets = sorted({f"{value.data}, split {value.split}, {value.images} images" for value in evaluated})
    if len(datasets) > 1:
        raise UsageError(f"accuracy on different data cannot be compared: {'; '.join(datasets)}")
