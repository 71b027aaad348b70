"""What differs when torchrun starts several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from vovnet.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process and its place among those that torchrun started."""

    rank: int
    world_size: int
    device: torch.device
    host: dist.ProcessGroup | None = None  # exchanges values in main memory: no GPU waits for them

    @property
    def is_main(self) -> bool:
        return self.rank == 0

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
        dist.all_gather_object(values, value, group=self.host)
        return values

    def once(self, compute: Callable[[], T]) -> T:
        """What `compute` returns in the main process; the others wait for it."""
        values: list[Any] = [compute() if self.is_main else None]
        if self.world_size > 1:
            dist.broadcast_object_list(values, 0, group=self.host)
        return values[0]


class StopVotes:
    """Whether a process was asked to stop. All get the same answer in the same step, and none waits for another."""

    def __init__(self, group: Workers) -> None:
        self.group = group
        self._shared = torch.tensor(0)
        self._vote: dist.Work | None = None

    def any(self, flag: bool) -> bool:
        """Whether `flag` was true in any process, this time with one process, last time with several."""
        if self.group.world_size == 1:
            return flag
        stop = self.close()
        self._shared = torch.tensor(int(flag))
        self._vote = dist.all_reduce(self._shared, op=dist.ReduceOp.MAX, group=self.group.host, async_op=True)
        return stop

    def close(self) -> bool:
        """The answer to the last vote, which is then over."""
        if self._vote is None:
            return False
        self._vote.wait()
        self._vote = None
        return bool(self._shared)


@contextmanager
def stop_votes_of(group: Workers) -> Iterator[StopVotes]:
    """Votes whose last one is over in the end, unless an error ends them: another process may not come to it then."""
    votes = StopVotes(group)
    yield votes
    votes.close()


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
        yield Workers(
            dist.get_rank(), dist.get_world_size(), device, cast(dist.ProcessGroup, dist.new_group(backend="gloo"))
        )
    finally:
        dist.destroy_process_group()
