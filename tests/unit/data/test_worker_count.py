"""Loader processes by the cores that a process may really use."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data import worker_count
from vovnet.data.worker_count import choose_workers, usable_cores


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(1, 1, 1), (2, 1, 1), (16, 1, 15), (64, 1, 16), (16, 2, 7), (64, 8, 7), (4, 8, 1)],
)
def test_on_a_gpu_one_core_is_left_to_each_training_process(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert choose_workers("cuda") == workers
    assert choose_workers("cpu") == choose_workers("mps") == 2


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 6), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 6), ("?", 6), (None, 6)],
)
def test_a_container_may_have_fewer_cores_than_its_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, cores: int
) -> None:
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(worker_count, "_GROUP", tmp_path / "cpu.max")
    monkeypatch.setattr(worker_count.os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert usable_cores() == cores
