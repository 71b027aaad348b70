"""Loader processes on unlucky days: each ends in a sentence within seconds, or in a warning that names the images."""

import errno
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import resource_sharer

import numpy as np
import pytest
import torch

from vovnet.data.batches import loaders, shared_memory
from vovnet.data.batches.loaders import load_batches


class Unsendable:
    """Fails as a batch does that finds no room in shared memory: when it is on its way."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


def fill_shared_memory():
    """No file may grow here, as on a full disk; torch's sentence ends with the number of the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


class Images:
    """Image 5 has an unlucky day."""

    def __init__(self, day=lambda: None, pixels=16):
        self.day, self.pixels = day, pixels

    def __getitem__(self, index):
        answer = self.day() if index == 5 else None
        return answer if answer is not None else torch.full((3, self.pixels, self.pixels), index, dtype=torch.uint8)


def collate(items):
    return torch.stack(items) if all(isinstance(item, torch.Tensor) for item in items) else items


def batches(day=lambda: None, *, workers=2, pixels=16, **options):
    picks = [[index, index + 1] for index in range(0, 12, 2)]
    name = "image{}.jpg".format
    return load_batches(Images(day, pixels), picks, workers=workers, collate=collate, name_of=name, **options)


def children():
    return {process.pid for process in multiprocessing.active_children()}


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_come_in_order_and_the_processes_end(workers):
    loaded = batches(workers=workers)
    assert [batch[:, 0, 0, 0].tolist() for batch in loaded] == [[i, i + 1] for i in range(0, 12, 2)]
    loaded.close()
    assert not children()


@pytest.mark.parametrize(
    ("day", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed, as a system does that runs out of memory"),
        (lambda: os.kill(os.getpid(), signal.SIGBUS), "no room in shared memory: /dev/shm has .* MiB free.*shm-size"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"ended unexpectedly \(signal 11\)"),
        (lambda: os._exit(3), r"ended unexpectedly \(status 3\)"),
        (lambda: os._exit(0), "ended early"),
        (lambda: Unsendable(OSError(errno.ENOSPC, "No space left on device")), "no room in shared memory"),
        (
            lambda: Unsendable(RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")),
            "no room in shared memory",
        ),
        (lambda: Unsendable(OSError(errno.EMFILE, "Too many open files")), "may not open more files.*ulimit -n"),
        (lambda: Unsendable(ValueError("?")), r"ended unexpectedly \(status 1\)"),
    ],
)
@pytest.mark.parametrize("thread", [False, True], ids=["main", "thread"])
def test_a_process_that_ends_or_cannot_send_ends_the_run_with_a_sentence(day, message, thread, capfd):
    loaded, errors, began = batches(day), [], time.monotonic()

    def use():
        try:
            list(loaded)
        except OSError as error:
            errors.append(error)

    if thread:
        user = threading.Thread(target=use)
        user.start()
        user.join()
    else:
        use()
    assert time.monotonic() - began < 15
    assert len(errors) == 1
    assert re.search(message, str(errors[0])), errors
    assert len(str(errors[0])) <= 500
    assert "workers=0 in a config" in str(errors[0])
    assert "Traceback" not in capfd.readouterr().err
    assert not children()
    assert list(loaded) == []


def test_a_process_that_reads_beyond_the_end_of_a_mapped_file(tmp_path, capfd):
    path = tmp_path / "cache.images"
    path.write_bytes(bytes(2**16))
    mapped = np.memmap(path, np.uint8, mode="c")
    os.truncate(path, 0)
    loaded = batches(lambda: torch.from_numpy(mapped[:1]).clone(), mapped=path)
    with pytest.raises(OSError, match=r"could not read .*cache\.images \(cut short.*or found no room in shared memory"):
        list(loaded)
    assert "Traceback" not in capfd.readouterr().err


def test_a_batch_for_which_a_process_may_not_make_a_file(capfd):
    with pytest.raises(OSError, match="(may not make files of this size|no room in shared memory)"):
        list(batches(fill_shared_memory, pixels=400))
    assert "Traceback" not in capfd.readouterr().err


def test_a_process_that_may_open_no_more_files(capfd):
    def day():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))

    with pytest.raises(OSError, match="may not open more files"):
        list(batches(day))
    assert "Traceback" not in capfd.readouterr().err


