"""The Python of the documents runs, in a folder with what it names."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vovnet.engine.config import load_config
from vovnet.engine.train import train

from ..pages import PAGES, WALKED, Block, all_blocks
from ..registries import own_registries as own_registries
from ..trackers import ActiveRun, Run, make_mlflow, make_wandb
from ..unit.fiftyone_here import need_database

ROOT = Path(__file__).parents[2]
BLOCKS = [block for block in all_blocks(PAGES) if block.language == "python" and block.page not in WALKED]
NOT_RUN = {
    "ARCHITECTURE.md: outputs = model(images)": "a sketch of the contract, see tests/unit/models/test_models.py",
    "docs/onnx.md: import json": "see tests/unit/export/test_onnx_for_others.py",
}
TRACKERS = {"docs/track.md: import wandb": make_wandb, "docs/track.md: import mlflow": make_mlflow}
"""Blocks that need a package that is not installed for tests, and its stand-in."""
OPTIONAL = ("supervision", "pandas", "timm")
"""Packages that blocks import and that an environment for tests may lack."""


def block_of(start: str) -> Block:
    (block,) = (block for block in BLOCKS if str(block) == start)
    return block


def run(block: Block, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """The names after a block has run."""
    names = dict(given or {})
    exec(compile(block.text, f"{block.page}:{block.line}", "exec"), names)
    return names


@pytest.mark.parametrize("name", NOT_RUN)
def test_reasons_are_for_blocks_that_are_there(name):
    assert block_of(name)
    assert Path(NOT_RUN[name].partition("see ")[2]).is_file()


ORDINARY = [b for b in BLOCKS if str(b) not in (*NOT_RUN, *TRACKERS) and "blobs" not in b.text]


@pytest.mark.parametrize("block", ORDINARY, ids=lambda block: f"{block.page}-{block.number}")
def test_python_runs(block, workplace, own_registries):
    for package in OPTIONAL:
        if f"import {package}" in block.text:
            pytest.importorskip(package)
    if "import fiftyone" in block.text:
        need_database()
    folder = workplace()
    if "weights/vovnet39.safetensors" in block.text:
        from vovnet.weights.importing import import_weights

        import_weights(folder / "vovnet39_statedict_norm.pth", folder / "weights/vovnet39.safetensors")
    run(block)
    if "draw(" in block.text:
        assert (folder / "drawn.jpg").is_file()


def test_caffes_weights_are_written_as_they_are_read(tmp_path):
    """The line for a machine with Caffe, with a stand-in for a network of Caffe's."""
    (block,) = (block for block in BLOCKS if "blobs" in block.text)
    layers = {"stem1/conv": [np.ones((2, 3, 1, 1))], "stem1/bn": [np.zeros(2), np.ones(2), np.ones(1)]}
    params = {name: [SimpleNamespace(data=data) for data in blobs] for name, blobs in layers.items()}
    file = tmp_path / "weights.npz"
    run(block, {"numpy": np, "file": file, "net": SimpleNamespace(params=params)})
    with np.load(file) as written:
        assert sorted(written) == ["stem1/bn.0", "stem1/bn.1", "stem1/bn.2", "stem1/conv.0"]


@pytest.fixture
def tiny_run(workplace):
    """A folder in which `my.yaml` is a run of two steps."""
    folder = workplace()
    text = Path("my.yaml").read_text().replace("{epochs: 2}", "{iterations: 2}")
    Path("my.yaml").write_text(f"{text}log_every: 1\nworkers: 0\ntensorboard: false\n")
    return folder


def test_wandb_gets_config_records_result_and_weights(tiny_run, monkeypatch):
    wandb: Any = make_wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    result = run(block_of("docs/track.md: import wandb"))["result"]
    assert wandb.run.config["optimizer"]["learning_rate"] == 0.001
    assert json.dumps(wandb.run.config)
    log = [json.loads(line) for line in (result.output / "log.jsonl").read_text().splitlines()]
    assert [data for data, _ in wandb.run.logged] == log
    assert [step for _, step in wandb.run.logged] == [1, 2, 2]
    assert wandb.run.summary == {"best": result.best}
    assert wandb.run.artifacts == [("runs/cells/best.safetensors", "model")]
    assert wandb.run.error is None


def test_mlflow_gets_config_records_and_weights(tiny_run, monkeypatch):
    mlflow: Any = make_mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    run(block_of("docs/track.md: import mlflow"))
    assert mlflow.params["batch_size"] == 2
    assert all(len(str(value)) <= 6000 for value in mlflow.params.values())  # MLflow's limit
    assert [step for _, step in mlflow.metrics] == [1, 2, 2]
    assert "val_voc07_map" in mlflow.metrics[-1][0]
    assert mlflow.artifacts == ["runs/cells/best.safetensors"]
    assert mlflow.run.error is None


def test_the_keys_of_records_are_those_of_the_page(tiny_run):
    records: list[dict[str, Any]] = []
    train(load_config("my.yaml"), hooks=[lambda record: records.append(dict(record))])
    rows = [
        line for line in (ROOT / "docs/track.md").read_text().splitlines() if line.startswith(("| every", "| each"))
    ]
    for row, record in zip(rows, (records[0], records[-1]), strict=True):
        for key in record.keys() - {"step"}:
            assert f"`{key}`" in row or key == "box_loss", f"docs/track.md lacks {key}"
        assert all(isinstance(value, int | float) for value in record.values())


def test_an_error_in_a_hook_ends_the_run_and_leaves_the_checkpoint(tiny_run):
    def fail(record):
        raise ValueError("the tracker is gone")

    with pytest.raises(ValueError, match="the tracker is gone"):
        train(load_config("my.yaml"), hooks=[fail])
    assert Path("runs/my/last.pt").is_file()
    assert train(load_config("my.yaml", ["resume=true"])).finished


@pytest.mark.parametrize(
    ("module", "name", "stand_in"),
    [
        ("wandb", "init", make_wandb().init),
        *(("wandb.sdk.wandb_run", f"Run.{name}", getattr(Run, name)) for name in ("log", "log_artifact")),
        *(("mlflow", name, getattr(make_mlflow(), name)) for name in ("start_run", "log_params", "log_metrics")),
        ("mlflow", "log_artifact", make_mlflow().log_artifact),
        ("mlflow", "ActiveRun.__exit__", ActiveRun.__exit__),
    ],
)
def test_stand_ins_are_like_the_real_ones(module, name, stand_in):
    real = pytest.importorskip(module)
    for part in name.split("."):
        real = getattr(real, part)
    theirs, ours = (inspect.signature(function).parameters for function in (real, stand_in))
    assert [name for name in theirs if name in ours] == list(ours)
    for name, parameter in ours.items():
        assert (theirs[name].kind, theirs[name].default) == (parameter.kind, parameter.default)
