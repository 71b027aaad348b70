"""Freed memory stays in the process, unless the user has set the C library otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from vovnet.freed_memory import keep_freed_memory

print(keep_freed_memory())
import torch

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(10, 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


def run_program(**environment: str) -> list[str]:
    settings = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    inherited = {name: value for name, value in os.environ.items() if name not in settings}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_the_next_tensor_takes_the_memory_of_the_last() -> None:
    kept, faults = run_program()
    assert kept == "True"
    assert int(faults) < 1000  # 100,000 otherwise: 40 MB in pages of 4 KiB, ten times


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_has_set_stays(name: str) -> None:
    kept, faults = run_program(**{name: "131072"})
    assert kept == "False"
    assert int(faults) > 50_000


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_as_they_are(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vovnet.freed_memory import keep_freed_memory

    monkeypatch.setattr(sys, "platform", system)
    assert not keep_freed_memory.__wrapped__()
