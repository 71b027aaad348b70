"""The cleaned copy has every object and every file that no problem names, and checking it again changes nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from vovnet.data.check import KINDS, Report, check_dataset, write_cleaned_copy
from vovnet.data.checking.problem import Problem
from vovnet.data.dataset import SplitAnnotations
from vovnet.data.formats import find_format

from ..small_datasets import (
    HEIGHT,
    WIDTH,
    Spoil,
    assert_only_known_problems,
    cut_short,
    digests,
    make_coco,
    make_masked_coco,
    make_voc,
    make_yolo,
    write_image,
)
from ..test_check import COCO_PROBLEMS, VOC_PROBLEMS, YOLO_PROBLEMS
from .test_repairs import MASK_PROBLEMS

Object = tuple[str, str, str, tuple[float, ...]]  # split, image, class, rounded box
LEAVES_IMAGE_OUT = {"unreadable-image", "duplicate-image", "split-leak", "listed-twice", "missing-annotation"}
CHANGES_BOX = {"box-partly-outside", "mask-box-mismatch"}


def read_all(root: Path) -> tuple[list[SplitAnnotations], list[Problem]]:
    problems: list[Problem] = []
    format_module = find_format(root)
    splits = format_module.read(
        root,
        format_module.splits(root),
        lambda kind, path, detail: problems.append(Problem(kind, "", path.relative_to(root).as_posix(), detail)),
    )
    return list(splits), problems


def objects_of(
    splits: list[SplitAnnotations], named: Callable[[str, str, int], bool] = lambda *_: False
) -> Counter[Object]:
    """The objects that are not `named` by a problem: (split, image, index)."""
    return Counter(
        (split.split, name, obj.class_name, tuple(round(corner, 1) for corner in obj.box))
        for split in splits
        for image in split.images
        for name in [image.image_path.relative_to(split.root).as_posix()]
        for obj in image.objects
        if not named(split.split, name, obj.index)
    )


def named_by(report: Report) -> Callable[[str, str, int], bool]:
    images = {(p.split, p.image) for p in report.problems if p.kind in LEAVES_IMAGE_OUT}
    objects = {
        (p.image, int(match[1]) - 1)
        for p in report.problems
        if (match := re.match(r"object (\d+)", p.detail)) and p.split
    }

    def named(split: str, image: str, index: int) -> bool:
        # A union repeats what its parts have.
        in_parts = split == "trainval" and bool({("train", image), ("val", image)} & images)
        return (split, image) in images or in_parts or (image, index) in objects

    return named


def fix_twice(root: Path, tmp_path: Path) -> tuple[Report, Path]:
    """Fixes, checks the copy, fixes the copy and finds it unchanged."""
    report = check_dataset(root, workers=1)
    write_cleaned_copy(report, tmp_path / "out")
    again = check_dataset(tmp_path / "out", workers=1)
    assert_only_known_problems(report, again)
    assert again.removed == ()
    assert again.images_losing_objects == ()
    write_cleaned_copy(again, tmp_path / "third")
    assert digests(tmp_path / "third") == digests(tmp_path / "out")
    return report, tmp_path / "out"


CASES = [
    *((make_voc, kind, spoil) for kind, _, spoil in VOC_PROBLEMS),
    *((make_coco, kind, spoil) for kind, spoil in COCO_PROBLEMS),
    *((make_yolo, kind, spoil) for kind, spoil in YOLO_PROBLEMS),
    *((make_masked_coco, kind, spoil) for kind, spoil in MASK_PROBLEMS),
]


@pytest.mark.parametrize(("make", "kind", "spoil"), CASES)
def test_only_what_a_problem_names_is_lost(
    tmp_path: Path, make: Callable[[Path], Path], kind: str, spoil: Spoil
) -> None:
    root = make(tmp_path / "d")
    (root / "extra/deep").mkdir(parents=True)
    (root / "extra/deep/notes.md").write_text("mine")
    spoil(root)
    before, _ = read_all(root)
    report, out = fix_twice(root, tmp_path)
    after, _ = read_all(out)
    good, kept = objects_of(before, named_by(report)), objects_of(after)
    assert good - kept == Counter()
    changed = {key: count for key, count in (kept - good).items() if key[0] != "trainval"}  # a union repeats its parts
    assert sum(changed.values()) <= sum(p.kind in CHANGES_BOX | {"duplicate-box"} for p in report.problems)
    assert (out / "extra/deep/notes.md").read_text() == "mine"
    missing = digests(root).keys() - digests(out).keys()
    listed = {removal.image for removal in report.removed}
    stems = {Path(name).stem for name in listed}
    assert {name for name in missing if name not in listed and Path(name).stem not in stems} == set()
    if "left out" in KINDS[kind][1].partition(";")[0]:  # what follows is for other cases
        assert report.removed


# ---- random datasets, whose faults the test knows

CLASSES = ("cat", "dog")


class Plan:
    """Random images with good and bad objects, and what has to remain of them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.images: dict[str, list[tuple[int, tuple[int, int, int, int], bool]]] = {}  # class, box, good
        self.cut: set[str] = set()
        self.splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for number in range(24):
            name = f"im{number}"
            self.splits[("train", "train", "train", "val", "test")[number % 5]].append(name)
            count = int(self.rng.integers(0, 4))
            self.images[name] = [self.make_object(n) for n in range(count)]
            if number > 4 and self.rng.random() < 0.1:
                self.cut.add(name)
        for name in self.splits["train"][:1] + self.splits["val"][:1] + self.splits["test"][:1]:
            self.images[name] = [(label, (1, 2, 30 + label, 20), True) for label in (0, 1)]

    def make_object(self, number: int) -> tuple[int, tuple[int, int, int, int], bool]:
        """Boxes x1 y1 x2 y2 that differ in x1."""
        label = int(self.rng.integers(0, 2))
        x1, y1 = 12 * number + int(self.rng.integers(0, 10)), int(self.rng.integers(0, 20))
        if self.rng.random() < 0.6:
            return label, (x1, y1, x1 + int(self.rng.integers(2, 12)), y1 + int(self.rng.integers(2, 20))), True
        bad = [(x1, y1, x1, y1 + 5), (x1 + 9, y1, x1, y1 + 5), (WIDTH + 3, y1, WIDTH + 9, y1 + 5)]
        return label, bad[int(self.rng.integers(0, 3))], False

    def expected(self, split: str) -> dict[str, list[tuple[str, tuple[int, int, int, int]]]]:
        """Image → good objects, for the images that stay."""
        return {
            name: [(CLASSES[label], box) for label, box, good in self.images[name] if good]
            for name in self.splits[split]
            if name not in self.cut and (not self.images[name] or any(good for *_, good in self.images[name]))
        }

    def write_images(self, root: Path, path_of: Callable[[str, str], str]) -> None:
        for split, names in self.splits.items():
            for name in names:
                path = path_of(split, name)
                write_image(root / path, int(name[2:]))
                if name in self.cut:
                    cut_short(path)(root)


