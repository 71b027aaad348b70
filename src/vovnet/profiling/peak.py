"""Measuring the peak of a device for the roofline: FLOP/s of a matrix product and bytes per second of a copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch

from vovnet.profiling.number_format import Precision, dtype_of, matmul_precision
from vovnet.profiling.ranges import Positive
from vovnet.profiling.speed import synchronize

_PRODUCT_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
_COPY_MIB = (256, 1024)  # much larger than caches
_Work = tuple[float, Callable[[], object]]  # FLOPs or bytes, and a function that does them


@dataclass(frozen=True)
class DevicePeak:
    """The measured peak of a device with the current number of threads.

    gflop_per_s: of a large matrix product, two FLOPs per multiply-add.
    gbyte_per_s: read and written by a large copy.
    """

    precision: str
    gflop_per_s: Positive
    gbyte_per_s: Positive


def measure_peak(device: torch.device, precision: Precision = "float32") -> DevicePeak:
    """The peak of `device`. Takes about two seconds, and temporarily up to 4 GiB of memory on a fast GPU.

    The fastest of several calls counts, not the median as elsewhere: a disturbance can only make a call longer, and a
    peak is what the device can reach. The size grows until a call is long enough to keep the whole device busy.

    Raises ValueError for a precision that the device does not support.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"the precision tf32 needs a CUDA GPU, got the device {device}: use float32")
    with matmul_precision(precision), torch.inference_mode():
        flop_per_s = max(_rates(_products(device, dtype_of(precision)), device, long_enough_s=0.04))
        byte_per_s = _rates(_copies(device), device, long_enough_s=0.005)[-1]  # a smaller copy may fit into a cache
    if device.type in ("cuda", "mps"):
        torch.get_device_module(device).empty_cache()
    return DevicePeak(precision, flop_per_s / 1e9, byte_per_s / 1e9)


def _products(device: torch.device, dtype: torch.dtype) -> Iterator[_Work]:
    for size in _PRODUCT_SIZES:
        # Random numbers, since a GPU that multiplies zeros draws less power and may run at a higher clock.
        a, b = torch.rand(2, size, size, dtype=dtype, device=device)
        yield 2 * size**3, partial(torch.mm, a, b, out=torch.empty_like(a))


def _copies(device: torch.device) -> Iterator[_Work]:
    for size_mib in _COPY_MIB:
        # Ones, since the system need not provide memory for zeros that were never written.
        source = torch.ones(size_mib * 2**20, dtype=torch.uint8, device=device)
        yield 2 * source.nbytes, partial(torch.empty_like(source).copy_, source)


def _rates(works: Iterable[_Work], device: torch.device, long_enough_s: float) -> list[float]:
    """Work per second for each size, up to the first size whose call takes at least `long_enough_s`."""
    rates = []
    for amount, function in works:
        seconds = _fastest_s(function, device)
        rates.append(amount / seconds)
        if seconds >= long_enough_s:
            break
    return rates


def _fastest_s(function: Callable[[], object], device: torch.device) -> float:
    """The time of the fastest call among at least three, or as many as fit into 0.2 s, after one warm-up call."""
    function()
    synchronize(device)
    seconds: list[float] = []
    end = perf_counter() + 0.2
    while len(seconds) < 3 or perf_counter() < end:
        started = perf_counter()
        function()
        synchronize(device)
        seconds.append(perf_counter() - started)
    return min(seconds)
