"""CVAT's own XML: every shape, subsets, frames, and files that are not what they should be."""

from __future__ import annotations

import codecs
import logging
import math
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, recognise, splits
from vovnet.data.readers.cvat_file import parse_cvat
from vovnet.data.readers.cvat_shapes import shape_box
from vovnet.limits import set_limit

from ..small_datasets import clean_and_check, digests, write_image
from ..tool_exports import LABELS, cvat_box, cvat_image, cvat_video, cvat_xml

META = f"<task><id>5</id>{LABELS}</task>"
POINTS = "20,10;30,30;10,25"


def make(root: Path, *images: str, meta: str = META, name: str = "annotations.xml") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(cvat_xml(meta, "\n".join(images)), encoding="utf-8")
    return root


def boxes_of(root: Path, split: str = "all") -> list[list[float]]:
    (sample,) = open_dataset(root, split)
    return sample.target.boxes.tolist()


@pytest.mark.parametrize(
    ("tag", "attributes", "expected"),
    [
        ("box", {"xtl": "1.5", "ytl": "2", "xbr": "11", "ybr": "22"}, (1.5, 2, 11, 22)),
        # 20 × 10 about (20, 15): turned by 90 degrees it is 10 × 20; by 30 it is 20 cos + 10 sin wide.
        ("box", {"xtl": "10", "ytl": "10", "xbr": "30", "ybr": "20", "rotation": "90"}, (15, 5, 25, 25)),
        (
            "box",
            {"xtl": "10", "ytl": "10", "xbr": "30", "ybr": "20", "rotation": "330.0"},
            (20 - 11.160254, 15 - 9.330127, 20 + 11.160254, 15 + 9.330127),
        ),
        ("polygon", {"points": POINTS}, (10, 10, 30, 30)),
        ("ellipse", {"cx": "30", "cy": "20", "rx": "10", "ry": "5"}, (20, 15, 40, 25)),
        ("ellipse", {"cx": "30", "cy": "20", "rx": "10", "ry": "5", "rotation": "90.00"}, (25, 10, 35, 30)),
        # √(10² cos² 45° + 5² sin² 45°) = √62.5
        (
            "ellipse",
            {"cx": "30", "cy": "20", "rx": "10", "ry": "5", "rotation": "45"},
            (30 - 7.905694, 20 - 7.905694, 30 + 7.905694, 20 + 7.905694),
        ),
        ("mask", {"rle": "1, 3, 2", "left": "4", "top": "6", "width": "3", "height": "2"}, (4, 6, 7, 8)),
        (
            "cuboid",
            {
                **{"xtl1": "10", "ytl1": "8", "xbl1": "10", "ybl1": "30", "xtr1": "25", "ytr1": "9", "xbr1": "25"},
                **{"ybr1": "31", "xtl2": "33", "ytl2": "6", "xbl2": "33", "ybl2": "28", "xtr2": "18", "ytr2": "5"},
                **{"xbr2": "18", "ybr2": "27"},
            },
            (10, 5, 33, 31),
        ),
    ],
)
def test_the_box_of_each_shape(tag: str, attributes: dict[str, str], expected: tuple[float, ...]) -> None:
    assert shape_box(tag, attributes) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("tag", "attributes"),
    [
        ("box", {"xtl": "1", "ytl": "2", "xbr": "3"}),
        ("box", {"xtl": "1", "ytl": "2", "xbr": "3", "ybr": "4", "rotation": "left"}),
        ("box", {"xtl": "1", "ytl": "2", "xbr": "3", "ybr": "1e999", "rotation": "nan"}),
        ("polygon", {"points": "1,2;3,4"}),
        ("polygon", {"points": "1,2;3,4;5"}),
        ("polygon", {}),
        ("polygon", {"points": "1,2;3,4;5,inf"}),
        ("ellipse", {"cx": "30", "cy": "20", "rx": "10"}),
        ("mask", {"left": "4", "top": "6"}),
        ("cuboid", {"xtl1": "10", "ytl1": "8"}),
    ],
)
def test_a_shape_without_its_numbers_has_no_box(tag: str, attributes: dict[str, str]) -> None:
    assert not all(map(math.isfinite, shape_box(tag, attributes)))


