"""Processes that load batches ahead, watched: one that dies ends the run with a sentence, one that hangs is reported.

PyTorch's DataLoader notices some deaths only, waits for ever for a batch that found no room in shared memory, and for
a process that was stopped in the middle of a message. So a thread asks it for batches, and whoever needs them waits for
that thread with an eye on the processes.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vovnet.data.batches import shared_memory
from vovnet.errors import counted
from vovnet.printing import line

T = TypeVar("T")

PATIENCE_S = 300.0  # a slow disk may take long, so this ends in a warning only
_MOST_AHEAD = 4 * 2**30  # bytes of batches that wait for one training process
_POLL_S = 0.5
_GRACE_S = 3.0
_LOG = logging.getLogger("vovnet")
_NO_WORKERS = "load without workers (workers=0 in a config, --workers 0)"


def load_batches(
    dataset: Dataset[Any],
    picks: Iterable[list[Any]],
    *,
    workers: int,
    collate: Callable[[Any], T],
    name_of: Callable[[Any], str],
    batch_bytes: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    mapped: Path | None = None,
) -> Batches[T]:
    """The batches in the order of `picks`. The processes start now, not with the first batch.

    picks: the keys of the images of each batch.
    workers: loader processes; 0 loads in this process.
    name_of: the image that a key stands for, for warnings.
    batch_bytes: what a batch takes in shared memory, at least or on average, if that is known. `prefetch` is lowered to
        what fits, and to 4 GiB in all, but not below one batch.
    prefetch: batches that each process loads ahead.
    mapped: a file that the processes have mapped into memory: one that reads what is no longer there dies.

    Raises OSError with what helps, here or with a batch, if a process dies, cannot start, or lacks shared memory.
    """
    recorded = _Recorded(picks)
    loader = DataLoader(
        dataset,
        batch_sampler=recorded,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_prepare,
        prefetch_factor=_affordable(batch_bytes, workers, prefetch) if workers else None,
    )
    return Batches(_start(loader), recorded.pending, name_of, mapped)


class Batches(Generic[T]):
    """An iterator of batches; `close` ends its processes, and so does the end of its life.

    batches: of a DataLoader. Only the thread keeps it, because its own end may wait for a process that hangs.
    pending: the keys of the batches that have not come yet.
    """

    def __init__(
        self,
        batches: Iterator[T],
        pending: deque[list[Any]],
        name_of: Callable[[Any], str],
        mapped: Path | None = None,
    ) -> None:
        self._pending, self._name_of, self._mapped = pending, name_of, mapped
        self._processes: list[BaseProcess] = list(getattr(batches, "_workers", ()))
        self._results: queue.Queue[tuple[str, Any]] = queue.Queue(1)
        self._stopped = threading.Event()
        self._here = None if self._processes else batches
        if self._processes:
            arguments = ([batches], self._results, self._stopped)
            self._thread = threading.Thread(target=_read, args=arguments, name="batches", daemon=True)
            self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._here is not None:
            return next(self._here)
        if self._stopped.is_set():
            raise StopIteration
        kind, value = self._wait()
        if kind == "batch":
            self._pending.popleft()
            return value
        ending = StopIteration() if kind == "end" else _explained(value, self._processes, self._mapped)
        self.close()
        raise ending

    def close(self) -> None:
        if self._here is not None or self._stopped.is_set():
            return
        self._stopped.set()
        if not _dead(self._processes):
            self._thread.join(_GRACE_S)  # it ends the processes
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join(_GRACE_S)

    def __del__(self) -> None:
        if hasattr(self, "_thread") and not sys.is_finalizing():
            self.close()

    def _wait(self) -> tuple[str, Any]:
        """What the thread reads next. OSError if a process has died."""
        began, warnings = time.monotonic(), 0
        while True:
            with suppress(queue.Empty):
                return self._results.get(timeout=_POLL_S)
            if dead := _dead(self._processes):
                self.close()
                raise _death(dead[0], self._mapped)
            seconds = time.monotonic() - began
            if seconds > PATIENCE_S * (warnings + 1):
                warnings += 1
                keys = [key for keys in list(self._pending) for key in keys]
                names = ", ".join(line(self._name_of(key), 40) for key in keys[:8]) + (", …" if keys[8:] else "")
                _LOG.warning(
                    "no batch has come for %.0f s although the loader processes are alive: is the disk or the network "
                    "slow? They are at %s",
                    seconds,
                    names,
                )


@dataclass(eq=False)
class _Recorded(Sampler[list[Any]]):
    """The picks, of which it keeps those that have not come back as batches."""

    picks: Iterable[list[Any]]
    pending: deque[list[Any]] = field(default_factory=deque)

    def __iter__(self) -> Iterator[list[Any]]:
        for keys in self.picks:
            self.pending.append(keys)
            yield keys


def _prepare(_: int) -> None:
    """Prepares a loader process: it uses one core, and only its parent stops it.

    Ctrl-C and the stop signal of a batch system go to a whole process group, so the loader process leaves its group. A
    batch that cannot be sent ends the process with the reason, because its parent would wait for it for ever.
    """
    torch.set_num_threads(1)
    if hasattr(os, "setsid"):
        os.setsid()
    if hasattr(signal, "SIGBUS"):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # torch's handler prints, and the parent says more
    Queue._on_queue_feeder_error = staticmethod(_exit_with_reason)  # type: ignore[attr-defined]
    sys.excepthook = _on_uncaught


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Ends a process without files to open: its thread that hands over memory would print and try again for ever."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(errno.EMFILE)
    sys.__excepthook__(kind, error, trace)


def _exit_with_reason(error: BaseException, _: object) -> None:
    number = getattr(error, "errno", None)
    stated = re.search(r"\((\d{1,3})\)\s*$", str(error))  # torch ends with "No space left on device (28)"
    os._exit(number or (int(stated[1]) if stated else 1))


def _start(loader: DataLoader[T]) -> Iterator[T]:
    """The iterator of a loader, with its processes."""
    before = set(multiprocessing.active_children())
    in_main_thread = threading.current_thread() is threading.main_thread()
    on_child = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") and in_main_thread else None
    try:
        batches = iter(loader)
    except (OSError, RuntimeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if not loader.num_workers or (number is None and "thread" not in str(error)):
            raise
        _discard(error)
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
        raise OSError(
            f"the system starts no more loader processes ({line(str(error), 80)}): lower workers or raise `ulimit -u` "
            f"and `ulimit -n`, or {_NO_WORKERS}"
        ) from None
    if on_child is not None:  # torch's would raise the death of a process anywhere, as in the midst of a step
        signal.signal(signal.SIGCHLD, on_child)
    return batches


def _discard(error: BaseException) -> None:
    """Lets go of a half-built iterator, whose own end prints a traceback."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
    finally:
        sys.unraisablehook = hook


