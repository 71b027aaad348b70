from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from vovnet.profiling import speed
from vovnet.profiling.speed import Latency, MeasuredValue, is_stable, median_ratio, time_interleaved


class Stopwatch:
    """Virtual time. queued_s: work that the device has not finished."""

    def __init__(self) -> None:
        self.now_s = self.queued_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def finish(self, device: object = None) -> None:
        self.now_s += self.queued_s
        self.queued_s = 0.0


@pytest.fixture
def stopwatch(monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    watch = Stopwatch()
    monkeypatch.setattr(speed, "perf_counter", watch)
    return watch


def taking(stopwatch: Stopwatch, *seconds: float, calls: list[str], name: str = "a") -> Callable[[], None]:
    """A function whose calls take these seconds in turn, and the last of them for all further calls."""

    def function() -> None:
        stopwatch.now_s += seconds[min(calls.count(name), len(seconds) - 1)]
        calls.append(name)

    return function


# Latency --------------------------------------------------------------------------------------------------------------


def test_latency_in_milliseconds() -> None:
    latency = Latency((0.004, 0.001, 0.005, 0.002, 0.003))
    assert latency.median_ms == pytest.approx(3)
    assert latency.spread == pytest.approx((4 - 2) / 3)
    assert latency.interval_ms == pytest.approx((1, 5))
    assert latency.percentile_ms(90) == pytest.approx(4.6)
    assert Latency((0.5,)).percentile_ms(99) == pytest.approx(500)


def test_throughput_has_the_interval_of_the_median_the_other_way_round() -> None:
    latency = Latency((0.004, 0.001, 0.005, 0.002, 0.003))
    throughput = latency.throughput(6)
    assert throughput.median == pytest.approx(2000)
    assert throughput.interval == pytest.approx((1200, 6000))


@pytest.mark.parametrize(("passes", "resolved"), [(9, ()), (10, (90,)), (99, (90,)), (100, (90, 99))])
def test_a_high_percentile_needs_many_passes(passes: int, resolved: tuple[int, ...]) -> None:
    latency = Latency((0.01,) * passes)
    assert tuple(percent for percent in (90, 99) if latency.resolves(percent)) == resolved


def test_latency_as_json() -> None:
    latency = Latency((0.004, 0.001, 0.005, 0.002, 0.003))
    values = latency.to_dict()
    assert list(values) == ["p10_ms", "p90_ms", "p99_ms", "median_ms", "spread", "interval_ms", "seconds"]
    assert values["p90_ms"] == latency.percentile_ms(90)
    assert values["interval_ms"] == latency.interval_ms
    assert values["seconds"] == latency.seconds


# Ratios -------------------------------------------------------------------------------------------------------------


def test_a_machine_that_slows_down_moves_times_but_not_their_ratio() -> None:
    slowdown = np.linspace(1, 3, 30)
    a, b = Latency(tuple(0.02 * slowdown)), Latency(tuple(0.01 * slowdown))
    assert a.interval_ms == pytest.approx((20, 60))
    ratio = median_ratio(a, b)
    assert (ratio.median, *ratio.interval) == pytest.approx((2, 2, 2))


def test_a_few_disturbed_passes_do_not_move_a_ratio_and_a_change_half_way_widens_it() -> None:
    base = Latency((1.0,) * 30)
    disturbed = Latency(tuple(9.0 if step in (4, 11, 20) else 2.0 for step in range(30)))
    assert median_ratio(disturbed, base) == MeasuredValue(2.0, (2.0, 2.0))
    changed = median_ratio(Latency((2.0,) * 15 + (3.0,) * 15), base)
    assert changed.interval == (2.0, 3.0)


def test_unpaired_passes_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        median_ratio(Latency((1.0, 2.0)), Latency((1.0,)))


# Warm-up ------------------------------------------------------------------------------------------------------------


def test_stable_is_two_per_cent_between_medians() -> None:
    assert not is_stable([1.0] * 19, 10)
    assert is_stable([1.0] * 20, 10)
    assert is_stable([9.0, *[1.0] * 10, *[1.019] * 10], 10)
    assert not is_stable([1.0] * 10 + [1.03] * 10, 10)
    assert not is_stable([1.0] * 10 + [0.97] * 10, 10)
    assert is_stable([1.0] * 10 + [1.0] * 6 + [7.0] * 4, 10), "a few slow calls are no drift"


def test_functions_run_in_turn_and_each_has_its_own_times(stopwatch: Stopwatch) -> None:
    calls: list[str] = []
    functions = {name: taking(stopwatch, each_s, calls=calls, name=name) for name, each_s in (("a", 0.25), ("b", 0.5))}
    times = time_interleaved(functions, repetitions=4, warmup_limit_s=20)
    assert times == {"a": Latency((0.25,) * 4), "b": Latency((0.5,) * 4)}
    assert calls == ["a", "b"] * 24  # 20 rounds of warm-up show that the last 10 are like the first


def test_calls_that_become_faster_are_warm_up(stopwatch: Stopwatch) -> None:
    calls: list[str] = []
    functions = {
        "a": taking(stopwatch, 0.125, calls=calls, name="a"),
        "b": taking(stopwatch, *(1.0 - step / 64 for step in range(48)), 0.25, calls=calls, name="b"),
    }
    times = time_interleaved(functions, repetitions=5, warmup_limit_s=1e3)
    assert times["b"].seconds == (0.25,) * 5


@pytest.mark.parametrize(("limit_s", "rounds"), [(0.0, 3), (5.0, 3), (17.0, 9)])
def test_what_never_becomes_stable_warms_up_to_the_limit(stopwatch: Stopwatch, limit_s: float, rounds: int) -> None:
    calls: list[str] = []
    function = taking(stopwatch, *(2.0 + step / 1000 for step in range(100)), calls=calls)
    time_interleaved({"a": function}, repetitions=2, warmup_limit_s=limit_s)
    assert len(calls) == rounds + 2


def test_the_watch_covers_the_timed_rounds_only(stopwatch: Stopwatch) -> None:
    calls: list[str] = []

    @contextmanager
    def during() -> Iterator[None]:
        calls.append("began")
        yield
        calls.append("ended")

    time_interleaved({"a": taking(stopwatch, 0.5, calls=calls)}, repetitions=3, during=during())
    assert calls == ["a"] * 20 + ["began", "a", "a", "a", "ended"]


def test_no_repetition_is_an_error() -> None:
    with pytest.raises(ValueError, match="repetitions must be at least 1, got 0"):
        time_interleaved({"a": lambda: None}, repetitions=0)


# Devices and Python's own work --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_pass_ends_when_the_device_has_finished(
    stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda if device == "cuda" else torch.mps, "synchronize", stopwatch.finish)

    def queue() -> None:
        stopwatch.now_s += 0.125  # to launch the work
        stopwatch.queued_s += 2.0

    @contextmanager
    def during() -> Iterator[None]:
        stopwatch.queued_s += 7.0  # work of another program, which must not count
        yield

    times = time_interleaved({"a": queue}, repetitions=3, warmup_limit_s=0, device=device, during=during())
    assert times["a"].seconds == (2.125,) * 3


