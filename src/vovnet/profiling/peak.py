"""What a device reaches at best: the two roofs of a roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import torch

from vovnet.profiling.number_format import Precision, dtype_of, matmul_precision
from vovnet.profiling.speed import synchronize

_PRODUCT_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
_COPY_MIB = (256, 1024)  # well above what caches hold
_Work = tuple[float, Callable[[], object]]


@dataclass(frozen=True)
class DevicePeak:
    """Measured on this device with its present threads: FLOP/s (two a multiply-add) of a large matrix product in the
    precision given, and bytes read and written per second by a large copy."""

    precision: str
    gflop_per_s: float
    gbyte_per_s: float


def measure_peak(device: torch.device, precision: Precision = "float32") -> DevicePeak:
    """The roofs of `device`, in about two seconds. On a fast GPU it takes up to 4 GiB of memory and gives them back.

    The fastest of several calls counts, not the median as elsewhere: what disturbs a call can only make it longer, and
    a roof is what can be reached. Sizes grow until a call is long enough to keep the whole device busy.

    Raises ValueError for a precision that the device does not have.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"the precision tf32 is one of CUDA GPUs, got the device {device}: use float32")
    with matmul_precision(precision), torch.inference_mode():
        flop_per_s = max(_rates(_products(device, dtype_of(precision)), device, long_enough_s=0.04))
        byte_per_s = _rates(_copies(device), device, long_enough_s=0.005)[-1]  # smaller ones may live in a cache
    if device.type in ("cuda", "mps"):
        torch.get_device_module(device).empty_cache()
    return DevicePeak(precision, flop_per_s / 1e9, byte_per_s / 1e9)


def _products(device: torch.device, dtype: torch.dtype) -> Iterator[_Work]:
    for size in _PRODUCT_SIZES:
        # Random, since a GPU that multiplies zeros takes less power and may clock higher.
        a, b = torch.rand(2, size, size, dtype=dtype, device=device)
        yield 2 * size**3, partial(torch.mm, a, b, out=torch.empty_like(a))


def _copies(device: torch.device) -> Iterator[_Work]:
    for size_mib in _COPY_MIB:
        # Ones, since memory of zeros that nobody wrote need not exist.
        source = torch.ones(size_mib * 2**20, dtype=torch.uint8, device=device)
        yield 2 * source.nbytes, partial(torch.empty_like(source).copy_, source)


def _rates(works: Iterable[_Work], device: torch.device, long_enough_s: float) -> list[float]:
    """Amount of work a second, of one size after the other up to the first that takes long enough."""
    rates = []
    for amount, function in works:
        seconds = _fastest_s(function, device)
        rates.append(amount / seconds)
        if seconds >= long_enough_s:
            break
    return rates


def _fastest_s(function: Callable[[], object], device: torch.device) -> float:
    """Of at least three calls, and as many as fit into 0.2 s, after one that warms up."""
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
