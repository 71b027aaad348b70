"""Timing runtimes fairly: each in a process of its own, in turn, only one of them running at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeVar

from vovnet.export.measuring.worker_process import WorkerError, cpu_seconds
from vovnet.profiling.clock import Clock
from vovnet.profiling.machine import Counters, Machine
from vovnet.profiling.speed import MIN_WARMUP_ROUNDS, STABLE_CALLS, Latency, is_stable
from vovnet.profiling.surroundings import Watch

KINDS = ("network", "boxes")
PASSES = 5  # of one turn, after one that does not count: the caches hold what ran before


class Timed(Protocol):
    """As `Worker`."""

    def seconds(self, what: str, passes: int) -> list[float]: ...


T = TypeVar("T", bound=Timed)


def time_in_turn(
    workers: dict[str, T],
    *,
    repetitions: int,
    warmup_limit_s: float = 10.0,
    during: AbstractContextManager[object] | None = None,
    on_round: Callable[[int], object] = lambda done: None,
) -> tuple[dict[str, dict[str, Latency]], dict[str, str]]:
    """The times of the network and from pixels to boxes, by the name of the worker; and why others gave none.

    In each round each worker has a turn for each kind of time: a pass that does not count, then `PASSES`. Warm-up
    rounds come first, as in `time_interleaved`. A worker that fails is removed from `workers`; the others go on.

    on_round: called with the number of timed passes so far, of each worker.
    """
    faults: dict[str, str] = {}
    warm: dict[tuple[str, str], list[float]] = {(name, kind): [] for name in workers for kind in KINDS}
    timed: dict[tuple[str, str], list[float]] = {key: [] for key in warm}

    def play(passes: int, seconds: Mapping[tuple[str, str], list[float]]) -> None:
        for name, worker in list(workers.items()):
            try:
                for kind in KINDS:
                    seconds[name, kind].extend(worker.seconds(kind, passes + 1)[1:])
            except WorkerError as fault:
                faults[name] = str(fault)
                del workers[name]

    def is_warm() -> bool:
        return all(is_stable(warm[name, kind], STABLE_CALLS) for name in workers for kind in KINDS)

    rounds, end_s = 0, perf_counter() + warmup_limit_s
    while workers and (rounds < MIN_WARMUP_ROUNDS or (perf_counter() < end_s and not is_warm())):
        play(PASSES, warm)
        rounds += 1
    with during or nullcontext():
        for done in range(0, repetitions, PASSES):
            play(min(PASSES, repetitions - done), timed)
            on_round(min(done + PASSES, repetitions))
    return {name: {kind: Latency(tuple(timed[name, kind])) for kind in KINDS} for name in workers}, faults


class MachineOfWorkers(Machine):
    """The CPUs of this machine, for which the workers are no other processes."""

    def __init__(self, pids: Iterable[int], root: Path = Path("/")) -> None:
        super().__init__(root)
        self._used_s = dict.fromkeys(pids, 0.0)

    def counters(self, time_s: float) -> Counters:
        own = super().counters(time_s)
        for pid, before_s in self._used_s.items():
            self._used_s[pid] = max(before_s, cpu_seconds(pid))  # one that has ended says 0
        return own._replace(own_cpu_s=own.own_cpu_s + sum(self._used_s.values()))


def watch_workers(pids: Iterable[int]) -> Watch:
    """Observes the machine while these processes are timed."""
    machine = MachineOfWorkers(pids)
    return Watch(machine, machine.state, Clock())
