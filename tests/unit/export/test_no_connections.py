"""Nothing sends anything anywhere: not exporting, not quantising, not running what was exported.

Two witnesses: Python's own audit events in all processes, and on Linux the system calls, which native code makes too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import vovnet

EVERYTHING = """
import time
from dataclasses import replace
from pathlib import Path
import numpy as np, onnx
from vovnet.export.onnx_file import make_onnx
from vovnet.export.openvino_file import write_openvino
from vovnet.export.source import describe_export
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.openvino import OpenVinoSession
from vovnet.weights.detector import load_weights
loaded = load_weights("bccd")
info = describe_export(loaded, "float32")
network = make_onnx(loaded.model, info)
images = np.random.default_rng(0).integers(0, 256, (2, 3, 300, 300), np.uint8)
onnx.save(network, "bccd.onnx")
write_openvino(network, info, Path("bccd_openvino"))
write_openvino(network, replace(info, precision="int8"), Path("int8_openvino"), [images[:1], images[1:]])
for session in (
    OnnxSession(Path("bccd.onnx"), 1),
    OpenVinoSession(Path("bccd.onnx"), 1),
    OpenVinoSession(Path("bccd_openvino"), 1),
    OpenVinoSession(Path("int8_openvino"), 1),
):
    session.run(images, 0.1)
time.sleep(3)  # telemetry is sent from threads, some time after
print("done")
"""
TRACED = "connect,sendto,sendmsg,sendmmsg,socket"
INTERNET = re.compile(r"\bAF_INET6?\b")


@dataclass(frozen=True)
class Seen:
    """What a program did besides its work.

    noted: connections and look-ups that Python reported.
    calls: system calls about the internet; None where they cannot be traced.
    files: what it left in the home folder.
    """

    output: str
    noted: list[str]
    calls: list[str] | None
    files: list[str]


def watch(program: str, folder: Path) -> Seen:
    """Run a program in a process of its own, in the folder, with an empty home."""
    home, work, notes, trace = (folder / name for name in ("home", "work", "notes", "trace"))
    home.mkdir()
    work.mkdir()
    shutil.copy(Path(__file__).with_name("sitecustomize.py"), work)
    notes.touch()
    gone = (
        "CI",
        "TF_BUILD",
        "JENKINS_URL",
        "NNCF_CI",
        "NNCF_DEV",
        "ORT_DISABLE_TELEMETRY",
    )  # in them, telemetry is off
    environment = {name: value for name, value in os.environ.items() if name not in gone and "XDG_" not in name} | {
        "HOME": str(home),
        "LOCALAPPDATA": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(work), *filter(None, sys.path)]),
        "VOVNET_TEST_CONNECTIONS": str(notes),
    }
    strace = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={TRACED}", "-o", str(trace)] if can_trace() else []
    output = subprocess.run(
        [*strace, sys.executable, "-c", program], cwd=work, env=environment, capture_output=True, text=True, timeout=300
    )
    assert output.returncode == 0, output.stderr[-2000:]
    calls = [line for line in trace.read_text().splitlines() if INTERNET.search(line)] if strace else None
    files = [str(path.relative_to(home)) for path in sorted(home.rglob("*"))]
    return Seen(output.stdout + output.stderr, notes.read_text().splitlines(), calls, files)


def can_trace() -> bool:
    """Whether strace is there and allowed; some containers forbid it."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={TRACED}", "-o", os.devnull, sys.executable, "-V"]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_nothing_is_sent_or_left_in_the_home_folder(tmp_path):
    seen = watch(EVERYTHING, tmp_path)
    assert seen.noted == []
    assert seen.calls in ([], None)
    assert seen.files == []
    assert seen.output == "done\n"


IN_A_CHILD = """
import subprocess, sys
subprocess.run([sys.executable, "-P", "-c", "import socket; socket.getaddrinfo('example.org', 80)"])
"""


@pytest.mark.parametrize(
    ("program", "event"),
    [
        (IN_A_CHILD, "socket.getaddrinfo"),
        ("import openvino, time; time.sleep(1)", "socket.getaddrinfo"),  # its telemetry, where it is not switched off
        ("import socket\ntry: socket.getaddrinfo('example.org', 80)\nexcept OSError: pass", "socket.getaddrinfo"),
        ("import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass", "socket.getaddrinfo"),
        ("import socket\ntry: socket.socket().connect(('127.0.0.1', 9))\nexcept OSError: pass", "socket.__new__"),
    ],
)
def test_an_attempt_is_noticed(tmp_path, program, event):
    noted = watch(program, tmp_path).noted
    assert any(note.startswith(event) for note in noted)


def test_what_openvino_leaves_is_noticed(tmp_path):
    assert "intel/openvino_ga_cid" in watch("import openvino", tmp_path).files


def test_what_onnx_runtime_leaves_is_noticed(tmp_path):
    files = watch("import onnxruntime, time; time.sleep(1)", tmp_path).files
    if not files:
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert any("onnxruntime" in file for file in files)


IMPORT = re.compile(r"^\s*(?:import|from) (?:openvino|nncf|onnxruntime)\b", re.MULTILINE)


@pytest.mark.parametrize("path", sorted(Path(vovnet.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_all_imports_are_without_telemetry(path):
    source = path.read_text(encoding="utf-8")
    assert not IMPORT.search(source) or "without_telemetry" in source, "use vovnet.runtime.without_telemetry"


def test_a_system_call_is_noticed(tmp_path):
    """One that Python does not know of, as of native code."""
    if not can_trace():
        pytest.skip("strace is not installed, or not allowed")
    seen = watch("import ctypes; ctypes.CDLL(None).socket(2, 1, 0)", tmp_path)
    assert seen.noted == []
    assert seen.calls is not None
    assert len(seen.calls) == 1