def test_a_parent_that_may_open_no_more_files_says_so(tmp_path):
    """Every tensor that comes takes a file descriptor, of which the parent has few left."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import resource, torch
        from vovnet.data.batches.loaders import load_batches
        class Images:
            def __getitem__(self, index):
                return [torch.zeros(3000) for _ in range(60)]
        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                for batch in load_batches(Images(), [[i] for i in range(9)], workers=1, collate=list, name_of=str):
                    pass
            except OSError as error:
                print(error)
        """)
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert "may not open more files" in result.stdout, result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_an_image_keeps_its_type():
    def day():
        raise ValueError("image5.jpg is damaged")

    with pytest.raises(ValueError, match=r"image5\.jpg is damaged"):
        list(batches(day))
    assert not children()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_a_process_that_cannot_start(monkeypatch, capfd, number):
    fork, calls = os.fork, []

    def refuse():
        calls.append(1)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        return fork()

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(OSError, match=r"starts no more loader processes .*lower workers or raise `ulimit -u`"):
        batches(workers=2)
    err = capfd.readouterr().err
    assert "Exception ignored" not in err
    assert "Traceback" not in err
    end = time.monotonic() + 60
    while children():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_that_hangs_is_reported_by_its_images_and_waited_for(monkeypatch, caplog):
    """As one that reads from a dead network drive; it goes on when that comes back."""
    monkeypatch.setattr(loaders, "PATIENCE_S", 1.0)
    loaded = batches(lambda: os.kill(os.getpid(), signal.SIGSTOP), workers=2)
    waker = threading.Timer(4.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in children()])
    waker.start()
    assert len(list(loaded)) == 6
    waker.join()
    assert "the loader processes are alive" in caplog.text
    assert re.search(r"They are at .*image4\.jpg, image5\.jpg, .*", caplog.text)


def test_a_process_that_hangs_does_not_keep_the_run_from_ending():
    loaded = batches(lambda: os.kill(os.getpid(), signal.SIGSTOP), workers=1)
    assert next(loaded)[0, 0, 0, 0] == 0
    time.sleep(0.5)
    began = time.monotonic()
    loaded.close()
    assert time.monotonic() - began < 10
    assert not children()


def test_batches_that_nobody_takes_end_too():
    loaded = batches(workers=2)
    assert len(children()) == 2
    del loaded
    assert not children()


@pytest.mark.parametrize(
    ("free", "prefetch"), [(None, 4), (10**9, 4), (100 * 14, 4), (100 * 6, 2), (100 * 4, 1), (100 * 3, None), (0, None)]
)
def test_what_is_loaded_ahead_fits_in_shared_memory(monkeypatch, free, prefetch):
    """Two workers with batches of 100 bytes, of which two more are on their way."""
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: free)
    if prefetch is None:
        with pytest.raises(OSError, match=r"2 loader processes need 0 MiB of shared memory: /dev/shm has 0 MiB free"):
            loaders._affordable(100, 2, 4)
    else:
        assert loaders._affordable(100, 2, 4) == prefetch
    assert loaders._affordable(0, 2, 4) == 4


def test_a_device_of_this_machine_has_shared_memory():
    assert (shared_memory.free_bytes() is not None) == (sys.platform == "linux")


def test_a_process_that_may_open_no_more_files_while_a_batch_is_fetched(monkeypatch, capfd):
    """The parent fetches the memory of a batch later than it comes, and the process then fails in another thread."""
    detach = resource_sharer.DupFd.detach

    def detach_later(handle):
        time.sleep(0.5)
        return detach(handle)

    def day():
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        time.sleep(5)

    monkeypatch.setattr(resource_sharer.DupFd, "detach", detach_later)
    with pytest.raises(OSError, match="may not open more files"):
        list(batches(day, workers=1))
    assert "Traceback" not in capfd.readouterr().err
    assert not children()
