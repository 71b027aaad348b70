"""The protocol between the process that measures and those that it times."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from vovnet.export.measuring.worker_process import Worker, WorkerError, cpu_seconds

# Answers {"seconds": …} with as many numbers as passes; other requests name what it does.
ANSWERING = """
import json, os, sys, time
for text in sys.stdin:
    request = json.loads(text)
    if request.get("die"):
        print("no room on this device", file=sys.stderr, flush=True)
        sys.exit(3)
    if request.get("kill"):
        os.kill(os.getpid(), 9)
    if request.get("hang"):
        time.sleep(60)
    answer = {"fault": "it is broken"} if request.get("fault") else {"seconds": [0.5] * request.get("passes", 0)}
    print(json.dumps(answer), flush=True)
    while request.get("spin"):
        pass
"""


def start(**options: float) -> Worker:
    return Worker({"passes": 1}, program=(sys.executable, "-c", ANSWERING), **options)


def test_it_answers_until_it_is_closed() -> None:
    worker = start()
    assert worker.first == {"seconds": [0.5]}
    assert worker.start_s > 0
    assert worker.seconds("boxes", 3) == [0.5] * 3
    assert worker.seconds("network", 2) == [0.5] * 2
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"die": True}, "its process ended with status 3: no room on this device"),
        ({"kill": True}, "SIGKILL ended its process, as happens if memory runs out"),
        ({"fault": True}, "it is broken"),
    ],
)
def test_a_worker_that_fails_says_why(request_: dict[str, bool], said: str) -> None:
    worker = start()
    with pytest.raises(WorkerError) as error:
        worker.ask(request_)
    assert str(error.value) == said
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_a_worker_that_gives_no_answer_is_ended() -> None:
    worker = start()
    worker._timeout_s = 0.3
    with pytest.raises(WorkerError, match=r"gave no answer within 0\.3 s"):
        worker.ask({"hang": True})


def test_a_program_that_does_not_start() -> None:
    with pytest.raises(WorkerError, match="its process ended with status 2: .*no_such_program.py"):
        Worker({}, program=(sys.executable, "no_such_program.py"))


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP") or not Path("/proc/self/stat").exists(), reason="Linux only")
def test_a_worker_takes_no_cpu_between_its_turns() -> None:
    worker = start()
    worker.ask({"passes": 1, "spin": True})
    deadline = time.monotonic() + 10
    while (state := Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert time.monotonic() < deadline, state
        time.sleep(0.01)
    before_s = cpu_seconds(worker.pid)
    time.sleep(0.2)
    assert cpu_seconds(worker.pid) == before_s
    worker.close()
