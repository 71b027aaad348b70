"""Which of the processes that NVML lists on a board is this one.

In a container NVML may list the numbers of the host, where this process has another number than inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

Listed = Mapping[int, int | None]  # number of a process → its bytes on the board, None where NVML does not tell
PROBE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class OwnProcess:
    """What is known of this process among the listed ones.

    numbers: those under which it may be listed: of the process, inside and outside of containers as far as they can be
        known, and of its threads, which some drivers list instead.
    on_board: whether it holds memory of the board, so that it must be one of the listed.
    """

    numbers: frozenset[int]
    on_board: bool = False

    def among(self, listed: Listed) -> set[int]:
        """The listed numbers that are this process."""
        return set(listed) & self.numbers

    def others(self, listed: Listed) -> tuple[int, ...] | None:
        """The numbers of all other processes; None if this process cannot be told from them."""
        own = self.among(listed)
        if self.on_board and not own:
            return None
        return tuple(sorted(set(listed) - own))

    def bytes_of(self, listed: Listed) -> int | None:
        """What this process holds on the board; None if it is not recognised, or NVML does not tell."""
        held = [listed[number] or 0 for number in self.among(listed)]
        return sum(held) or None


def own_numbers(proc: Path = Path("/proc")) -> frozenset[int]:
    """The numbers of this process in all namespaces that it can see, and of its threads."""
    numbers = {os.getpid()}
    try:
        status = (proc / "self/status").read_text(encoding="utf-8").splitlines()
        numbers.update(int(number) for line in status if line.startswith("NSpid:") for number in line.split()[1:])
        numbers.update(int(task.name) for task in (proc / "self/task").iterdir())
    except (OSError, ValueError):
        pass  # not Linux
    return frozenset(numbers)


def find_own_process(
    list_processes: Callable[[], Listed | None],
    hold: Callable[[], AbstractContextManager[object]],
    numbers: frozenset[int] | None = None,
) -> OwnProcess:
    """This process, recognised by its numbers, or else by what changes in the list when it takes memory of the board.

    list_processes: None if there is no list.
    hold: a context in which this process holds `PROBE_BYTES` more of the board than before. Raises RuntimeError or
        AssertionError if it cannot.
    """
    numbers = own_numbers() if numbers is None else numbers
    before = list_processes()
    try:
        with hold():
            during = list_processes()
    except (RuntimeError, AssertionError):  # no memory is free; PyTorch without CUDA
        return OwnProcess(numbers)
    if during is None or not numbers.isdisjoint(during):
        return OwnProcess(numbers, on_board=True)
    changed = {number for number in during if before is not None and _has_grown(number, before, during)}
    return OwnProcess(numbers | (changed if len(changed) == 1 else set()), on_board=True)


def _has_grown(number: int, before: Listed, during: Listed) -> bool:
    """Whether a process is new in the list or took as much memory as this one did."""
    if number not in before:
        return True
    held, holds = before[number], during[number]
    return held is not None and holds is not None and PROBE_BYTES <= holds - held < 2 * PROBE_BYTES


@contextmanager
def holding(device: torch.device) -> Iterator[None]:
    """`PROBE_BYTES` of the device are held inside, and given back to its driver afterwards.

    The allocator must hold no free memory before, or it takes them from that.
    """
    held = torch.empty(PROBE_BYTES, dtype=torch.uint8, device=device)
    torch.cuda.synchronize(device)
    try:
        yield
    finally:
        del held
        torch.cuda.empty_cache()
