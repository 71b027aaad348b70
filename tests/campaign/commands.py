"""Runs `vovnet` commands in forked children of a process that has imported everything, so that one starts at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

LONGEST_S = 240.0


@dataclass(frozen=True)
class Check:
    """One trial of a section: what was tried, and why it failed or ""."""

    section: str
    name: str
    fault: str = ""


@dataclass(frozen=True)
class Finished:
    """status: the exit status, or the negative number of the signal."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float


def vovnet(
    arguments: Sequence[object],
    folder: Path,
    *,
    kill_after_s: float | None = None,
    armed: Callable[[], bool] = lambda: True,
    prepare: Callable[[], object] = lambda: None,
) -> Finished:
    """The end of `vovnet ARGUMENTS`, run in `folder`, or killed with all its processes after some seconds.

    armed: the time before the kill begins when this becomes true.
    prepare: called in the child before the command.
    """
    return forked(lambda: _main(arguments), folder, kill_after_s=kill_after_s, armed=armed, prepare=prepare)


def forked(
    work: Callable[[], object],
    folder: Path,
    *,
    kill_after_s: float | None = None,
    armed: Callable[[], bool] = lambda: True,
    prepare: Callable[[], object] = lambda: None,
) -> Finished:
    """As `vovnet`, for any function. What it raises, but SystemExit, is status 70."""
    logs = [folder / ".stdout", folder / ".stderr"]
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(work, folder, logs, prepare)
    try:
        status = _wait(child, LONGEST_S if kill_after_s is None else kill_after_s, armed)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # its loader processes
    seconds = time.monotonic() - begun
    outputs = [log.read_bytes() if log.exists() else b"" for log in logs]
    for log in logs:
        log.unlink(missing_ok=True)
    return Finished(status, *outputs, seconds)


def _wait(child: int, kill_after_s: float, armed: Callable[[], bool]) -> int:
    end = None
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is None and armed():
            end = time.monotonic() + kill_after_s
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.003)


def _run(work: Callable[[], object], folder: Path, logs: Sequence[Path], prepare: Callable[[], object]) -> NoReturn:
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        for stream, log in zip((1, 2), logs, strict=True):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream)
        prepare()
        sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", closefd=False) for stream in (1, 2))
        work()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)


def _main(arguments: Sequence[object]) -> None:
    import logging

    from vovnet.cli.main import main

    logging.getLogger().handlers.clear()
    sys.argv = ["vovnet", *map(str, arguments)]
    main()


def fresh(arguments: Sequence[object], folder: Path, **environment: str) -> Finished:
    """As `vovnet`, in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "vovnet", *map(str, arguments)]
    begun = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, timeout=LONGEST_S)
    return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)


def contents(folder: Path, *, but: Sequence[str] = (".stdout", ".stderr")) -> dict[str, bytes]:
    """Path below the folder → content, of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in but)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def problem_of_message(finished: Finished, *, status: int = 1) -> str:
    """Why the end of a command is not one sentence on stderr with this status, or ""."""
    lines = [line for line in finished.stderr.decode(errors="replace").splitlines() if line.startswith("vovnet: ")]
    if finished.status != status:
        return f"exit status {finished.status}, expected {status}: {finished.stderr[-300:]!r}"
    if b"Traceback" in finished.stderr or not lines:
        return f"no sentence: {finished.stderr[-300:]!r}"
    return f"{len(lines[-1])} characters: {lines[-1][:200]!r}" if len(lines[-1]) > 508 else ""
