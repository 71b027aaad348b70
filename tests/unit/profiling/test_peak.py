from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from vovnet.profiling import peak
from vovnet.profiling.peak import measure_peak

CPU = torch.device("cpu")


class Clock:
    """A clock that only work advances; it records the calls to the device."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events: list[str] = []

    def __call__(self) -> float:
        return self.now_s

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A function that takes these seconds in turn, and the last of them for all further calls."""
        left = list(seconds)

        def function() -> None:
            self.events.append(name)
            self.now_s += left.pop(0) if len(left) > 1 else left[0]

        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(peak, "perf_counter", clock)
    monkeypatch.setattr(peak, "synchronize", lambda device: clock.events.append("synchronize"))
    return clock


def test_the_fastest_call_counts_and_the_first_does_not(clock: Clock) -> None:
    function = clock.work("work", 0.001, 0.09, 0.05, 0.08)
    assert peak._fastest_s(function, CPU) == pytest.approx(0.05)


def test_at_least_three_calls_and_no_more_than_fit(clock: Clock) -> None:
    peak._fastest_s(clock.work("long", 5.0), CPU)
    peak._fastest_s(clock.work("short", 0.019), CPU)
    assert clock.events.count("long") == 1 + 3
    assert clock.events.count("short") == 1 + 11


def test_every_call_ends_with_the_device(clock: Clock) -> None:
    peak._fastest_s(clock.work("work", 0.1), CPU)
    assert clock.events == ["work", "synchronize"] * 4


def test_sizes_grow_until_a_call_is_long_enough(clock: Clock) -> None:
    def works() -> Iterator[tuple[float, Callable[[], None]]]:
        yield 10, clock.work("small", 0.01)
        yield 100, clock.work("medium", 0.05)
        raise AssertionError("a larger one is not needed")

    assert peak._rates(works(), CPU, 0.04) == pytest.approx([1000, 2000])


def test_a_device_too_fast_for_all_sizes_has_those_rates(clock: Clock) -> None:
    works = [(10, clock.work("small", 0.01)), (80, clock.work("large", 0.02))]
    assert peak._rates(works, CPU, 0.04) == pytest.approx([1000, 4000])


def test_the_peak_is_the_best_product_and_the_largest_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([[3e9, 7e9, 5e9], [9e9, 4e9]])
    monkeypatch.setattr(peak, "_rates", lambda *args, **options: next(rates))
    measured = measure_peak(CPU, "bfloat16")
    assert (measured.precision, measured.gflop_per_s, measured.gbyte_per_s) == ("bfloat16", 7, 4)


def test_work_is_counted_as_two_a_multiply_add_and_bytes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "_PRODUCT_SIZES", (16,))
    monkeypatch.setattr(peak, "_COPY_MIB", (1,))
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        ((flop, product),) = peak._products(CPU, precision)
        assert flop == 2 * 16 * 16 * 16
        assert product().dtype == precision
    ((moved, copy),) = peak._copies(CPU)
    assert moved == 2 * 2**20
    assert copy().numel() * copy().element_size() == 2**20


def test_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "_PRODUCT_SIZES", (256, 512))
    monkeypatch.setattr(peak, "_COPY_MIB", (64,))
    measured = measure_peak(CPU)
    assert measured.precision == "float32"
    assert 0.1 < measured.gflop_per_s < 1e5
    assert 0.1 < measured.gbyte_per_s < 1e4


def test_tf32_is_for_cuda() -> None:
    with pytest.raises(ValueError, match="tf32 needs a CUDA GPU, got the device cpu"):
        measure_peak(CPU, "tf32")
