"""What differs when torchrun starts several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vovnet.errors import UsageError


@dataclass(frozen=True)
class Workers:
    """This process and its place among those that torchrun started."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        if self.world_size == 1:
            return flag
        shared = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return bool(shared.item())

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Give every process the norm statistics of the main process. Until then each has those of its own images."""
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every process, in the order of the ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values


def choose_device(name: str) -> torch.device:
    """The device of this name. "auto" is CUDA if available, else MPS, else the CPU.

    In a process that torchrun started, "cuda" is the GPU of this process.
    """
    launched = dist.is_torchelastic_launched()
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        if launched:
            available["mps"] = False  # without CUDA the processes use gloo, which cannot reduce on MPS
        name = next(device_type for device_type, is_available in available.items() if is_available)
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available:
        raise UsageError(f"device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if not available[device.type]:
        raise UsageError(f"device {name!r} is not available: torch {torch.__version__} finds none; use device=cpu")
    if launched and device.type == "cuda":
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def workers(device_name: str) -> Iterator[Workers]:
    """Join the processes that torchrun started (nccl on GPUs, gloo on CPUs), or be the only process."""
    device = choose_device(device_name)
    if not dist.is_torchelastic_launched():
        yield Workers(0, 1, device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