def test_on_a_cpu_no_other_device_is_waited_for(stopwatch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", stopwatch.finish)
    stopwatch.queued_s = 7.0
    time_interleaved({"a": lambda: None}, repetitions=1, warmup_limit_s=0)
    assert stopwatch.queued_s == 7.0


def test_a_device_that_cannot_be_waited_for_has_no_times() -> None:
    with pytest.raises(ValueError, match="must be cpu, cuda or mps, got xpu"):
        time_interleaved({"a": lambda: None}, repetitions=1, device="xpu")


def test_garbage_is_not_collected_in_a_pass_and_is_again_afterwards() -> None:
    seen = []
    time_interleaved({"a": lambda: seen.append(gc.isenabled())}, repetitions=2, warmup_limit_s=0)
    assert not any(seen)
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        time_interleaved({"a": lambda: 1 / 0}, repetitions=2)
    assert gc.isenabled()
    gc.disable()
    try:
        time_interleaved({"a": lambda: None}, repetitions=1, warmup_limit_s=0)
        assert not gc.isenabled(), "who had it off finds it off"
    finally:
        gc.enable()


def test_real_work_takes_real_time() -> None:
    times = time_interleaved({"a": lambda: sum(range(20_000))}, repetitions=5, warmup_limit_s=0.1)["a"]
    assert len(times.seconds) == 5
    assert 1e-5 < min(times.seconds) < 1
