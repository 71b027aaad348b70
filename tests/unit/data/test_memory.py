"""The memory of the data commands does not grow with the images: only some bytes an image are held."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from vovnet.data import spooled
from vovnet.data.check import check_dataset
from vovnet.data.checking import image_scan, quantiles
from vovnet.data.checking.cleaned_copy import find_difference
from vovnet.data.conversion import convert_dataset
from vovnet.data.dataset import ImageAnnotation, ImageTable, ObjectAnnotation, SplitAnnotations
from vovnet.data.formats import open_dataset
from vovnet.data.splitting import divide

FEW, MANY = 200, 1200
# Bytes an image that the peak may grow by: keys of 8 bytes, sorted copies of them, rows, sizes, places of small parts.
MOST = {"check": 180, "convert to yolo": 160, "convert to voc": 200, "split": 140, "open": 120}
MOST_OF_COMPARISON = 120


def make_yolo(root: Path, count: int) -> Path:
    """Images of which each has one to three objects. They are links to one file."""
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
    source = root / "source.png"
    Image.new("RGB", (64, 48), "white").save(source)
    for number in range(count):
        split, name = "val" if number % 5 == 0 else "train", f"image_{number:07}"
        (root / "images" / split / f"{name}.png").hardlink_to(source)
        boxes = [f"{index} 0.5 0.{4 + index} 0.{1 + number % 8} 0.25\n" for index in range(1 + number % 3)]
        (root / "labels" / split / f"{name}.txt").write_text("".join(boxes))
    source.unlink()
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [red, green, blue]\n")
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Format and number of images → dataset."""
    folder = tmp_path_factory.mktemp("many")
    found = {("yolo", count): make_yolo(folder / f"yolo_{count}", count) for count in (FEW, MANY)}
    for count in (FEW, MANY):
        found["voc", count] = folder / f"voc_{count}"
        convert_dataset(found["yolo", count], "voc", found["voc", count], link=True, workers=1)
    return found


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "check": lambda root, out: check_dataset(root, headers=True, workers=1),
    "convert to yolo": lambda root, out: convert_dataset(root, "yolo", out, link=True, workers=1),
    "convert to voc": lambda root, out: convert_dataset(root, "voc", out, link=True, workers=1),
    "split": lambda root, out: divide(root, {"train": 0.8, "val": 0.2}, compare_images=False),
    "open": lambda root, out: sum(len(sample.target) for sample in open_dataset(root, "train")),
}


def peak_of(run: Callable[[], object]) -> int:
    gc.collect()
    tracemalloc.start()
    run()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held whatever the number of images is little, so that it does not hide what grows with them."""
    monkeypatch.setattr(spooled, "PART", 2048)
    monkeypatch.setattr(spooled, "PAGE", 512)
    monkeypatch.setattr(spooled, "SORTED_AT_ONCE", 128)
    monkeypatch.setattr(image_scan, "_AT_ONCE", 128)
    monkeypatch.setattr(quantiles, "_SHIFT", 56)
    # Of the table of interned names, which Python makes anew now and then, nothing can be told.
    monkeypatch.setattr(sys, "intern", lambda text: text)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("form", ["yolo", "voc"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_peak_hardly_grows(command: str, form: str, roots: dict[tuple[str, int], Path], tmp_path: Path) -> None:
    run = COMMANDS[command]
    run(roots[form, FEW], tmp_path / "first")  # imports what the others need
    few, many = (peak_of(lambda count=count: run(roots[form, count], tmp_path / str(count))) for count in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < MOST[command]


@pytest.mark.usefixtures("small_parts")
def test_a_cleaned_copy_is_compared_without_holding_it() -> None:
    def split(root: str, count: int) -> SplitAnnotations:
        objects = tuple(ObjectAnnotation(number, "red", (1.0, 2.0, 3.0, 4.0)) for number in range(3))
        images = (
            ImageAnnotation(Path(root, f"{number:07}.png"), Path(root, f"{number:07}.txt"), number, objects)
            for number in range(count)
        )
        return SplitAnnotations(Path(root), "yolo", "train", ("red",), (0,), ImageTable.of(images))

    peaks = {}
    for count in (FEW, FEW, MANY):
        promised, copy = [split("data", count)], [split("copy", count)]
        peaks[count] = peak_of(partial(find_difference, promised, copy))
        assert find_difference(promised, copy) == ""
    assert (peaks[MANY] - peaks[FEW]) / (MANY - FEW) < MOST_OF_COMPARISON