def plan_voc(plan: Plan, root: Path) -> None:
    plan.write_images(root, lambda _, name: f"JPEGImages/{name}.png")
    (root / "Annotations").mkdir()
    (root / "ImageSets/Main").mkdir(parents=True)
    for name, objects in plan.images.items():
        text = "".join(
            f"<object><name>{CLASSES[label]}</name><mine>{n}</mine><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for n, (label, (x1, y1, x2, y2), _) in enumerate(objects)
        )
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{text}</annotation>")
    lists = plan.splits | {"trainval": plan.splits["train"] + plan.splits["val"], "cam1": list(plan.images)[::2]}
    for split, names in lists.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))


def plan_coco(plan: Plan, root: Path) -> None:
    plan.write_images(root, lambda split, name: f"images/{split}/{name}.png")
    (root / "annotations").mkdir()
    for split, names in plan.splits.items():
        images = [
            {"id": n, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
        ]
        annotations = [
            {"id": 10 * n + m, "image_id": n, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "mine": m}
            for n, name in enumerate(names)
            for m, (label, (x1, y1, x2, y2), _) in enumerate(plan.images[name])
        ]
        categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories, "licenses": [3]}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def plan_yolo(plan: Plan, root: Path) -> None:
    plan.write_images(root, lambda split, name: f"{split}/images/{name}.png")
    for split, names in plan.splits.items():
        (root / f"{split}/labels").mkdir()
        for name in names:
            lines = (
                f"{label} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} {(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}\n"
                for label, (x1, y1, x2, y2), _ in plan.images[name]
            )
            (root / f"{split}/labels/{name}.txt").write_text("".join(lines))
    settings = {"names": list(CLASSES), **{split: f"{split}/images" for split in plan.splits}, "mine": [1, {"a": 2}]}
    (root / "data.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize("make", [plan_voc, plan_coco, plan_yolo])
@pytest.mark.parametrize("seed", range(6))
def test_random_datasets_keep_what_is_good(tmp_path: Path, make: Callable[[Plan, Path], None], seed: int) -> None:
    plan, root = Plan(seed), tmp_path / "d"
    root.mkdir()
    make(plan, root)
    report, out = fix_twice(root, tmp_path)
    splits = {split.split: split for split in read_all(out)[0]}
    for name in plan.splits:
        found = {
            image.image_path.stem: [(o.class_name, tuple(round(corner) for corner in o.box)) for o in image.objects]
            for image in splits[name].images
        }
        assert found == plan.expected(name)
        assert list(found) == [stem for stem in plan.splits[name] if stem in found] or make is plan_yolo
    # What is left out is listed: each object, each image, and the images that show objects they no longer name.
    bad = sum(not good for name, objects in plan.images.items() if name not in plan.cut for *_, good in objects)
    assert sum(removal.what == "object" for removal in report.removed) == bad
    kept = set().union(*(plan.expected(split) for split in plan.splits))
    assert {Path(r.image).stem for r in report.removed if r.what == "image"} == plan.images.keys() - kept
    partly = {name for name in kept if not all(good for *_, good in plan.images[name])}
    assert {Path(image).stem for image in report.images_losing_objects} == partly
    if make is plan_voc:
        assert [image.image_id for image in splits["cam1"].images] == [n for n in list(plan.images)[::2] if n in kept]
        assert all("<mine>" in path.read_text() or "<object>" not in path.read_text() for path in out.rglob("*.xml"))
    elif make is plan_coco:
        content = json.loads((out / "annotations/instances_train.json").read_text())
        assert content["licenses"] == [3]
        assert all("mine" in entry for entry in content["annotations"])
    else:
        assert yaml.safe_load((out / "data.yaml").read_text())["mine"] == [1, {"a": 2}]