def test_what_has_no_area_is_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    for seed, stem in enumerate(("lines", "mixed", "empty")):
        write_image(root / f"images/{stem}.png", seed)
    line = f'<polyline label="cat" points="{POINTS}"></polyline>'
    skeleton = '<skeleton label="person"><points label="nose" points="3,4"></points></skeleton>'
    make(
        root,
        cvat_image(0, "lines.png", line + line),
        cvat_image(1, "mixed.png", cvat_box("cat", (1, 2, 30, 20)) + skeleton + line),
        cvat_image(2, "empty.png", '<tag label="dog"></tag>'),
    )
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(root, "all")
    assert [sample.image_path.stem for sample in dataset] == ["mixed", "empty"]
    assert dataset.class_names == ("dog", "cat")  # a skeleton and its points are no classes of boxes
    assert "left out 4 shapes without an area (3 polyline, 1 skeleton)" in caplog.text
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"no-area": 2}
    assert {problem.detail for problem in report.problems} == {
        "lines.png: 2 shapes without an area (2 polyline)",
        "mixed.png: 2 shapes without an area (1 polyline, 1 skeleton)",
    }
    assert clean_and_check(root, out).problems == ()
    assert [sample.image_path.stem for sample in open_dataset(out, "all")] == ["mixed", "empty"]


def test_subsets_are_splits_and_tell_equal_names_apart(tmp_path: Path) -> None:
    for seed, folder in enumerate(("Train", "Validation")):
        write_image(tmp_path / f"images/{folder}/a.png", seed)
    make(
        tmp_path,
        cvat_image(5, "a.png", cvat_box("cat", (1, 2, 30, 20)), ' subset="Validation" task_id="2"'),
        cvat_image(5, "a.png", cvat_box("dog", (3, 4, 50, 30)), ' subset="Train" task_id="1"'),
        meta=f"<project>{LABELS}</project>",
    )
    assert splits(tmp_path) == ("Train", "Validation")
    for split, box in (("Train", [3, 4, 50, 30]), ("Validation", [1, 2, 30, 20])):
        (sample,) = open_dataset(tmp_path, split)
        assert sample.image_path == tmp_path / f"images/{split}/a.png"
        assert sample.target.boxes.tolist() == [box]
        assert open_dataset(tmp_path, split).class_names == ("dog", "cat")


def test_frames_of_two_videos_are_told_apart_by_their_subsets(tmp_path: Path) -> None:
    for seed, folder in enumerate(("Train", "Validation")):
        write_image(tmp_path / f"images/{folder}/frame_000000.png", seed)
    boxes = {"Validation": (1, 2, 30, 20), "Train": (3, 4, 50, 30)}
    images = (cvat_image(0, "frame_000000", cvat_box("cat", box), f' subset="{name}"') for name, box in boxes.items())
    make(tmp_path, *images)
    for split, box in boxes.items():
        (sample,) = open_dataset(tmp_path, split)
        assert sample.image_path == tmp_path / f"images/{split}/frame_000000.png"
        assert sample.target.boxes.tolist() == [list(box)]


def test_a_folder_for_each_task(tmp_path: Path) -> None:
    for seed, task in enumerate(("task_1", "task_2")):
        write_image(tmp_path / f"{task}/images/a.png", seed)
        make(tmp_path, cvat_image(0, "a.png", cvat_box("cat", (1, 2, 30, 20 + seed))), name=f"{task}/annotations.xml")
    assert recognise(tmp_path).reason == "task_1/annotations.xml is CVAT's own XML"
    assert splits(tmp_path) == ("task_1", "task_2")
    assert boxes_of(tmp_path, "task_2") == [[1, 2, 30, 21]]
    report = check_dataset(tmp_path, workers=1)
    assert report.problems == ()


def test_the_folder_above_one_task_is_no_dataset(tmp_path: Path) -> None:
    make(tmp_path / "up/task", cvat_image(0, "a.png", ""))
    with pytest.raises(ValueError, match=r"up is not a known dataset.*up/task is a dataset: give that folder"):
        splits(tmp_path / "up")


