"""Names that strangers chose reach the terminal without power over it: no escape, no turned text, no forged line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image

from vovnet.cli.main import main
from vovnet.printing import printable
from vovnet.profiling.measurement import write_measurements
from vovnet.report.measurement_report import to_markdown
from vovnet.weights.detector import ModelInfo, save_weights
from vovnet.zoo import create_backbone

from ..unit.report.measured import measurements

FORGED = "vovnet: finished, all is well"
EVIL = f"\x1b[2J\x9b31m\u202e\u2066\r\x07\n{FORGED}\n"
CLASSES = (f"cat{EVIL}", "[red]x[/red]", "_hidden", "$\\frac{$", "猫😀👩\u200d🔬", "<b>&|`x`", "y" * 100_000)
NAME = f"photo{EVIL}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO dataset and weights, whose folders, files, splits and classes have hostile names."""
    folder = tmp_path_factory.mktemp("hostile") / f"in{EVIL}"
    root = folder / "data"
    (root / "annotations").mkdir(parents=True)
    for split, count in ((f"train{EVIL}", 2), (f"val{EVIL}", 1)):
        images, annotations = [], []
        (root / "images" / split).mkdir(parents=True)
        for number in range(count):
            name = f"{NAME}{number}.png"
            Image.new("RGB", (96, 96), (90, 40 * number, 20)).save(root / "images" / split / name)
            images.append({"id": number, "file_name": name, "width": 96, "height": 96})
            annotations += [
                {"id": 10 * number + label, "image_id": number, "category_id": label + 1, "iscrowd": 0,
                 "bbox": [8.0 * label, 8, 30, 40], "area": 1200}
                for label in range(len(CLASSES))
            ]  # fmt: skip
        annotations.append({"id": 99, "image_id": 0, "category_id": 1, "iscrowd": 0, "bbox": [9, 9, -1, 5], "area": 5})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    (folder / f"broken{EVIL}.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / f"broken{EVIL}.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, CLASSES, tuple(range(1, len(CLASSES) + 1)))
    save_weights(folder / f"w{EVIL}.safetensors", info.build().state_dict(), info, {})
    return folder


