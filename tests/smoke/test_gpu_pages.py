"""The pages take the numbers of a GPU and the weights `voc` from where they are, with made-up records and weights."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from PIL import Image

import vovnet
from vovnet import names
from vovnet.weights.detector import ModelInfo, load_model, save_weights

from ..unit.paper.gpu_run import CARD, TABLES, write_stage

CLASSES = ("person", "car", "dog")
TEST = {"voc07_map": 0.51, "images": 500, "classes": {name: {"voc07_ap": 0.5} for name in CLASSES}}
HELD = {
    "run": "aa", "key": "k", "start": "random weights", "steps": 2700, "train_seconds": 240.0, "train_images": 4508,
    "trained_on": CARD, "note": "reduced images and minutes of training", "test": TEST,
}  # fmt: skip
THROUGHPUT = {
    name: {"run": "aa", "key": "k", "batch_size": 128, "precision": "bf16", "workers": 15, "images_per_s": speed}
    for name, speed in (("bare steps dsod300_vovnet27_slim", 2000.0), ("training dsod300_vovnet27_slim", 1700.0))
}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The files of benchmarks by name."""
    monkeypatch.syspath_prepend("benchmarks")
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("gpu_pages", "ship_voc", "shared", "gpu_stages")
    ]:
        monkeypatch.delitem(sys.modules, name)
    import gpu_pages
    import ship_voc

    return SimpleNamespace(gpu_pages=gpu_pages, ship_voc=ship_voc)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a package folder of its own, where vovnet looks for bundled weights."""
    root = tmp_path / "root"
    (root / "src/vovnet/weights").mkdir(parents=True)
    shutil.copy(names.shipped_weights()["bccd"], root / "src/vovnet/weights")
    monkeypatch.setattr(names.resources, "files", lambda name: root / "src/vovnet")
    return root


def finished_run(folder: Path, score: float) -> None:
    """What the stage voc leaves, with made-up weights of a small detector."""
    test = {**TEST, "voc07_map": score}
    write_stage(folder.parent, "voc", {"held": {**HELD, "test": test}})
    (folder / "voc.log.jsonl").write_text('{"round": 1, "step": 1, "loss": 2.0}\n')
    torch.manual_seed(0)
    info = ModelInfo("pelee304", {}, CLASSES, (1, 2, 3))
    state = {name: value.half() if value.ndim == 4 else value for name, value in info.build().state_dict().items()}
    save_weights(folder / "voc.safetensors", state, info, {**HELD, "test": test})


def test_every_part_needs_a_gpu_before_it_has_run(module: SimpleNamespace, tmp_path: Path) -> None:
    section = module.gpu_pages.gpu_section(tmp_path)
    assert section.count("yet: `make gpu`") == 5
    assert "Time and joules of VoVNet against DenseNet and ResNet have not been measured on a GPU yet" in section


def test_every_part_shows_what_was_measured(module: SimpleNamespace, tmp_path: Path) -> None:
    write_stage(tmp_path, "tables", TABLES)
    write_stage(tmp_path, "check", {"pytest -m gpu": {"run": "aa", "passed": 40, "failed": 1, "skipped": 2}})
    bare = {"run": "aa", "key": "k", "batch_size": 4, "precision": "bf16", "workers": "auto", "images_per_s": 90.0}
    write_stage(tmp_path, "throughput", {**THROUGHPUT, "bare steps gn by channel": bare})
    write_stage(tmp_path, "voc", {"held": HELD})
    section = module.gpu_pages.gpu_section(tmp_path)
    assert f"measured on {CARD}: 40 passed, 1 failed, 2 skipped" in section
    assert "| DSOD300: DenseNet-67 against VoVNet-27-slim | float32, batch 1, eager | 250 | 2.00" in section
    assert "| 1700 | 2000 | 0.85 |" in section
    assert "| gn by channel | batch 4, bf16 |  | 90 |  |" in section
    assert "51.0 % VOC07 mAP on 500 held-out images" in section
    assert section.count("yet: `make gpu`") == 1  # the study
    assert "4.11" in section  # the paper's joules, 3.7 over 0.9


@pytest.mark.parametrize("change", [{"key": "l"}, {"run": "cc"}])
def test_training_and_bare_steps_of_other_cards_or_code_have_no_ratio(
    module: SimpleNamespace, tmp_path: Path, change: dict[str, str]
) -> None:
    name = "training dsod300_vovnet27_slim"
    write_stage(tmp_path, "throughput", THROUGHPUT | {name: THROUGHPUT[name] | change})
    section = module.gpu_pages.gpu_section(tmp_path)
    assert "| 1700 |  |  |" in section
    assert "|  | 2000 |  |" in section
    assert "0.85" not in section


def test_operations_counted_on_a_cpu_are_no_measurement(module: SimpleNamespace, tmp_path: Path) -> None:
    counts = {name: result for name, result in TABLES.items() if name.startswith("count")}
    write_stage(tmp_path, "tables", counts)
    assert module.gpu_pages.gpu_status(tmp_path) == "nothing has been measured"
    assert "have not been measured on a GPU yet" in module.gpu_pages.gpu_section(tmp_path)
    write_stage(tmp_path, "tables", TABLES)
    assert module.gpu_pages.gpu_status(tmp_path) == (f"({CARD}) 4 of the paper's 15 one-stage detectors were measured")


def test_readme(module: SimpleNamespace, tmp_path: Path) -> None:
    readme = Path("README.md").read_text()
    assert "nothing has been measured" in module.gpu_pages.fill_gpu(readme, tmp_path)
    write_stage(tmp_path, "tables", TABLES)
    page = module.gpu_pages.fill_gpu(readme, tmp_path)
    assert "nothing has been measured" not in page
    assert page.count(CARD) >= 2
    assert module.gpu_pages.energy_status(tmp_path).startswith(f"Energy has been measured on {CARD}, see")
    assert "no GPU has been tested" in module.gpu_pages.energy_status(tmp_path / "none")


def test_weights_ship_with_their_record_and_a_picture(module: SimpleNamespace, package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "back/gpu"
    finished_run(folder, 0.51)
    assert "voc" not in names.shipped_weights()
    assert module.gpu_pages.voc_block() == ""
    with pytest.raises(FileNotFoundError, match="no weights trained on COCO or VOC are published"):
        vovnet.load("voc")
    shipped = module.ship_voc.ship(folder, package)
    assert list(names.shipped_weights()) == ["bccd", "voc"]
    assert load_model(shipped).record["test"]["voc07_map"] == 0.51
    assert vovnet.load("voc", device="cpu").class_names == CLASSES
    assert {path.name for path in (package / "docs/records/gpu").iterdir()} == {"voc.json", "voc.log.jsonl"}
    with Image.open(package / "docs/detections_voc.jpg") as picture:
        assert picture.height == 300
        assert picture.width > 1200
    block = module.gpu_pages.voc_block()
    assert "51.0 % mAP" in block
    assert "docs/detections_voc.jpg" in block
    assert "no weights for <!-- voc-status -->COCO<" in module.gpu_pages.fill_status(Path("README.md").read_text())


def test_demo_detects_on_photographs_once_the_weights_ship(
    module: SimpleNamespace, package: Path, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("demo", "examples/demo.py")
    demo: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    assert demo.detect_photographs(tmp_path / "out") == []
    assert not (tmp_path / "out").exists()
    finished_run(tmp_path / "back/gpu", 0.51)
    module.ship_voc.ship(tmp_path / "back/gpu", package)
    assert len(demo.detect_photographs(tmp_path / "out")) == 4
    assert len(list((tmp_path / "out/drawn").iterdir())) == 4


def test_what_is_not_good_enough_does_not_ship(module: SimpleNamespace, package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "back/gpu"
    with pytest.raises(ValueError, match="run `make gpu` first"):
        module.ship_voc.ship(folder, package)
    finished_run(folder, 0.44)
    with pytest.raises(ValueError, match=r"held-out mAP of 0.440; weights ship from 0.45 on"):
        module.ship_voc.ship(folder, package)
    write_stage(folder.parent, "voc", {"held": HELD})
    with pytest.raises(ValueError, match="not of the same round"):
        module.ship_voc.ship(folder, package)
    assert list(names.shipped_weights()) == ["bccd"]
