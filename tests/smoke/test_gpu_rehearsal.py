"""`python benchmarks/gpu.py --rehearse` runs every stage on the CPU, and a second call repeats nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vovnet.paper.gpu_records import read_stage
from vovnet.weights.detector import load_model

STAGES = ["check", "tables", "voc", "throughput", "study"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/gpu.py", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1600)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it would begin to measure")
def test_without_a_gpu_it_says_what_helps(tmp_path: Path) -> None:
    done = run("--output", tmp_path / "out", "--work", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "gpu: PyTorch finds no CUDA GPU; --rehearse runs all of it on the CPU\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rehearse", "--output", "docs/records/gpu"], "gpu: a rehearsal measures nothing that counts"),
        (["--budget", "-5"], "must be a number of seconds above 0, got -5"),
        (["--budget", "nan"], "must be a number of seconds above 0, got nan"),
        (["--stages", "all"], "invalid choice: 'all'"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path: Path) -> None:
    output = tmp_path / "gpu"
    arguments = ["--rehearse", "--output", output, "--work", tmp_path / "work", "--budget", 1500]
    done = run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in STAGES:
        record = json.loads((output / f"{name}.json").read_text())
        (stage_run,) = record["runs"].values()
        assert stage_run["state"] == "finished", name
        assert stage_run["machine"]["versions"]["torch"] == torch.__version__
        assert record["missing"] == {}
        assert [result for result in record["results"].values() if "error" in result] == []
        assert record["results"]
    files = {path.name for path in output.iterdir()}
    assert files == {*(f"{name}.json" for name in STAGES), "voc.safetensors", "voc.log.jsonl"}
    assert load_model(output / "voc.safetensors").record["test"]["images"] == 2
    with pytest.raises(ValueError, match="of a rehearsal"):
        read_stage(tmp_path, "tables")

    again = run(*arguments)
    assert again.returncode == 0
    assert again.stdout.splitlines() == [
        f"{name}: done, and its code has not changed; --again repeats it" for name in STAGES
    ]
