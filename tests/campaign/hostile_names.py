"""Commands over data and weights whose names would drive a terminal, a spreadsheet or a page: output is harmless."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import workplace
from .commands import Check, Finished, contents, vovnet
from .harm import FORGED, harm_in_file, harm_in_text

SECTION = "hostile names"
NAMES = (f"a\x1b[2J\n{FORGED}", "=cmd('x')!A1", "\u202egpj.exe", "$\\frac{$<script>alert(1)</script>")


def hostile_names(*, only: Sequence[str] | None = None) -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = workplace.prepare(Path(temporary))
        _hostile_data(folder)
        _hostile_weights(folder / "weights.safetensors")
        (folder / "images" / "=cmd('x')\x1b[31m\n\u202e.jpg").write_bytes((folder / "images" / "0.jpg").read_bytes())
        (folder / "images" / f"broken\n{FORGED}.jpg").write_bytes(b"no image")
        for name, arguments in _commands().items():
            if only is None or name in only:
                before = contents(folder)
                finished = vovnet(arguments, folder)
                written = {file: data for file, data in contents(folder).items() if before.get(file) != data}
                yield from _judge(name, finished, written)


def _commands() -> dict[str, list[str]]:
    few, ours = ["--threads", "1", "--output", "out"], "weights.safetensors"
    return {
        "data check": ["data", "check", "coco"],
        "data check --json": ["data", "check", "coco", "--json", "-"],
        "data check --fix": ["data", "check", "coco", "--fix", "copy"],
        "predict": ["predict", "images", "--weights", ours, "--score-threshold", "0", "--top-k", "3", *few],
        "evaluate": ["evaluate", ours, "coco", "--split", "train", "--workers", "0", *few],
        "compare": ["compare", ours, "--data", "coco", "--split", "train", "--limit", "1", *few],
        "measure": ["measure", ours, "--repetitions", "2", "--no-memory", "--json", "out/x.json", *few],
        "train": ["train", "config.yaml", "data.root=coco", "data.val=null", "schedule.iterations=1", "output=run"],
        "unknown class": ["predict", "images/0.jpg", "--weights", ours, "--classes", "cot"],
        "unknown split": ["evaluate", "bccd", "coco", "--split", f"\x1b[2J\n{FORGED}"],
    }


def _hostile_data(folder: Path) -> None:
    pictures = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(2)]
    boxes = [
        {"id": i, "image_id": i % 2, "category_id": i % 5, "bbox": [9 * i, 9, 90, 60 + i], "area": 9, "iscrowd": 0}
        for i in range(10)
    ]
    boxes.append({"id": 90, "image_id": 1, "category_id": 0, "bbox": [-50, 9, 20, 9], "area": 9, "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate([*NAMES, "plain"])]
    content = {"images": pictures, "annotations": boxes, "categories": categories}
    for part in ("annotations", "images"):
        (folder / "coco" / part).mkdir(parents=True)
    (folder / "coco/annotations/train.json").write_text(json.dumps(content))
    for i in range(2):
        (folder / f"coco/images/{i}.jpg").write_bytes((folder / "images" / f"{i}.jpg").read_bytes())


def _hostile_weights(path: Path) -> None:
    import torch

    from vovnet.weights.detector import ModelInfo, save_weights

    torch.manual_seed(0)
    info = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, (*NAMES, "plain"), (0, 1, 2, 3, 4))
    save_weights(path, info.build().state_dict(), info, {"note": NAMES[0]})


def _judge(name: str, finished: Finished, written: Mapping[str, bytes]) -> Iterator[Check]:
    """One check of what was printed, and one of each file that was written."""
    faults = []
    if finished.status in (70, -11, -6) or b"Traceback" in finished.stderr:
        faults.append(f"status {finished.status}: {finished.stderr[-200:]!r}")
    for stream in (finished.stdout, finished.stderr):
        faults += harm_in_text(stream)
    yield Check(SECTION, name, "; ".join(faults)[:400])
    for file, data in written.items():
        if Path(file).suffix not in (".pt", ".safetensors"):
            yield Check(SECTION, f"{name}: {Path(file).name!a}", "; ".join(harm_in_file(file, data))[:400])
