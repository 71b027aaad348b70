"""The other end of `timing_worker`: starts its process, asks it, and lets it run only while it is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from vovnet.printing import line

TIMEOUT_S = 300.0  # for one answer
_PROGRAM = (sys.executable, "-P", "-m", "vovnet.export.measuring.timing_worker")


class WorkerError(ValueError):
    """What happened to a worker, in one sentence. Its process has ended."""


class Worker:
    """A process that runs one detector in one runtime.

    Between two questions it is stopped where the system can do that: threads of a pool that wait by spinning would
    take the cores from the runtime whose turn it is.

    first: the answer that followed its first boxes.
    start_s: from the start of the process to these.

    Raises WorkerError, as all methods do.
    """

    def __init__(
        self, subject: Mapping[str, Any], *, program: Sequence[str] = _PROGRAM, timeout_s: float = TIMEOUT_S
    ) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._timeout_s = timeout_s
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        started = time.perf_counter()
        self._process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, encoding="utf-8",
            env=os.environ | {"PYTHONPATH": paths},
        )  # fmt: skip
        self.first = self.ask(subject)
        self.start_s = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    def seconds(self, what: str, passes: int) -> list[float]:
        """The time of each of these passes. what: "network" or "boxes"."""
        return [float(value) for value in self.ask({"time": what, "passes": passes})["seconds"]]

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(self._timeout_s, process.kill)
        late.start()
        try:
            self._signal("SIGCONT")
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            text = process.stdout.readline()
            self._signal("SIGSTOP")
        except OSError:  # a broken pipe
            text = ""
        finally:
            was_late = not late.is_alive()
            late.cancel()
        answer = json.loads(text) if text.endswith("\n") else {}
        if answer and "fault" not in answer:
            return dict(answer)
        raise WorkerError(self._end(answer.get("fault"), was_late=was_late))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(OSError):  # what is left in a buffer cannot be written
                if stream is not None:
                    stream.close()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.poll() is None:
            self._process.send_signal(getattr(signal, name))

    def _end(self, fault: str | None, *, was_late: bool) -> str:
        """End the process, and why it could not answer."""
        if fault is None and not was_late:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        status = self._process.poll()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 2_000))
        last_line = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        self.close()
        if fault is not None:
            return line(fault, 300)
        if was_late:
            return f"its process gave no answer within {self._timeout_s:g} s"
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            return f"{name} ended its process" + (", as happens if memory runs out" if name == "SIGKILL" else "")
        return f"its process ended with status {status}: {line(last_line or 'it said nothing', 300)}"


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its threads; 0 if the system does not report it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
