"""Loader processes by the cores that a process may really use."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.batches import loaders, shared_memory, worker_count
from vovnet.data.batches.worker_count import choose_workers, usable_cores


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
    ("free", "workers"),
    [(None, 15), (10**12, 15), (17 * 100, 15), (17 * 100 - 1, 14), (6 * 100, 4), (3 * 100, 1), (2 * 100, 0), (0, 0)],
)
def test_no_more_run_than_shared_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free: int | None, workers: int
) -> None:
    """With batches of 100 bytes, of which two more are on their way. What is chosen can be started."""
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 16)
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: free)
    assert choose_workers("cuda", 100) == workers
    said = [record.getMessage() for record in caplog.records]
    if workers == 15:
        assert not said
    else:
        (sentence,) = said
        assert sentence.startswith("/dev/shm is too small for 15 loader processes")
        assert f": {workers} will run; give it more" in sentence
    if workers:
        assert loaders._affordable(100, workers, 4) >= 1
    assert choose_workers("cuda") == 15  # of batches of unknown size
    assert choose_workers("cpu", 100) == min(2, workers)


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 64)
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 2000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert choose_workers("cuda", 100) == 3


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
