"""Free memory as the system and a container state it, and how many images of a step fit into it."""

import subprocess
import sys

import pytest
import torch

from vovnet.planning.memory import available_mib, choose_micro_batch

CPU = torch.device("cpu")


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_the_system_leaves(tmp_path):
    assert available_mib(CPU, tmp_path) is None
    write(tmp_path, {"proc/meminfo": "MemTotal: 9999999 kB\nMemAvailable:   4194304 kB\n"})
    assert available_mib(CPU, tmp_path) == 4096


@pytest.mark.parametrize(("most", "expected"), [("max", 4096), (str(3 * 2**30), 2048)])
def test_what_a_container_leaves_without_the_files_it_caches(tmp_path, most, expected):
    write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 4194304 kB\n",
            "sys/fs/cgroup/memory.max": f"{most}\n",
            "sys/fs/cgroup/memory.current": f"{2 * 2**30}\n",
            "sys/fs/cgroup/memory.stat": f"anon {2**30}\nfile {2**30}\nkernel 5\n",
        },
    )
    assert available_mib(CPU, tmp_path) == expected


@pytest.mark.parametrize(("available", "expected"), [(10_000, 8), (1000, 4), (400, 2), (10, 1), (None, 8)])
def test_the_largest_part_of_a_batch_that_fits(available, expected):
    assert choose_micro_batch(8, 100.0, available) == expected


def test_a_batch_that_cannot_be_halved_stays():
    assert choose_micro_batch(6, 100.0, 10) == 3
    assert choose_micro_batch(8, None, 10) == 8


_PEAK = """
import torch
from vovnet.planning.memory import peak_of
print(peak_of(lambda: torch.ones(50 * 2**18).sum(), torch.device("cpu")))
"""


def test_the_peak_of_a_call():  # in a process of its own: memory that others gave back would hide it
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None" or 30 < float(done.stdout) < 200
