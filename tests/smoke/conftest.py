"""A folder with what the documents name, for the tests that run their commands and Python."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vovnet.data.video import VideoWriter
from vovnet.engine.config import load_config
from vovnet.engine.train import train
from vovnet.planning import plan as planning
from vovnet.planning import trial

from ..documented import write_inputs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, bccd_onnx: Path) -> Path:
    """Data, a run of one step from trained weights, an exported file, photographs, a video: made once."""
    folder = tmp_path_factory.mktemp("stock")
    write_inputs(folder, ROOT)
    (folder / "exported").mkdir()
    for name in ("bccd.onnx", "exported.onnx", "exported/DIR.onnx"):
        os.link(bccd_onnx, folder / name)
    with VideoWriter(folder / "clip.mp4", 5) as video:
        for _ in range(3):
            video.write(torch.zeros(3, 96, 128, dtype=torch.uint8))
    settings = (
        *("weights=bccd_small", "optimizer.learning_rate=1e-6", f"data.root={folder / 'DIR'}", "workers=0"),
        *("schedule={iterations: 1}", f"output={folder / 'runs/mine'}", "tensorboard=false"),
    )
    train(load_config(str(folder / "my.yaml"), settings))
    shutil.copytree(folder / "runs/mine", folder / "WEIGHTS")
    return folder


def _copy(source: str, target: str) -> None:
    """A link for large files: commands replace files and never change them."""
    os.link(source, target) if os.path.getsize(source) > 1_000_000 else shutil.copy2(source, target)


@pytest.fixture
def workplace(stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a fresh folder of that name with the stock, and goes there. Plans of runs try two images only."""
    monkeypatch.setattr(planning, "MOST_S", 0.0)
    monkeypatch.setattr(trial, "_PASSES", 1)

    def enter(name: str = "here") -> Path:
        folder = tmp_path / name
        shutil.copytree(stock, folder, symlinks=True, copy_function=_copy)
        monkeypatch.chdir(folder)
        return folder

    return enter
