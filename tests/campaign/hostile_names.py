"""Commands over data and weights whose names would drive a terminal, a spreadsheet or a page: all output is harmless."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import workplace
from .commands import Check, Finished, contents, vovnet
from .kills import whole

SECTION = "hostile names"
FORGED = "vovnet: all is well"
NAMES = (f"a\x1b[2J\n{FORGED}", "=cmd('x')!A1", "\u202egpj.exe", "$\\frac{$<script>alert(1)</script>")
_POWER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
    few = ["--threads", "1"]
    return {
        "data check": ["data", "check", "coco"],
        "data check --json": ["data", "check", "coco", "--json", "-"],
        "data check --fix": ["data", "check", "coco", "--fix", "copy"],
        "predict": ["predict", "images", "--weights", "weights.safetensors", "--score-threshold", "0", "--top-k", "3", "--output", "out", *few],
        "evaluate": ["evaluate", "weights.safetensors", "coco", "--split", "train", "--output", "out", "--workers", "0", *few],
        "compare": ["compare", "weights.safetensors", "--data", "coco", "--split", "train", "--limit", "1", "--output", "out", *few],
        "measure": ["measure", "weights.safetensors", "--repetitions", "2", "--no-memory", "--output", "out", "--json", "out/x.json", *few],
        "train": ["train", "config.yaml", "data.root=coco", "data.val=null", "schedule.iterations=1", "output=run"],
        "unknown class": ["predict", "images/0.jpg", "--weights", "weights.safetensors", "--classes", "cot"],
        "unknown split": ["evaluate", "bccd", "coco", "--split", f"\x1b[2J\n{FORGED}"],
    }  # fmt: skip


def _hostile_data(folder: Path) -> None:
    pictures = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(2)]
    boxes = [{"id": i, "image_id": i % 2, "category_id": i % 5, "bbox": [9 * i, 9, 90, 60 + i], "area": 9, "iscrowd": 0} for i in range(10)]
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


def harm_in_text(data: bytes) -> list[str]:
    """What could drive a terminal, or passes for a message of ours."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"not UTF-8: {error}"]
    faults = [f"prints {match[0]!a} in {text[max(0, match.start() - 40) : match.end() + 20]!a}" for match in _POWER.finditer(text)][:1]
    return faults + [f"forged: {line!a}" for line in text.splitlines() if line.strip().startswith(FORGED)]


def harm_in_file(name: str, data: bytes) -> list[str]:
    try:
        whole(name, data)
    except Exception as error:
        return [f"cannot be parsed: {error}"]
    suffix = Path(name).suffix
    if suffix == ".csv":
        rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
        return [f"formula {cell!a}" for row in rows for cell in row if cell.startswith(_FORMULA) and not _is_number(cell)][:1]
    if suffix in (".html", ".svg"):
        text = data.decode("utf-8")
        return ["runs a script"] if "<script>alert(1)" in text else []
    return harm_in_text(data) if suffix == ".md" else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


