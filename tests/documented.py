"""What the tests of the documents do with each command: it runs here, or there is a reason why not."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from vovnet import create_backbone

from .small_voc import BCCD
from .unit.weights.test_backbone import osa_names

SMALL = "ssdfpn320_vovnet19_tiny"
Value = TypeVar("Value")

NETWORK = "loads something from the network"
PACKAGES = "changes what is installed, or builds it: the tests of the packages do that"
WHOLE = "runs all tests or benchmarks, or builds the site or the pages from the records, which have tests of their own"
SERVES = "runs until it is stopped"
GPU = "needs a GPU"
HOURS = "takes too long"
DATA = "needs a dataset that is not bundled"
TESTED = "has a test of its own: "

NOT_RUN = {
    "git *": NETWORK,
    "cd *": "goes into what git has fetched",
    "pip *": PACKAGES,
    "make demo": "detects, evaluates and measures, each of which has tests; installs vovnet before",
    "make gpu": GPU,
    **dict.fromkeys(
        ("make setup", "make package", "make install-and-use *", "make environments", "make oldest"), PACKAGES
    ),
    "make *": WHOLE,
    "docker *": "needs Docker and its rights",
    "tensorboard *": SERVES,
    "torchrun *": "starts eight processes; with two it " + TESTED + "tests/smoke/test_training.py",
    "vovnet-runtime serve *": SERVES + "; " + TESTED + "tests/smoke/test_docs_answers.py",
    "curl *": TESTED + "tests/smoke/test_docs_answers.py",
    "python benchmarks/gpu.py --rehearse": TESTED + "tests/smoke/test_gpu_rehearsal.py",
    "python benchmarks/gpu.py --data voc07 *": GPU,
    "python benchmarks/ship_voc.py": GPU,
    "python examples/search_with_optuna.py *": TESTED + "tests/smoke/test_search_example.py",
    "vovnet measure *--device cuda*": GPU,
    "vovnet weights import timm/*": NETWORK,
    "vovnet weights import pytorchcv/*": NETWORK,
    "vovnet weights push * --private": NETWORK,
    "vovnet train my.yaml * backbone_weights=timm/*": NETWORK,
    "vovnet train configs/coco_*": DATA,
    "vovnet reproduce all *": DATA,
    "vovnet reproduce table4 --measure": HOURS,
    "vovnet study aggregation *": DATA,
}
"""Patterns of commands that are only parsed, and why."""

ALTERNATIVES = {
    "docs/data.md: vovnet data check DIR",
    "docs/train.md: vovnet train DIR",
    "docs/train.md: vovnet train configs/bccd_dsod300_vovnet27_slim.yaml",
}
"""Blocks whose commands do not follow one another: each begins in a fresh folder."""

SLOW = {"*: vovnet measure *", "docs/export.md: *", "docs/deploy.md: vovnet export bccd --to openvino*"}
"""Patterns of blocks that take more than 20 seconds: measurements wait until times are stable, exports are tested."""

MAY_FAIL = {
    "vovnet measure * --min-ap *": "there is no model with VOC07 at least",
    "vovnet measure * --runtimes *": "COCO AP drops by",
}
"""Where status 1 is right too, if the command prints this: no model may be within the limits on this machine, and four
images are too few to judge int8."""

_PLANNED = (f"model={SMALL}", "schedule.iterations=2", "batch_size=2", "micro_batch_size=2", "workers=0")
_CONFIGURED = ("schedule.epochs=null", *_PLANNED[1:], "schedule.warmup_iterations=0")
LESS: Mapping[str, tuple[str, ...]] = {
    "vovnet train *.yaml*": _CONFIGURED,
    "vovnet train bccd_*": _CONFIGURED,
    "vovnet train *": _PLANNED,
    "vovnet measure * --runtimes *": ("--repetitions", "20"),
    "vovnet measure *": ("--repetitions", "2", "--no-memory"),
    "vovnet export * --precision *": ("--max-drop", "1"),  # four images judge nothing
    "vovnet evaluate *": ("--workers", "0"),
}
"""What a test adds to a command, so that it takes seconds; the first pattern that fits."""
LEFT_OUT = {"https://host/image.jpg": NETWORK, "--minutes 60": HOURS, "--minutes 30": HOURS}
"""What a test leaves out of a command, and why."""


def _first(patterns: Mapping[str, Value], command: str) -> tuple[str, Value] | None:
    return next((item for item in patterns.items() if fnmatchcase(command, item[0])), None)


def pattern_not_to_run(command: str) -> str | None:
    """The pattern in NOT_RUN that fits the command; None if it is to run."""
    found = _first(NOT_RUN, command)
    return None if found is None else found[0]


def shortened(command: str) -> str:
    """The command with less work."""
    found = _first(LESS, command)
    for part in LEFT_OUT:
        command = command.replace(f" {part}", "")
    return " ".join([command, *(found[1] if found else ())])


def ended_well(command: str, status: int, printed: str) -> bool:
    """Whether a command did what its document says."""
    found = _first(MAY_FAIL, command)
    return status == 0 or (status == 1 and found is not None and found[1] in printed)


def write_dataset(root: Path) -> None:
    """A VOC folder with some images of BCCD in each split, among them those that the documents name."""
    for split, (count, named) in {"train": (8, []), "val": (4, []), "test": (3, ["BloodImage_00385"])}.items():
        ids = [*(BCCD / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count], *named]
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for image_id in ids:
                shutil.copy(BCCD / folder / f"{image_id}{suffix}", root / folder)
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(ids) + "\n")


def write_inputs(folder: Path, repository: Path) -> None:
    """What the documents name in their commands: datasets, photographs, weights of others, a config, a module."""
    for name in ("DIR", "cells", "my_data", "samples/bccd"):
        write_dataset(folder / name)
    for name in ("configs", "samples/photos", "samples/video"):
        (folder / name).symlink_to(repository / name)
    photos = sorted((folder / "DIR" / "JPEGImages").iterdir())
    for name in ("folder", "IMAGES", "images", "new_images", "aerial"):
        (folder / name).mkdir()
        shutil.copy(photos[0], folder / name)
    for name in ("photo.jpg", "image.jpg"):
        shutil.copy(folder / "samples/bccd/JPEGImages/BloodImage_00007.jpg", folder / name)
    (folder / "shots").mkdir()
    with Image.open(photos[1]) as photo:
        photo.save(folder / "shots" / "one.png")
    (folder / "my.yaml").write_text(
        f"model: {SMALL}\ndata: {{root: DIR}}\noptimizer: {{learning_rate: 0.001, clip_norm: 10}}\n"
        "schedule: {epochs: 2}\nbatch_size: 2\nmicro_batch_size: 2\n"
    )
    (folder / "mypackage").mkdir()
    (folder / "mypackage/models.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())\n"
    )
    torch.save(osa_names(create_backbone("vovnet39", stem="stride")), folder / "vovnet39_statedict_norm.pth")
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": argparse.Namespace(lr=0.1)}, folder / "FILE")