def _read(holder: list[Iterator[T]], results: queue.Queue[tuple[str, Any]], stopped: threading.Event) -> None:
    batches = holder.pop()
    kind = "batch"
    while kind == "batch" and not stopped.is_set():
        value: Any = None
        try:
            value = next(batches)
        except StopIteration:
            kind = "end"
        except BaseException as error:
            kind, value = "error", error
        while not stopped.is_set():
            try:
                results.put((kind, value), timeout=_POLL_S)
                break
            except queue.Full:
                pass


def _dead(processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    return [process for process in processes if process.exitcode not in (None, 0)]


def _explained(error: BaseException, processes: Sequence[BaseProcess], mapped: Path | None) -> BaseException:
    """The error of the thread, or what lies behind it: a death, or no more open files."""
    text = str(error)
    if text.startswith("Caught "):  # raised by the dataset, in a process that lives on
        return error
    if "Too many open files" in text or "ancdata" in text:
        return _no_files("this process")
    deadline = time.monotonic() + 1
    while isinstance(error, RuntimeError | OSError | EOFError) and time.monotonic() < deadline:
        if dead := [process for process in processes if process.exitcode not in (None, 0, -signal.SIGTERM)]:
            return _death(dead[0], mapped)
        time.sleep(0.05)
    ended = isinstance(error, ConnectionError | EOFError) or "DataLoader" in text
    return OSError(f"a loader process ended early ({line(text, 100)}): {_NO_WORKERS}") if ended else error


def _death(process: BaseProcess, mapped: Path | None) -> OSError:
    status, bus_error = process.exitcode or 0, -getattr(signal, "SIGBUS", 7)
    if status == bus_error and mapped is not None:
        return OSError(
            f"a loader process could not read {line(str(mapped), 150)} (cut short, or a bad disk: start again, and it "
            f"is checked), or found no room in shared memory: {_shm_remedy()}"
        )
    if status in (errno.ENOSPC, bus_error):
        return OSError(f"a loader process found no room in shared memory: {_shm_remedy()}")
    if status == errno.EMFILE:
        return _no_files("a loader process")
    if status == errno.EFBIG:
        return OSError(f"a loader process may not make files of this size (`ulimit -f`): raise it, or {_NO_WORKERS}")
    if status in (errno.ENOMEM, -getattr(signal, "SIGKILL", 9)):
        return OSError(
            "a loader process was killed, as a system does that runs out of memory: lower workers or the batch size, "
            f"or {_NO_WORKERS}"
        )
    how = f"signal {-status}" if status < 0 else f"status {status}"
    return OSError(f"a loader process ended unexpectedly ({how}): {_NO_WORKERS} to see the reason")


def _no_files(who: str) -> OSError:
    return OSError(f"{who} may not open more files: raise the limit, as with `ulimit -n 4096`, or {_NO_WORKERS}")


def _affordable(batch_bytes: int, workers: int, prefetch: int) -> int:
    """`prefetch`, or fewer batches where shared memory has too little room. OSError if there is none for one each."""
    room = shared_memory.batches_ahead(batch_bytes)
    if room is None:
        return prefetch
    if room < workers:
        need_mib = shared_memory.bytes_needed(batch_bytes, workers) / 2**20
        raise OSError(
            f"{counted(workers, 'loader process', 'loader processes')} need {need_mib:,.0f} MiB of shared memory: "
            f"{_shm_remedy()}"
        )
    return min(prefetch, room // workers, max(1, _MOST_AHEAD // (batch_bytes * workers)))


def _shm_remedy() -> str:
    free = shared_memory.free_bytes()
    has = "" if free is None else f"{shared_memory.FOLDER} has {free / 2**20:,.0f} MiB free; "
    return f"{has}give it more, as with `docker run --shm-size=2g`, lower workers or the batch size, or {_NO_WORKERS}"