@pytest.fixture
def shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Run a command in an empty folder; returns the lines of stdout and stderr, after a look at them."""
    monkeypatch.chdir(tmp_path)

    def shown(*arguments: object, codes: Sequence[int] = (0,)) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["vovnet", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        text = "\n".join(capfd.readouterr())
        check(text)
        assert int(stopped.value.code or 0) in codes, text[-2000:]
        return [line for line in text.split("\n") if line]

    return shown


def check(text: str) -> None:
    assert printable(text) == text, sorted(set(re.findall(r"[^\n\t -~]", text)) - set(re.findall(r"\w", text)))
    assert "\t" not in text
    assert "Traceback" not in text
    lines = text.split("\n")
    assert not [line for line in lines if line.lstrip().startswith(FORGED)]
    assert max(map(len, lines)) < 5000


def test_the_check_sees_what_is_forged() -> None:
    for text in (EVIL, f"a\n{FORGED}", "x\x1b[1m", "a\u202eb", "Traceback (most recent call last)"):
        with pytest.raises(AssertionError):
            check(text)


def test_list_and_wrong_arguments(shown: Callable[..., list[str]]) -> None:
    shown("list")
    shown("reproduce")
    for arguments in (
        (EVIL,),
        (f"--x{EVIL}",),
        ("list", f"--x{EVIL}=1"),
        ("measure", EVIL, "--batch-size", EVIL),
        ("evaluate", EVIL, EVIL, "--score-threshold", EVIL),
        ("predict", EVIL),
        ("predict", EVIL, "--weights", EVIL),
        ("measure", f"timm:{EVIL}"),
        ("measure", f"{EVIL}:{EVIL}"),
        ("reproduce", EVIL),
        ("train", EVIL),
        ("study", "aggregation", "cifar10_aggregation", f"{EVIL}=1"),
        ("train", "bccd_dsod300_vovnet27_slim", f"data.{EVIL}=1"),
        ("train", "bccd_dsod300_vovnet27_slim", f"data.root={EVIL}"),
        ("weights", "import", EVIL, "--output", "x.safetensors"),
        ("list", "--limit", f"{EVIL}=1"),
        ("data", "check", EVIL),
    ):  # fmt: skip
        lines = shown(*arguments, codes=(1, 2))
        assert len(lines) == 1, lines
        assert len(lines[0]) <= 1010


def test_data_check(folder: Path, shown: Callable[..., list[str]]) -> None:
    lines = shown("data", "check", folder / "data", "--fix", "fixed", codes=(1,))
    assert any(line.startswith("empty-box") or line.startswith("inverted-box") for line in lines), lines
    assert any("[red]x[/red]" in line for line in lines)
    assert any("猫😀👩\u200d🔬" in line for line in lines)


def test_train_evaluate_predict_compare(folder: Path, shown: Callable[..., list[str]]) -> None:
    weights, data = folder / f"w{EVIL}.safetensors", folder / "data"
    config = folder / "c.yaml"
    config.write_text(
        "model: dsod300_vovnet27_slim\nmodel_options: {anchors: coco}\nbatch_size: 1\nmicro_batch_size: 1\nworkers: 0\n"
    )
    split, val = f"train{EVIL}", f"val{EVIL}"
    places = {"root": str(data), "train": split, "val": val}
    settings = [f"data={json.dumps(places)}", f"output={json.dumps(str(folder / 'run'))}", "threads=1"]
    shown("train", config, *settings, "schedule.iterations=1", "optimizer.learning_rate=1e-6", "schedule.kind=cosine",
          "schedule.warmup_iterations=1")  # fmt: skip
    lines = shown("evaluate", weights, data, "--split", val, "--output", folder / "eval", "--workers", "0")
    assert any(line.startswith("_hidden") for line in lines)
    page = shown("predict", data / "images" / split, folder, "--weights", weights, "--output", folder / "out",
                 "--score-threshold", "0", "--top-k", "3", codes=(1,))  # fmt: skip
    assert any("could not be read" in line for line in page)
    shown("compare", weights, "--data", data, "--split", val, "--output", folder / "cmp", "--score-threshold", "0",
          "--top-k", "3")  # fmt: skip


def test_measure_a_record(folder: Path, shown: Callable[..., list[str]]) -> None:
    """With its report, whose pages and plots have to be valid too."""
    rows, row = [], measurements()[0]
    for number, name in enumerate((CLASSES[0], "[red]x[/red]")):
        conditions = replace(row.conditions, device_name=f"GPU{EVIL}", system=EVIL, software={f"a{EVIL}": f"b{EVIL}"})
        stages = {f"stage {number}{EVIL}": latency for number, latency in enumerate((row.stages or {}).values())}
        rows.append(replace(row, name=name, conditions=conditions, stages=stages, ratio_to=f"{number}{EVIL}"))
    write_measurements(rows, folder / "record.json")
    lines = shown("measure", folder / "record.json", "--layers", "--output", folder / "report")
    assert any(line.startswith("[red]x[/red]") for line in lines)
    for file in (folder / "report").rglob("*.svg"):
        ElementTree.fromstring(file.read_bytes())
    page = (folder / "report" / "measurement.html").read_text()
    assert printable(page) == page
    assert "[red]x[/red]" in page
    table = next(block for block in to_markdown(rows).split("\n\n") if block.startswith("| model"))
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n")}) == 1


def test_weights_import(folder: Path, shown: Callable[..., list[str]]) -> None:
    weights = folder / f"w{EVIL}.safetensors"
    shown("weights", "import", weights, "--output", folder / "x.safetensors", codes=(1, 2))
    create = create_backbone("vovnet27_slim").state_dict()
    torch.save({f"{name}{EVIL}": tensor for name, tensor in create.items()}, folder / f"b{EVIL}.pth")
    shown("weights", "import", folder / f"b{EVIL}.pth", "--output", folder / "x.safetensors", codes=(1, 2))


def test_messages_of_other_packages() -> None:
    """Log messages, also with a traceback, warnings, and errors that nobody handles."""
    script = f"""
import logging, threading, warnings
from vovnet.console import guarded_terminal
evil = {EVIL!r}
def fail():
    raise ValueError(evil)
with guarded_terminal():
    logging.getLogger("PIL" + evil).warning("%s", evil)
    try:
        fail()
    except ValueError:
        logging.getLogger("x").exception(evil)
    warnings.warn(evil)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    class Removed:
        def __del__(self):
            fail()
    Removed()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    check(done.stderr.decode())
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 5
    assert all(line.startswith("vovnet: ") for line in lines)
    assert sum("ValueError" in line for line in lines) == 3
    assert "UserWarning" in lines[2]


def test_json_on_stdout_is_one_line_of_ascii(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vovnet", "data", "check", str(folder / "data"), "--json", "-"],
        cwd=tmp_path, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.isascii()
    assert done.stdout.count(b"\n") == 1
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)
    assert CLASSES[0] in done.stdout.decode("unicode_escape")
    check(done.stderr.decode())
