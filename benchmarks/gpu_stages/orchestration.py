"""Running stages one after the other within a budget, each in a process of its own.

A stage that crashes, hangs or runs out of memory harms no other: it is stopped when its time is over, and the others
run. Each line that a stage prints is shown with the seconds that are left of the budget.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

GRACE_S = 15.0  # after its time, before a stage is asked to stop
LAST_S = 8.0  # from the request to stop until it is killed
TAIL_LINES = 40
SOME_FAILED = 4  # status of a stage whose record says what failed in it
_SOME_FAILED = "something failed: its record says what"


@dataclass(frozen=True)
class Planned:
    """A stage to run.

    seconds: the most that it may take; least_s: with less it does not begin.
    command: what to run, given the time.monotonic() at which it must be done. All processes of a machine share that
        clock, and a stage takes seconds to start.
    failed: called with the reason if the process did not end well; not after SOME_FAILED.
    skipped: called with the reason if it does not begin.
    """

    name: str
    seconds: float
    least_s: float
    command: Callable[[float], Sequence[str]]
    failed: Callable[[str], object]
    skipped: Callable[[str], object]


class Stopped(Exception):  # noqa: N818, it is no error
    """The user or the system asked to stop."""


def run_stages(
    stages: Sequence[Planned], budget_s: float, *, show: Callable[[str], object] = print, grace_s: float = GRACE_S
) -> bool:
    """Whether all stages ended well. Raises Stopped after Ctrl-C or SIGTERM, when the running stage has ended."""
    end_s = time.monotonic() + budget_s
    well = True

    def say(name: str, text: str) -> None:
        show(f"{max(0.0, end_s - time.monotonic()):4.0f} s left │ {name} │ {text}")

    for stage in stages:
        left_s = end_s - time.monotonic()
        if left_s < stage.least_s:
            reason = f"no time left: it needs {stage.least_s:.0f} s, {max(0.0, left_s):.0f} s are left"
            say(stage.name, reason)
            stage.skipped(reason)
            well = False
            continue
        seconds = min(stage.seconds, left_s)
        say(stage.name, f"begins; it has {seconds:.0f} s")
        reason = _run(stage, seconds, min(seconds + grace_s, left_s), say)
        if reason is not None:
            say(stage.name, reason.splitlines()[0])
            if reason != _SOME_FAILED:
                stage.failed(reason)
            well = False
    return well


def _run(stage: Planned, seconds: float, limit_s: float, say: Callable[[str, str], object]) -> str | None:
    """Why the stage did not end well; None if it did."""
    process = subprocess.Popen(
        stage.command(time.monotonic() + seconds),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that what the stage has started can be ended with it
    )
    assert process.stdout is not None
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_pass_on, args=(process.stdout, tail, lambda text: say(stage.name, text)))
    reader.daemon = True
    reader.start()
    reason = None
    with _raising_stopped():
        try:
            process.wait(limit_s)
            _kill_group(process)  # what it has started may hold its output open, or the card's memory
        except subprocess.TimeoutExpired:
            reason = f"stopped: it was not done after {limit_s:.0f} s"
            _end(process)
        except Stopped:
            _end(process)
            stage.failed("stopped by a signal")
            raise
    reader.join(2.0)  # not longer: a process that has left the group may hold the other end open
    if reason is None and process.returncode == SOME_FAILED:
        return _SOME_FAILED
    if reason is None and process.returncode != 0:
        status = process.returncode
        reason = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
    return None if reason is None else "\n".join([reason, *tail])


def _pass_on(stream: IO[str], tail: deque[str], say: Callable[[str], object]) -> None:
    with stream:
        for text in stream:
            tail.append(text.rstrip())
            say(text.rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    """Ask the process to stop, which lets training write its checkpoint; then kill it with all that it started."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(LAST_S)
    _kill_group(process)
    process.wait()


def _kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _raising_stopped() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped inside."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise Stopped(signal.Signals(number).name)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def die_with_parent(parent: int, interval_s: float = 0.5) -> None:
    """End this process when the one that started it is gone, so that a killed run leaves nothing that goes on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(interval_s)
        if os.getpgid(0) == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
