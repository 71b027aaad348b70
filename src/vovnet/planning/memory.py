"""How much memory there is for training, and how much a training step takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from vovnet.profiling.memory import MIB, peak_resident_mib, reset_peak_resident

USABLE = 0.6  # of what is free: loader processes, evaluation and other programs need some too


def available_mib(device: torch.device, root: Path = Path("/")) -> float | None:
    """Free memory of the device; for a CPU what the system and the container leave. None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / MIB
    limits = []
    with suppress(OSError, ValueError):
        meminfo = (root / "proc/meminfo").read_text(encoding="utf-8")
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)
        limits += [int(found[1]) / 1024] if found else []
    with suppress(OSError, ValueError):  # of a container; "max" is no number
        group = root / "sys/fs/cgroup"
        most, used = (int((group / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
        parts = (group / "memory.stat").read_text(encoding="utf-8")
        cached = re.search(r"^file (\d+)$", parts, re.MULTILINE)  # given up when needed
        limits.append(max(0, most - used + (int(cached[1]) if cached else 0)) / MIB)
    return min(limits, default=None)


def peak_of(run: Callable[[], object], device: torch.device) -> float | None:
    """The memory that `run` takes at its peak beside what is held before, in MiB. None where nothing tells."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    can_tell = device.type == "cpu" and reset_peak_resident()
    held = peak_resident_mib() if can_tell else 0.0
    run()
    return max(0.0, peak_resident_mib() - held) if can_tell else None


def choose_micro_batch(batch_size: int, mib_per_image: float | None, available: float | None) -> int:
    """The largest part of a batch, one of its halves, quarters, …, that fits into the usable memory."""
    size = batch_size
    if mib_per_image is None or available is None:
        return size
    while size % 2 == 0 and size * mib_per_image > USABLE * available:
        size //= 2
    return size
