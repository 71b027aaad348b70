"""Whose turn it is, which passes count, and what a worker that fails costs the others."""

from __future__ import annotations

import os
import time
from pathlib import Path

from vovnet.export.measuring.timing import KINDS, PASSES, MachineOfWorkers, time_in_turn
from vovnet.export.measuring.worker_process import WorkerError


class Fake:
    """Takes `network_s` for the network and twice as long for boxes; the first pass of a turn is slow."""

    def __init__(
        self, name: str, calls: list[tuple[str, str, int]], network_s: float, turns: int | None = None
    ) -> None:
        self.name, self.calls, self.network_s, self.turns = name, calls, network_s, turns

    def seconds(self, what: str, passes: int) -> list[float]:
        self.calls.append((self.name, what, passes))
        if self.turns is not None:
            self.turns -= 1
            if self.turns < 0:
                raise WorkerError("it is broken")
        own_s = self.network_s * (1 if what == "network" else 2)
        return [1000.0, *[own_s] * (passes - 1)]


def test_turns_alternate_and_their_first_pass_does_not_count() -> None:
    calls: list[tuple[str, str, int]] = []
    workers = {"a": Fake("a", calls, 0.1), "b": Fake("b", calls, 0.2)}
    done: list[int] = []
    times, faults = time_in_turn(workers, repetitions=7, warmup_limit_s=0, on_round=done.append)
    assert faults == {}
    warm_up, timed = calls[: 3 * 4], calls[3 * 4 :]
    assert {passes for _, _, passes in warm_up} == {PASSES + 1}
    order = [("a", "network"), ("a", "boxes"), ("b", "network"), ("b", "boxes")]
    assert [call[:2] for call in warm_up] == 3 * order
    assert timed == [(*who, passes + 1) for passes in (5, 2) for who in order]
    assert done == [5, 7]
    assert {name: {kind: latency.seconds for kind, latency in kinds.items()} for name, kinds in times.items()} == {
        "a": {"network": (0.1,) * 7, "boxes": (0.2,) * 7},
        "b": {"network": (0.2,) * 7, "boxes": (0.4,) * 7},
    }


def test_a_worker_that_fails_leaves_and_the_others_go_on() -> None:
    calls: list[tuple[str, str, int]] = []
    workers = {"a": Fake("a", calls, 0.1, turns=7), "b": Fake("b", calls, 0.2)}
    times, faults = time_in_turn(workers, repetitions=10, warmup_limit_s=0)
    assert faults == {"a": "it is broken"}
    assert list(workers) == list(times) == ["b"]
    assert {kind: len(times["b"][kind].seconds) for kind in KINDS} == {"network": 10, "boxes": 10}


def test_without_a_worker_there_is_no_time() -> None:
    assert time_in_turn({}, repetitions=10) == ({}, {})


def test_workers_are_no_other_processes(tmp_path: Path) -> None:
    stat = tmp_path / "proc" / "stat"
    stat.parent.mkdir()
    stat.write_text("cpu  1000 0 0 0 0 0 0 0\n")
    alone, ours = MachineOfWorkers([], tmp_path), MachineOfWorkers([os.getpid()], tmp_path)
    until_s = time.process_time() + 0.05
    while time.process_time() < until_s:
        pass
    other_s = alone.counters(0.0).other_cpu_s, ours.counters(0.0).other_cpu_s
    assert other_s[0] is not None
    assert other_s[1] is not None
    assert other_s[0] - other_s[1] >= 0.05


def test_what_a_worker_used_still_counts_after_it_has_ended(tmp_path: Path) -> None:
    machine = MachineOfWorkers([2**30], tmp_path)  # no process has this id
    machine._used_s[2**30] = 7.0
    assert machine.counters(0.0).own_cpu_s >= 7.0
