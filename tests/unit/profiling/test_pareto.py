from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vovnet.errors import UsageError
from vovnet.profiling.cost_types import LayerCost, ModelCost
from vovnet.profiling.energy.estimate import estimate
from vovnet.profiling.energy.measured import EnergyResult, MethodResult
from vovnet.profiling.energy.sensors import Method, Source
from vovnet.profiling.measurement import Accuracy, Measurement
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.pareto import CostName, cheapest, pareto_front
from vovnet.profiling.speed import Latency

from .complete import MEASUREMENT

cheapest_by_ap = partial(cheapest, accuracy="AP")
CONDITIONS = replace(MEASUREMENT.conditions, run="run1", device_name="A CPU")


def model(
    name: str,
    ap: float | None = None,
    *,
    times_ms: tuple[float, ...] = (10.0, 10.0),
    multiply_adds: int = 100,
    batch: int = 1,
    **fields: Any,
) -> Measurement:
    shape = (batch, 3, 8, 8)
    layer = LayerCost(path="", kind="Conv2d", parameters=multiply_adds // 10, multiply_adds=multiply_adds)
    bare = replace(MEASUREMENT, memory=None, energy=None, estimate=None, batches=None, stages=None, layer_seconds=None)
    measurement = replace(
        bare,
        name=name,
        input_shape=shape,
        cost=ModelCost("Net", (shape,), "float32", (layer,), {}, None),
        latency=Latency(tuple(time_ms / 1e3 for time_ms in times_ms)),
        conditions=CONDITIONS,
        accuracy=None if ap is None else accuracy(AP=ap),
    )
    return replace(measurement, **fields)


def accuracy(data: str = "cells", **figures: float) -> Accuracy:
    return Accuracy(data, "test", 10, figures)


def joules(value: float, method: Method = "counter", disputed: bool = False) -> EnergyResult:
    result = MethodResult(method, Source("a sensor", "all"), value, None, value, None, 1.0, (1.0, 1.0), 0, (value,))
    return EnergyResult(value, 1.0, result, disputed=disputed)


def mib(value: float | None, reason: str | None = None) -> MemoryUse:
    return MemoryUse("a method", 1.0, value, None, None, reason=reason)


# ---- the front

points = st.tuples(st.integers(0, 5).map(lambda fifth: fifth / 5), st.integers(1, 5))


def cloud(values: list[tuple[float, int]]) -> list[Measurement]:
    return [model(f"m{place:02}", ap, multiply_adds=cost) for place, (ap, cost) in enumerate(values)]


def dominates(a: Measurement, b: Measurement) -> bool:
    assert a.accuracy is not None
    assert b.accuracy is not None
    better = (
        a.accuracy.figures["AP"] - b.accuracy.figures["AP"],
        b.cost.total.multiply_adds - a.cost.total.multiply_adds,
    )
    return min(better) >= 0 and max(better) > 0


@given(st.lists(points, max_size=12), st.randoms(use_true_random=False))
def test_the_front(values: list[tuple[float, int]], shuffle: random.Random) -> None:
    models = cloud(values)
    front = pareto_front(models, "AP", "multiply_adds")
    names = [measurement.name for measurement in front]
    assert not any(dominates(a, b) for a in models for b in front)
    assert all(any(dominates(a, b) for a in front) for b in models if b.name not in names)
    costs = [measurement.cost.total.multiply_adds for measurement in front]
    assert costs == sorted(costs)

    shuffle.shuffle(models)
    assert [measurement.name for measurement in pareto_front(models, "AP", "multiply_adds")] == names


@given(st.lists(points, min_size=1, max_size=12), st.floats(0, 1))
def test_the_cheapest_is_on_the_front(values: list[tuple[float, int]], min_ap: float) -> None:
    models = cloud(values)
    choice = cheapest_by_ap(models, min_ap=min_ap, by="multiply_adds")
    if choice.winner is None:
        assert all(ap < min_ap for ap, _ in values)
        assert len(choice.rejected) == len(models)
    else:
        assert choice.winner.name in [measurement.name for measurement in pareto_front(models, "AP", "multiply_adds")]
        assert len(choice.rejected) == sum(ap < min_ap for ap, _ in values)


def test_ties_are_kept_and_what_lacks_a_figure_is_not_placed() -> None:
    models = [model("b", 0.5), model("a", 0.5), model("worse", 0.4), model("untested")]
    models.append(model("dear", 0.6, times_ms=(1000, 1000)))
    assert [measurement.name for measurement in pareto_front(models, "AP", "time")] == ["a", "b", "dear"]
    assert pareto_front(models, "VOC07", "time") == []


def test_costs_are_for_one_image() -> None:
    models = [
        model("one", 0.5, times_ms=(10, 10), multiply_adds=100),
        model("eight", 0.5, times_ms=(40, 40), multiply_adds=400, batch=8),
    ]
    for by in ("time", "multiply_adds"):
        assert [measurement.name for measurement in pareto_front(models, "AP", by)] == ["eight"]
    assert (
        str(cheapest_by_ap(models, by="time"))
        == "eight is the cheapest model by time (as requested): 5 ms per image (median)"
    )


@pytest.mark.parametrize("by", get_args(CostName))
def test_each_cost_ranks_by_itself(by: CostName) -> None:
    cheap: dict[CostName, Measurement] = {
        "energy": model("energy", energy=joules(1.0)),
        "time": model("time", times_ms=(1.0, 1.0)),
        "multiply_adds": model("multiply_adds", multiply_adds=10),
        "memory": model("memory", memory=mib(1.0)),
    }
    layer = LayerCost(path="", kind="Conv2d", parameters=1, multiply_adds=100)
    cheap["parameters"] = model("parameters", cost=replace(model("").cost, layers=(layer,)))
    models = [
        replace(
            measurement,
            accuracy=accuracy(AP=0.5),
            energy=measurement.energy or joules(2.0),
            memory=measurement.memory or mib(2.0),
            cost=replace(measurement.cost, layers=(replace(measurement.cost.layers[0], parameters=8),))
            if name != "parameters"
            else measurement.cost,
        )
        for name, measurement in cheap.items()
    ]
    choice = cheapest_by_ap(models, by=by)
    assert choice.winner is not None
    assert choice.winner.name == by
    assert pareto_front(models, "AP", by) == [choice.winner]


def test_a_lower_bound_of_multiply_adds_is_not_the_cheapest() -> None:
    bounded = model("bounded", 0.9, multiply_adds=10)
    bounded = replace(bounded, cost=replace(bounded.cost, uncounted={"aten::_fft_r2c": 2}))
    counted = model("counted", 0.8, multiply_adds=100)
    choice = cheapest_by_ap([bounded, counted], by="multiply_adds")
    assert choice.winner is counted
    assert choice.rejected == ("bounded has only a lower bound of its multiply-adds: aten::_fft_r2c cannot be counted",)
    assert pareto_front([bounded, counted], "AP", "multiply_adds") == [counted]
    assert cheapest_by_ap([bounded, counted], by="parameters").winner is bounded


# ---- the choice


def test_limits_reject_in_sentences() -> None:
    models = [
        model("small", 0.6, times_ms=(5, 5)),
        model("middle", 0.82, times_ms=(20, 20)),
        model("large", 0.9, times_ms=(60, 60)),
        model("untested", times_ms=(1, 1)),
    ]
    choice = cheapest_by_ap(models, min_ap=0.8, max_p99_ms=50)
    assert choice.winner is models[1]
    assert choice.nearest is None
    assert str(choice).splitlines() == [
        "middle is the cheapest model with AP at least 0.8 and 99th percentile at most 50 ms by time "
        "(energy is not measured for small, middle, large, untested): 20 ms per image (median)",
        "small has AP 0.6, below 0.8",
        "large takes 60 ms at the 99th percentile, above 50",
        "untested has no AP: its accuracy was not measured",
    ]


def test_the_99th_percentile_is_not_the_median() -> None:
    rare = model("rare", times_ms=(*[10.0] * 80, *[100.0] * 20))
    assert cheapest_by_ap([rare], max_p99_ms=50).winner is None
    assert cheapest_by_ap([rare], max_p99_ms=100).winner is rare


def test_the_nearest_miss_is_the_one_that_lacks_the_smallest_part() -> None:
    models = [
        model("inaccurate", 0.4, times_ms=(10, 10)),  # misses half of the accuracy
        model("slow", 0.8, times_ms=(60, 60)),  # a fifth of the time
        model("both", 0.76, times_ms=(65, 65)),  # a twentieth and three tenths
        model("untested", times_ms=(10, 10)),
    ]
    choice = cheapest_by_ap(models, min_ap=0.8, max_p99_ms=50)
    assert choice.winner is None
    assert choice.nearest is models[1]
    assert str(choice).splitlines() == [
        "there is no model with AP at least 0.8 and 99th percentile at most 50 ms; slow comes nearest",
        "inaccurate has AP 0.4, below 0.8",
        "slow takes 60 ms at the 99th percentile, above 50",
        "both has AP 0.76, below 0.8 and takes 65 ms at the 99th percentile, above 50",
        "untested has no AP: its accuracy was not measured",
    ]
    assert json.loads(json.dumps(choice.to_dict()))["nearest"] == "slow"
    assert cheapest_by_ap(models[3:], min_ap=0.8).nearest is None


def test_of_equal_costs_the_most_accurate_wins() -> None:
    models = [model("a", 0.5), model("b", 0.7), model("c")]
    for order in (models, models[::-1]):
        assert cheapest_by_ap(order, by="multiply_adds").winner is models[1]


# ---- what is compared


def test_energy_where_it_was_measured_else_time() -> None:
    quick, thrifty = model("quick", times_ms=(1, 1), energy=joules(3)), model("thrifty", energy=joules(2))
    assert (choice := cheapest_by_ap([quick, thrifty])).winner is thrifty
    assert (choice.by, choice.reason) == ("energy", "measured for every model")

    estimated = replace(thrifty, energy=None, estimate=estimate(1, 1))
    for other, reason in (
        (estimated, "energy is not measured for thrifty"),
        (replace(thrifty, energy=joules(2, disputed=True)), "energy is disputed for thrifty"),
        (replace(thrifty, energy=joules(2, "paper")), "energy is measured by different methods, counter, paper"),
    ):
        choice = cheapest_by_ap([quick, other])
        assert choice.winner is quick
        assert (choice.by, choice.reason) == ("time", reason)


def test_energy_that_was_asked_for() -> None:
    quick, thrifty = model("quick", energy=joules(3)), model("thrifty", energy=joules(2, disputed=True))
    assert (choice := cheapest_by_ap([quick, thrifty], by="energy")).winner is thrifty
    assert choice.reason == "as requested, disputed for thrifty"
    with pytest.raises(UsageError, match="energy by different methods, counter, rapl, cannot be compared"):
        cheapest_by_ap([quick, model("other", energy=joules(2, "rapl"))], by="energy")

    absent = model("absent", energy=EnergyResult(None, reason="no sensor"), estimate=estimate(1, 1))
    choice = cheapest_by_ap([quick, absent], by="energy")
    assert choice.winner is quick
    assert choice.rejected == ("absent has no measured energy (no sensor)",)
    assert pareto_front([replace(absent, accuracy=accuracy(AP=0.5))], "AP", "energy") == []


def test_memory_that_could_not_be_measured() -> None:
    models = [model("a", memory=mib(None, "it did not start")), model("b", memory=mib(9.0)), model("c")]
    choice = cheapest_by_ap(models, by="memory")
    assert choice.winner is models[1]
    assert choice.rejected == ("a has no measured memory (it did not start)", "c has no measured memory")


def test_only_one_run_is_comparable() -> None:
    change = {"conditions": replace(CONDITIONS, run="run2", device_name="A GPU")}
    message = "time of the runs run1 \\(A CPU\\), run2 \\(A GPU\\) cannot be compared"
    models = [model("a", 0.5), replace(model("b", 0.5, multiply_adds=50), **change)]
    with pytest.raises(UsageError, match=message):
        cheapest_by_ap(models)
    with pytest.raises(UsageError, match=message):
        pareto_front(models, "AP", "time")
    assert cheapest_by_ap(models, min_ap=0.1, by="multiply_adds").winner is models[1]
    assert pareto_front(models, "AP", "parameters") == [models[1]]
    with pytest.raises(UsageError, match=message):
        cheapest_by_ap(models, by="multiply_adds", max_p99_ms=50)
    assert cheapest_by_ap([models[0], replace(models[0], name="c", precision="bfloat16")]).winner is not None


def test_accuracy_on_other_data_is_not_comparable() -> None:
    models = [model("a", 0.5), model("b", accuracy=accuracy("faces", AP=0.9))]
    message = "cells, split test, 10 images; faces, split test, 10 images"
    with pytest.raises(UsageError, match=message):
        pareto_front(models, "AP", "multiply_adds")
    with pytest.raises(UsageError, match=message):
        cheapest_by_ap(models, min_ap=0.3)
    assert cheapest_by_ap(models, max_p99_ms=50).winner is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_ap": 80}, "min_ap must be in 0…1, got 80"),
        ({"max_p99_ms": 0}, "max_p99_ms must be above 0, got 0"),
        ({"by": "tim"}, "by must be one of energy, .* got 'tim', did you mean 'time'"),
        ({"accuracy": "AP5"}, "accuracy must be one of AP, AP50, VOC07, got 'AP5', did you mean 'AP50'"),
    ],
)
def test_wrong_limits(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cheapest_by_ap([model("a")], **options)


def test_nothing_to_choose_from() -> None:
    assert pareto_front([], "AP", "time") == []
    with pytest.raises(ValueError, match="got none"):
        cheapest_by_ap([])
