"""Two runs never write into one folder, and a run that was killed keeps nobody out."""

import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from vovnet import folder_lock as module
from vovnet.folder_lock import NAME, folder_lock

HOLD = """
import sys, time
from pathlib import Path
from vovnet.folder_lock import folder_lock
try:
    with folder_lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except OSError as error:
    print(error, flush=True)
"""


def other_process(folder, seconds):
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_told_who_has_the_folder(tmp_path):
    folder = tmp_path / "a" / "run"
    owner = other_process(folder, 60)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(OSError, match="is in use by process") as error, folder_lock(folder):
        pytest.fail("two have the lock")
    named = rf"process {owner.pid} on \S+, since [\d-]{{10}} [\d:]{{8}} UTC: wait .* another"
    assert re.search(named, str(error.value)), error.value
    kill(owner)
    with folder_lock(folder):  # at once
        assert f"in use by process {os.getpid()} on" in other_process(folder, 0).communicate()[0]
    assert not (folder / NAME).exists()


def test_a_thread_of_the_same_process_and_the_folder_by_another_name(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    outcomes = []

    def second():
        try:
            with folder_lock(tmp_path / "link"):
                outcomes.append("held")
        except OSError as error:
            outcomes.append(str(error))

    with folder_lock(tmp_path / "run"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        # The refusal must not have dropped the lock, as closing the file would.
        assert "in use by process" in other_process(tmp_path / "run", 0).communicate()[0]
    second()
    assert "in use by another thread of this process" in outcomes[0]
    assert outcomes[1] == "held"


def test_a_thread_that_has_the_lock_may_take_it_again(tmp_path):
    with folder_lock(tmp_path):
        with folder_lock(tmp_path):
            pass
        assert "in use by process" in other_process(tmp_path, 0).communicate()[0]
    assert other_process(tmp_path, 0).communicate()[0] == "held\n"


def test_a_forked_child_neither_drops_the_lock_nor_keeps_it(tmp_path):
    context = multiprocessing.get_context("fork")
    with folder_lock(tmp_path / "run"):
        short, long = (context.Process(target=time.sleep, args=(seconds,)) for seconds in (0, 30))
        short.start()
        long.start()
        short.join()
        assert "in use" in other_process(tmp_path / "run", 0).communicate()[0]
    assert other_process(tmp_path / "run", 0).communicate()[0] == "held\n"
    long.kill()
    long.join()


def test_many_that_start_at_once_take_turns(tmp_path):
    """One at a time, although each removes the file of the lock."""
    script = """
import sys, time
from pathlib import Path
from vovnet.folder_lock import folder_lock
folder, count = Path(sys.argv[1]), 0
while count < 15:
    try:
        with folder_lock(folder):
            (folder / "mine").touch(exist_ok=False)
            time.sleep(0.002)
            (folder / "mine").unlink()
            count += 1
    except FileExistsError:
        sys.exit("two had the lock")
    except OSError:
        time.sleep(0.001)
"""
    (tmp_path / "run").mkdir()
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog, number):
    def lockf(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.fcntl, "lockf", lockf)
    with folder_lock(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    assert "has no locks" in caplog.text


def test_a_system_without_locks_is_said_and_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "fcntl", None)
    with folder_lock(tmp_path / "run"):
        pass
    assert "has no locks of the kind" in caplog.text


def test_an_output_that_is_no_folder_is_left_to_those_who_write_there(tmp_path):
    (tmp_path / "file").write_text("kept")
    entered = []
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with folder_lock(path):
            entered.append(path)
    assert len(entered) == 3
    assert (tmp_path / "file").read_text() == "kept"


def test_a_lock_file_that_holds_nonsense_is_quoted_short(tmp_path):
    owner = other_process(tmp_path, 60)
    owner.stdout.readline()
    (tmp_path / NAME).write_bytes(b"\x1b[31m\xff" * 100_000)
    with pytest.raises(OSError, match="is in use by") as error, folder_lock(tmp_path):
        pass
    kill(owner)
    assert len(str(error.value)) < 500
    assert "\x1b" not in str(error.value)


def test_a_run_that_fails_at_once_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="wrong"), folder_lock(tmp_path / "a" / "b"):
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_its_owner_removes_in_between_is_made_again(tmp_path, monkeypatch):
    lock, locked = module._lock, []

    def lock_late(file, folder):
        lock(file, folder)
        locked.append(file)
        if len(locked) == 1:
            (folder / NAME).unlink()

    monkeypatch.setattr(module, "_lock", lock_late)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: True)  # it was there a moment ago
    with folder_lock(tmp_path):
        assert "in use by process" in other_process(tmp_path, 0).communicate()[0]
    assert len(locked) == 2
