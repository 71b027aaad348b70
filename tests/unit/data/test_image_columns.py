"""Annotations come out of the columns as they went in, and take little memory there."""

from __future__ import annotations

import math
import pickle
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vovnet.data import spooled
from vovnet.data.dataset import ImageAnnotation, ImageTable, ObjectAnnotation
from vovnet.data.keys import are_repeated, keys_of

BOX = (1.0, 2.5, 30.0, 40.0)
OBJECT = ObjectAnnotation(3, "cat", BOX)
IMAGE = ImageAnnotation(Path("data/images/a.jpg"), Path("data/labels/a.txt"), "a", (OBJECT,), (40, 60))


@pytest.fixture(autouse=True, params=["in memory", "in a file"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with columns that stay in memory, and with such as are in a file but for some bytes."""
    if request.param == "in a file":
        monkeypatch.setattr(spooled, "PART", 16)
    return str(request.param)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        replace(IMAGE, image_path=Path("a.jpg"), annotation_path=Path("/elsewhere/a.xml")),
        replace(IMAGE, image_path=Path("data/..jpg"), image_id="."),
        replace(IMAGE, image_path=Path("data/\udcff\u00e9.jpg"), image_id="\udcff\u00e9"),
        *(replace(IMAGE, image_id=image_id) for image_id in ("b", "a.jpg", 0, -7, 10**18, -(2**63), 10**40)),
        *(replace(IMAGE, image_size=size) for size in (None, (10**30, 5), (2**31, 2**31), (1, 1))),
        replace(IMAGE, unusable_objects=4, orientation=6),
        replace(IMAGE, objects=()),
        *(
            replace(IMAGE, objects=(OBJECT, replace(OBJECT, **change)))
            for change in (
                {"index": 2**40},
                {"class_name": "a dog"},
                {"box": (float("inf"), -1e308, 0.1, 3.0)},
                {"box": (math.nan, 1.0, math.nan, 3.0)},
                {"difficult": True},
                {"crowd": True, "area": 0.5},
                {"area": 0.0},
                *(
                    {"mask": mask}
                    for mask in (
                        [[1, 2, 3, 4, 5, 6]],
                        [[0.1, -0.0, 1e300, 5e-324]],
                        [],
                        {"size": [3, 2], "counts": "a\udcff"},
                        [[math.inf]],
                        0,
                        "",
                        {},
                        [None, True, 2**70, {"a": ()}],
                        {"counts": b"12"},
                        (1, 2),
                    )
                ),
                {"mask": [[1.5] * 100], "stated": "polygon", "crowd": True},
                {"stated": "line 1: 0 1 2"},
            )
        ),
    ],
    ids=str,
)
def test_an_image_comes_out_as_it_went_in(image: ImageAnnotation) -> None:
    table = ImageTable.of([IMAGE, image, IMAGE])
    assert table[1] == image
    assert table[1].orientation == image.orientation
    assert list(table) == [IMAGE, image, IMAGE]
    assert table == (IMAGE, image, IMAGE)
    assert list(table.paths())[1] == str(image.image_path)
    assert list(table.object_counts())[1] == len(image.objects)


def test_a_changed_table_shares_what_stays() -> None:
    table = ImageTable.of(replace(IMAGE, image_id=number) for number in range(4))
    bare = replace(IMAGE, image_id=1, objects=())
    changed = table.changed(lambda image: {1: bare, 2: None}.get(image.image_id, image))
    assert [image.image_id for image in changed] == [0, 1, 3]
    assert changed[1] == bare
    assert table[1].objects == (OBJECT,), "the table itself stays as it was"
    assert list(changed.rows)[::2] == [0, 3]
    assert table.select([3, 0]) == (table[3], table[0])
    assert table.select(np.array([True, False, False, True])) == (table[0], table[3])


@pytest.mark.parametrize(
    ("folder", "other"), [("data", "/x/data"), ("data", "."), (".", "deep/er"), ("data/images", "data"), ("dat", "cat")]
)
def test_a_moved_table(folder: str, other: str) -> None:
    table = ImageTable.of([IMAGE, replace(IMAGE, annotation_path=Path("/elsewhere/a.xml"))])
    moved = table.moved(Path(folder), Path(other))

    def move(path: Path) -> Path:
        return Path(other, path.relative_to(folder)) if path.is_relative_to(folder) else path

    for before, after in zip(table, moved, strict=True):
        assert after.image_path == move(before.image_path)
        assert after.annotation_path == move(before.annotation_path) or before.annotation_path.is_absolute()
    moved.changed(lambda image: replace(image, image_path=Path("new/b.jpg")))
    assert table[0] == IMAGE


def test_a_table_and_its_moved_copy_can_both_take_new_images() -> None:
    table = ImageTable.of(
        replace(IMAGE, annotation_path=Path(f"data/labels/{number}.txt"), image_id=number) for number in range(3)
    )
    spoiled = [replace(image, unusable_objects=1) for image in table]
    moved = table.moved(Path("data"), Path("other"))
    moved.changed(lambda image: replace(image, unusable_objects=1) if image.image_id == 0 else image)
    assert table.changed(lambda image: spoiled[image.image_id] if image.image_id == 2 else image)[2] == spoiled[2]


def test_masks_are_left_out_of_one_table_only() -> None:
    table = ImageTable.of([replace(IMAGE, objects=(replace(OBJECT, mask=[[1, 2, 3, 4, 5, 6]]),))])
    assert table.without_masks()[0] == IMAGE
    assert table[0].objects[0].mask is not None


def _nested(depth: int) -> list[object]:
    mask: list[object] = []
    for _ in range(depth):
        mask = [mask]
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        [[np.float64(1.5), 2.5]],
        np.arange(6.0),
        [np.arange(6.0)],
        bytearray(b"12"),
        Path("a"),
        [[math.nan]],
        _nested(3000),
    ],
    ids=lambda mask: type(mask).__name__,
)
def test_a_mask_that_is_not_plain_is_the_same_object(mask: object) -> None:
    """Such that a reader of another library could give: nothing else is known to be equal to them."""
    table = ImageTable.of([replace(IMAGE, objects=(replace(OBJECT, mask=mask),))])
    assert table[0].objects[0].mask is mask
    assert table.columns.has_masks
    assert table.without_masks()[0].objects[0].mask is None


def test_a_mask_that_is_nested_too_deeply_to_be_compared() -> None:
    table = ImageTable.of([replace(IMAGE, objects=(replace(OBJECT, mask=_nested(1500)),))])
    mask: Any = table[0].objects[0].mask
    for _ in range(1500):
        (mask,) = mask
    assert mask == []


def test_a_table_without_masks_can_take_images_with_masks() -> None:
    masked = replace(IMAGE, objects=(replace(OBJECT, mask=[[1, 2, 3, 4, 5, 6]]),))
    bare = ImageTable.of([masked, IMAGE]).without_masks()
    assert not bare.columns.has_masks
    changed = bare.changed(lambda image: masked)
    assert changed == (masked, masked)
    assert bare == (IMAGE, IMAGE)
    assert changed.columns.has_masks


def test_a_pickled_table_has_its_own_rows() -> None:
    images = [replace(IMAGE, image_id=number, objects=(OBJECT,) * (number % 4)) for number in range(50)]
    images[7] = replace(images[7], objects=(replace(OBJECT, mask=[[1, 2, 3, 4, 5, 6]], stated="?"),), image_id=10**40)
    table = ImageTable.of(images)
    assert len(table.keys) == 50
    again = pickle.loads(pickle.dumps(table))
    assert again == images
    assert "keys" not in vars(again), "the keys of texts are other ones in another process"
    again.changed(lambda image: replace(image, image_id="new"))
    assert table == images


def test_an_image_takes_some_bytes(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the table of interned names, which Python makes anew now and then, nothing can be told.
    monkeypatch.setattr(sys, "intern", lambda text: text)
    if place == "in a file":
        monkeypatch.setattr(spooled, "PART", 1024)

    def images(count: int) -> Iterator[ImageAnnotation]:
        for number in range(count):
            name = f"image_{number:07}"
            objects = tuple(ObjectAnnotation(index, "cat", BOX) for index in range(3))
            yield ImageAnnotation(Path(f"i/{name}.jpg"), Path(f"l/{name}.txt"), name, objects, (480, 640), 0, 1)

    def taken(count: int) -> int:
        tracemalloc.start()
        table = ImageTable.of(images(count))
        for image in table:
            assert image.image_size
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(table) == count
        return used

    taken(10)
    if place == "in a file":
        assert taken(2000) - taken(300) < 50 * 1700, "rows, and some bytes for each part"
    else:
        assert taken(2000) < 400 * 2000


def test_values_that_repeat() -> None:
    assert are_repeated(keys_of("abca")).tolist() == [True, False, False, True]
    assert are_repeated(keys_of([])).tolist() == []