def test_faults_are_problems_and_the_copy_lacks_them(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    for seed, stem in enumerate("abc"):
        write_image(root / f"images/{stem}.png", seed)
    good = cvat_box("cat", (1, 2, 30, 20))
    make(
        root,
        cvat_image(0, "a.png", good + cvat_box("cat", (9, 9, 4, 4)) + cvat_box("", (1, 1, 9, 9))),
        cvat_image(
            1, "b.png", good + cvat_box("cat", (50, 30, 70, 60)) + '<box label="dog" xtl="x" occluded="0"></box>'
        ),
        cvat_image(2, "gone.png", good),
        cvat_image(3, "../../etc/c.jpg", good),
        cvat_image(4, "b.png", good),
    )
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {
        "missing-image": 1,
        "bad-annotation": 2,
        "listed-twice": 1,
        "not-a-number": 1,
        "inverted-box": 1,
        "box-partly-outside": 1,
    }
    assert any("object 3 (dog): box: xtl x" in problem.detail for problem in report.problems)
    assert clean_and_check(root, out).problems == ()
    assert not (out / "annotations.xml").exists()
    assert recognise(out).format == "COCO"
    boxes = [sample.target.boxes.tolist() for sample in open_dataset(out, "all")]
    assert boxes == [[[1, 2, 30, 20]], [[1, 2, 30, 20], [50, 30, 60, 40]]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations><image name="a.png"/></annotations>', "document type or entities"),
        ("<annotations><image name='a.png'>", "is not well-formed XML"),
        ("<annotations><version>" + 60 * "<a>" + 60 * "</a>" + "</version></annotations>", "more than 50 deep"),
        ("<annotations><image name='a.png' subset='../x'/></annotations>", "the subset '../x'"),
        ("<annotations><track id='1' label='cat'><box frame='-3'/></track></annotations>", "the frame '-3'"),
        ("<annotations><track id='1' label='cat'><box frame='1e300'/></track></annotations>", "the frame '1e300'"),
        (
            "<annotations><track id='1' label='c'><box frame='1' outside='0'/><box frame='5'/></track></annotations>",
            "track 1 in frame 1 and again in 5, but not between them",
        ),
        ("<annotations><meta>\x00</meta></annotations>", "is not well-formed XML"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    write_image(tmp_path / "images/a.png", 0)
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(ValueError, match=reason):
        open_dataset(tmp_path)
    (problem, *_) = check_dataset(tmp_path, workers=1).problems
    assert problem.kind == "bad-annotation"
    assert reason in problem.detail


@pytest.mark.parametrize(
    ("mark", "declared"),
    [(b"", "utf8"), (b"", "UTF_8"), *((codecs.BOM_UTF8, name) for name in ("utf8", "latin-1", "utf-16", "no-such"))],
)
def test_text_in_utf_8_is_read_whatever_name_of_it_expat_knows(tmp_path: Path, mark: bytes, declared: str) -> None:
    """A byte order mark outweighs the declaration."""
    path = tmp_path / "annotations.xml"
    text = cvat_xml(META, cvat_image(0, "é.png", cvat_box("cät", (1, 2, 11, 22)))).replace("utf-8", declared)
    path.write_bytes(mark + text.encode())
    (image,) = parse_cvat(path).images
    assert (image.name, [obj.class_name for obj in image.objects]) == ("é.png", ["cät"])


def test_an_image_has_a_limited_number_of_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "")
    write_image(tmp_path / "images/a.png", 0)
    make(tmp_path, cvat_image(0, "a.png", 4 * cvat_box("cat", (1, 2, 30, 20))))
    set_limit("image_objects=3")
    with pytest.raises(ValueError, match=r"a\.png has more than 3 objects: raise the limit"):
        open_dataset(tmp_path)


def test_a_frame_that_was_not_extracted_is_missing(tmp_path: Path) -> None:
    cvat_video(tmp_path)
    (tmp_path / "images/frame_000001.png").unlink()
    before = digests(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"frame_000001.* there is no image .*extract the frames into images/"):
        open_dataset(tmp_path)
    assert check_dataset(tmp_path, workers=1).count_by_kind() == {"missing-image": 1}
    assert digests(tmp_path) == before


def test_images_that_no_file_lists_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, stem in enumerate("abc"):
        write_image(tmp_path / f"images/{stem}.png", seed)
    make(tmp_path, cvat_image(0, "b.png", cvat_box("cat", (1, 2, 30, 20))))
    check_dataset(tmp_path, workers=1)
    assert "2 images have no entry in CVAT's XML and count in no split (the first is" in caplog.text
    caplog.clear()
    for stem in "ac":
        make(tmp_path, cvat_image(0, f"{stem}.png", cvat_box("cat", (1, 2, 30, 20))), name=f"{stem}.xml")
    assert check_dataset(tmp_path, workers=1).problems == ()
    assert caplog.text == ""
