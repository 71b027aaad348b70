"""The common paths as Windows and macOS let them run: without what only Linux has, and with other consoles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..small_voc import BCCD, write_small_voc

HERE = Path(__file__).parent
IMAGE = str(BCCD / "JPEGImages/BloodImage_00000.jpg")
TRAIN = (
    "train", "bccd_ssdfpn320_vovnet19_tiny", "data.root=data", "metric=voc07_map", "schedule.epochs=null",
    "schedule.iterations=1", "schedule.warmup_iterations=0", "batch_size=2", "micro_batch_size=2", "workers=1",
    "precision=fp32", "output=runs/tiny", "evaluate_every=1",
)  # fmt: skip
MEASURE = ("measure", "mobilenet", "--input-size", "64", "--repetitions", "3", "--energy", "auto", "--output", "cost")
COMMANDS = (
    ("list",),
    ("predict", IMAGE, "--weights", "bccd_small"),
    ("data", "check", "data", "--fix", "fixed"),
    ("data", "convert", "data", "coco", "--to", "coco"),
    TRAIN,
    ("evaluate", "runs/tiny", "data", "--split", "val", "--workers", "1"),
    MEASURE,
    ("measure", "cost/measurement.json"),
)
# Runs each command in this process, on the real streams, and writes their exit statuses.
PROGRAM = """
import json, sys, warnings
warnings.filterwarnings("error", category=EncodingWarning, module=r"vovnet\\.")
from vovnet.cli.main import main
statuses = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["vovnet", *arguments]
    try:
        main()
        statuses.append(0)
    except SystemExit as stop:
        statuses.append(stop.code)
with open("statuses.json", "w", encoding="ascii") as file:
    json.dump(statuses, file)
"""


def run_as(system: str, program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a process to which vovnet's modules see another system; its consoles are of 1252 letters."""
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_bytes((HERE / "windows_like.py").read_bytes())
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), *filter(None, sys.path)]),
        "VOVNET_TESTS_LOOK_LIKE": system,
        "VOVNET_CACHE": str(folder / "cache"),
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNDEFAULTENCODING": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=900)


@pytest.mark.parametrize("system", ["win32", pytest.param("darwin", marks=pytest.mark.slow)])
def test_the_commands_run(system: str, tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    pytest.importorskip("matplotlib")
    write_small_voc(tmp_path / "data", train=4, val=2)
    done = run_as(system, PROGRAM, json.dumps(COMMANDS), folder=tmp_path)
    err = done.stderr.decode("cp1252")
    assert "mobilenet" in done.stdout.decode("cp1252")
    assert done.returncode == 0, err
    statuses = json.loads((tmp_path / "statuses.json").read_text(encoding="ascii"))
    assert statuses == [0] * len(COMMANDS), err
    assert "Traceback" not in err
    assert "no locks" not in err
    cost = json.loads((tmp_path / "cost/measurement.json").read_text(encoding="utf-8"))
    (measured,) = cost["measurements"]
    assert measured["memory"]["reason"] is None
    assert measured["energy"]["reason"]


HIDDEN = """
import os, signal, sys
from vovnet.runtime import cpu
from vovnet.profiling import memory, clock
from vovnet.profiling.energy.meter import Meter
assert not hasattr(cpu.os, "sched_getaffinity") and hasattr(os, "sched_getaffinity")
assert cpu.sys.platform == os.environ["VOVNET_TESTS_LOOK_LIKE"] and sys.platform == "linux"
assert memory.peak_resident_mib() > 0 and not memory.reset_peak_resident()
assert clock.Clock().now() > 1e9
assert cpu.instruction_set() and cpu.processors() >= 1
with open("log.csv", "w") as file:
    file.write("timestamp,watts\\n1000,5\\n")
print(Meter("log.csv").state(0.0).load_average)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is hidden is what Linux has")
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_what_is_hidden_is_hidden_from_vovnet_alone(system: str, tmp_path: Path) -> None:
    done = run_as(system, HIDDEN, folder=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert (done.stdout.decode().strip() == "None") == (system == "win32")


def test_a_second_run_is_kept_out_by_the_locks_of_windows(tmp_path: Path) -> None:
    program = """
import subprocess, sys
from pathlib import Path
from vovnet.folder_lock import NAME, folder_lock
second = "from pathlib import Path; from vovnet.folder_lock import folder_lock\\nwith folder_lock(Path('run')): pass"
with folder_lock(Path("run")):
    done = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True)
assert "run is in use by process" in done.stderr, done.stderr
assert not Path("run", NAME).exists()
"""
    done = run_as("win32", program, folder=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
