"""The exports of annotation tools are recognised, read, and copied without loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.conversion import convert_dataset
from vovnet.data.formats import open_dataset, recognise, splits

from ..small_datasets import clean_and_check
from ..tool_exports import EXPORTS, Boxes, cvat_images, cvat_voc, roboflow_voc, write


def read(root: Path, split: str) -> Boxes:
    dataset = open_dataset(root, split)
    names = dataset.class_names
    return {
        sample.image_path.relative_to(root).as_posix(): [
            (names[label], (*map(float, box),))
            for label, box in zip(sample.target.labels.tolist(), sample.target.boxes.tolist(), strict=True)
        ]
        for sample in dataset
    }


def assert_same(found: Boxes, expected: Boxes, tolerance: float = 1e-3) -> None:
    """The same objects of each image; a list of boxes in another order is the same."""
    assert found.keys() == expected.keys()
    for name, objects in expected.items():
        assert [label for label, _ in sorted(found[name])] == [label for label, _ in sorted(objects)]
        for (_, box), (_, wanted) in zip(sorted(found[name]), sorted(objects), strict=True):
            assert box == pytest.approx(wanted, abs=tolerance)


@pytest.mark.parametrize(("make", "name", "reason", "split"), EXPORTS.values(), ids=EXPORTS)
def test_an_export_is_read_as_the_tool_wrote_it(
    tmp_path: Path, make: Callable[[Path], Boxes], name: str, reason: str, split: str
) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    expected = make(root)
    recognition = recognise(root)
    assert recognition.format == name
    assert reason in recognition.reason
    assert recognition.others == ()
    assert split in splits(root)
    assert_same(read(root, split), expected)
    report = check_dataset(root, workers=1)
    assert not set(report.count_by_kind()) - {"split-leak", "no-labels"}
    assert clean_and_check(root, out).problems == ()
    copied = read(out, split)
    assert_same(copied, {path: objects for path, objects in expected.items() if path in copied})


def test_a_folder_with_two_formats_says_which_one_is_read(tmp_path: Path) -> None:
    roboflow_voc(tmp_path)
    cvat_images(tmp_path)
    recognition = recognise(tmp_path)
    assert recognition.format == "VOC"
    assert recognition.others == ("CVAT XML (annotations.xml is CVAT's own XML)",)
    assert recognition.sentence() == (
        "VOC, because train/ holds XML files that begin with <annotation>; not read: "
        "CVAT XML (annotations.xml is CVAT's own XML)"
    )


def test_one_format_in_two_ways_is_no_second_one(tmp_path: Path) -> None:
    write(
        tmp_path, {"data.yaml": "names: [cat]\ntrain: images\n", "classes.txt": "cat\n", "images/a.txt": "0 0 0 1 1\n"}
    )
    assert recognise(tmp_path).sentence() == "YOLO, because data.yaml describes it"


def test_a_corrected_box_of_cvat_stays_counted_from_0(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    cvat_voc(root)
    path = root / "Annotations/one.xml"
    path.write_text(path.read_text().replace("<xmax>55</xmax>", "<xmax>75</xmax>"))
    assert check_dataset(root, workers=1).count_by_kind() == {"box-partly-outside": 1}
    assert clean_and_check(root, out).problems == ()
    assert "<xmin>40</xmin><ymin>20</ymin><xmax>60</xmax><ymax>35</ymax>" in (out / "Annotations/one.xml").read_text()
    assert read(out, "default")["JPEGImages/one.png"] == [("cat", (10, 5, 30, 25)), ("dog", (40, 20, 60, 35))]


@pytest.mark.parametrize("text", ["background\ncat\n", "cat\ndog\n", ""])
def test_another_label_map_leaves_boxes_counted_from_1(tmp_path: Path, text: str) -> None:
    cvat_voc(tmp_path)
    (tmp_path / "labelmap.txt").write_text(text)
    assert read(tmp_path, "default")["JPEGImages/one.png"][0] == ("cat", (9, 4, 30, 25))


@pytest.mark.parametrize(("make", "split"), [(export[0], export[3]) for export in EXPORTS.values()], ids=EXPORTS)
def test_an_export_can_be_converted(tmp_path: Path, make: Callable[[Path], Boxes], split: str) -> None:
    expected = {Path(path).stem: objects for path, objects in make(tmp_path / "d").items()}
    convert_dataset(tmp_path / "d", "coco", tmp_path / "out")
    assert_same({Path(path).stem: objects for path, objects in read(tmp_path / "out", split).items()}, expected)
