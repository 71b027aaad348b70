"""What each extra is for, the commands that need it, and what docs/install.md says of it from docs/records."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA, CLIP = ROOT / "samples/bccd", ROOT / "samples/video/cars.mp4"
IMAGE = DATA / "JPEGImages/BloodImage_00000.jpg"
MEASURE = ("measure", "mobilenet", "--input-size", "64", "--repetitions", "5", "--no-memory")
TRAIN = (
    "train", "bccd_ssdfpn320_vovnet19_tiny", f"data.root={DATA}", "data.val=null", "schedule.epochs=null",
    "schedule.iterations=1", "metric=voc07_map", "batch_size=2", "micro_batch_size=2", "workers=0", "precision=fp32",
)  # fmt: skip
NVML = "import torch; from vovnet.profiling.energy.nvml import find_nvml; print(find_nvml(torch.device('cuda')).reason)"
HUB = """
from vovnet.weights.hub import hub_library
try:
    print(hub_library("hf:owner/name", "hub").__name__)
except ModuleNotFoundError as error:
    print(error)
"""
EXCHANGE = f"""
import vovnet
try:
    print(type(vovnet.load("bccd_small", "cpu").predict({str(IMAGE)!r}).METHOD()))
except ModuleNotFoundError as error:
    print(error)
"""
RUNNER_EXCHANGE = f"""
from vovnet.runtime import load
try:
    print(type(load(FILE).predict({str(IMAGE)!r}).METHOD()))
except ModuleNotFoundError as error:
    print(error)
"""
ZEUS = "from vovnet.profiling.energy.zeus import find_zeus_chip; print(find_zeus_chip().reason)"

# What each extra of vovnet is for, as docs/install.md says it.
PURPOSES = {
    "eval": "`vovnet evaluate`: VOC and COCO metrics, curves, the confusion matrix; masks",
    "train": "a TensorBoard log of training runs",
    "video": "reading and writing videos",
    "energy": "power readings of NVIDIA GPUs",
    "zeus": "power readings of AMD GPUs, Jetson boards and Apple computers",
    "timm": "timm's models and backbones by name",
    "onnx": "exporting to ONNX Runtime and running there; measuring ONNX files",
    "openvino": "exporting to OpenVINO, also in int8, and running there",
    "mnn": "exporting to MNN and running there",
    "hub": "weights on the Hugging Face Hub: `hf:OWNER/NAME`, `vovnet weights push`",
    "pandas": "detections as a pandas table",
    "supervision": "detections for supervision's annotators",
    "fiftyone": "detections and datasets in FiftyOne, which brings a database and a web app",
    "report": "pages and plots of `vovnet measure`, `compare` and `reproduce`",
    "all": "`eval`, `train`, `video`, `energy`, `onnx`, `openvino`, `mnn` and `report`",
}
COLLECTIVE = {"all", "dev", "docs"}  # what others are together, and the tools of developers


@dataclass(frozen=True)
class Use:
    """What needs an extra: the arguments of `vovnet`, or a program that prints why something cannot be read."""

    extra: str
    arguments: tuple[str, ...] = ()
    program: str = ""


# Each works in an empty folder, in this order.
WITHOUT_EXTRAS = (
    ("--help",),
    ("list",),
    ("predict", str(IMAGE), "--device", "cpu"),
    ("data", "check", str(DATA)),
    MEASURE,
    TRAIN,
    ("predict", str(IMAGE), "--weights", "runs/bccd_ssdfpn320_vovnet19_tiny"),
)
USES = (
    Use("eval", ("evaluate", "bccd_small", str(DATA), "--split", "val", "--workers", "0")),
    Use("train", (*TRAIN, "output=runs/logged", "tensorboard=true")),
    Use("video", ("predict", str(CLIP), "--weights", "bccd_small")),
    Use("energy", program=NVML),
    Use("zeus", program=ZEUS),
    Use("timm", ("measure", "timm:resnet18", *MEASURE[2:])),
    Use("onnx", ("export", "bccd_small", "--to", "onnx")),
    Use("openvino", ("export", "bccd_small", "--to", "openvino")),
    Use("mnn", ("export", "bccd_small", "--to", "mnn")),
    Use("hub", program=HUB),
    *(Use(name, program=EXCHANGE.replace("METHOD", f"to_{name}")) for name in ("pandas", "supervision", "fiftyone")),
    Use("report", (*MEASURE, "--output", "measured")),
    Use("report", ("compare", "bccd", "--images", str(IMAGE))),
    Use("report", ("reproduce", "table1")),
)


def extras(project: Path = ROOT / "pyproject.toml") -> dict[str, list[str]]:
    """Extra → requirements."""
    found = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {str(name): list(requirements) for name, requirements in found.items()}


def in_all() -> set[str]:
    """The extras that `all` installs."""
    (requirement,) = extras()["all"]
    return set(requirement.removeprefix("vovnet[").removesuffix("]").split(","))


def runner_uses(exported: Path) -> Iterator[Use]:
    """What needs an extra of vovnet-runtime. exported: a folder with bccd_small exported for each runtime."""
    onnx = str(exported / "bccd_small.onnx")
    for name in ("openvino", "mnn"):
        yield Use(name, ("predict", str(exported / f"bccd_small_{name}"), str(IMAGE)))
    yield Use("video", ("predict", onnx, str(CLIP)))
    for name in ("pandas", "supervision", "fiftyone"):
        yield Use(name, program=RUNNER_EXCHANGE.replace("METHOD", f"to_{name}").replace("FILE", repr(onnx)))


def install_block(records: Path) -> str:
    """The table of docs/install.md."""
    path = records / "environments.json"
    weights = _weights(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    rows = [[f"`{name}`", purpose, *weights.get(name, ("not measured yet", "–"))] for name, purpose in PURPOSES.items()]
    lines = [["extra", "for", "adds (MB)", "packages"], ["---", "---", "---:", "---:"], *rows]
    return "\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _weights(record: Mapping[str, object]) -> dict[str, tuple[str, str]]:
    """Extra → megabytes and packages that it adds to a plain installation."""
    return dict(_cells(record["vovnet"]))


def _cells(rows: object) -> Iterator[tuple[str, tuple[str, str]]]:
    assert isinstance(rows, list)
    for row in rows:
        yield row["extra"], (f"{row['adds_mb']:,.0f}" if row["adds_mb"] >= 1 else "< 1", str(row["adds_packages"]))
