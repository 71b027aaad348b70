"""What a native library prints in the block is lost, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PRINTS = """
import ctypes, os, sys
from vovnet.runtime.native_output import no_native_output
libc = ctypes.CDLL(None)
print("before")
libc.printf(b"held back by C before\\n")
try:
    with no_native_output():
        libc.printf(b"unwanted\\n")
        os.write(1, b"unwanted\\n")
        os.write(2, b"unwanted\\n")
        print("unwanted")
        print("unwanted", file=sys.stderr, flush=True)
        sys.stdout.flush()
        raise KeyError
except KeyError:
    print("raised")
sys.stdout.flush()
libc.printf(b"after\\n")
libc.fflush(None)
print("error", file=sys.stderr)
print(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else "")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="printf is in another library there")
def test_what_is_printed_in_the_block_is_lost():
    done = subprocess.run([sys.executable, "-c", _PRINTS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:4] == ["before", "held back by C before", "raised", "after"]
    assert done.stderr == "error\n"


@pytest.mark.parametrize("streams", ["1>&-", "2>&-", "1>&- 2>&-"])
@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_streams_may_be_closed(streams, tmp_path):
    code = (
        "from vovnet.runtime.native_output import no_native_output\n"
        "with no_native_output():\n    pass\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()"
    )
    subprocess.run(["sh", "-c", f'"$0" -c "$1" {streams}', sys.executable, code], check=True)
    assert (tmp_path / "done").exists()


def test_descriptors_are_given_back():
    code = (
        "import os\nfrom vovnet.runtime.native_output import no_native_output\n"
        "first = os.dup(0); os.close(first)\n"
        "for _ in range(50):\n    with no_native_output():\n        pass\n"
        "print(os.dup(0) == first)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
