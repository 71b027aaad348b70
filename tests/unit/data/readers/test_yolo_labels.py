"""Label files: their columns, their encoding, and where they are, or should have been."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.dataset import ImageAnnotation
from vovnet.data.formats import open_dataset
from vovnet.data.readers import yolo

from ..small_datasets import clean_and_check, make_yolo, write_image

BOX = "0.5 0.5 0.2 0.5"  # 24 10 36 30 in an image of 60 × 40
YAML = "train: images\nnames: [cat, dog]\n"


def make(root: Path, label: str | bytes, yaml: str = YAML, path: str = "labels/a.txt") -> Path:
    """Two images of 60 × 40; the label file of b has one object."""
    for seed, stem in enumerate("ab"):
        write_image(root / f"images/{stem}.png", seed)
    (root / "labels").mkdir()
    (root / "labels/b.txt").write_text(f"0 {BOX}\n")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(label if isinstance(label, bytes) else label.encode())
    (root / "data.yaml").write_text(yaml)
    return root


def read(root: Path) -> tuple[list[ImageAnnotation], list[tuple[str, str]]]:
    """The images, and kind and detail of the problems."""
    found: list[tuple[str, str]] = []
    (split,) = yolo.read(root, ["train"], lambda kind, path, detail: found.append((kind, detail)))
    return list(split.images), found


@pytest.mark.parametrize(
    ("shape", "keypoints"),
    [("[2, 2]", "0.1 0.9 0.8 0.2"), ("[1, 2]", "0.1 0.9"), ("[17, 3]", " ".join(["0.1 0.9 2"] * 17)),
     ("[17, 2]", " ".join(["0 0"] * 17)), ("['2', '3']", "nan nan 0 0.5 0.5 2")],
)  # fmt: skip
def test_keypoints_follow_the_box(tmp_path: Path, shape: str, keypoints: str) -> None:
    root = make(
        tmp_path / "d", f"1 {BOX} {keypoints}\n0 {BOX}\n1 0.9 0.5 0.4 0.5 {keypoints}\n", f"{YAML}kpt_shape: {shape}\n"
    )
    assert open_dataset(root)[0].target.boxes.tolist()[:2] == [pytest.approx([24, 10, 36, 30])] * 2
    assert check_dataset(root, workers=1).count_by_kind() == {"box-partly-outside": 1}
    clean_and_check(root, tmp_path / "out")
    lines = (tmp_path / "out/labels/a.txt").read_text().splitlines()
    assert lines[:2] == [f"1 {BOX} {keypoints}", f"0 {BOX}"]
    assert lines[2].startswith("1 0.85")
    assert lines[2].endswith(f" {keypoints}")


@pytest.mark.parametrize(
    ("line", "box"),
    [
        (f"1 {BOX}", [24, 10, 36, 30]),
        ("1 0.5 0.1 0.75 0.5 0.5 0.9 0.25 0.5", [15, 4, 45, 36]),  # a turned box: four corners
        ("1 0.5 0.1 0.75 0.5 0.5 0.9", [30, 4, 45, 36]),
        ("1.0 0.5 0.1 0.75 0.5 0.5 0.9 0.25 0.5 0.3 0.3", [15, 4, 45, 36]),
        ("1\t5e-1   0.5 0.2 0.5", [24, 10, 36, 30]),
    ],
)
def test_boxes_and_polygons_may_mix(tmp_path: Path, line: str, box: list[float]) -> None:
    root = make(tmp_path, f"{line}\n0 {BOX}\n{line.replace('1', '0', 1)}\n")
    (image, _), problems = read(root)
    assert problems == []
    assert [obj.class_name for obj in image.objects] == ["dog", "cat", "cat"]
    assert [list(obj.box) for obj in image.objects] == [
        pytest.approx(box),
        pytest.approx([24, 10, 36, 30]),
        pytest.approx(box),
    ]


@pytest.mark.parametrize(
    ("line", "yaml", "message"),
    [
        (f"0 {BOX} 0.91", YAML, "line 2 has 6 columns, expected 5 (class cx cy w h) or 7, 9, 11, …"),
        ("0 0.5 0.1 0.75 0.5 0.5 0.9 0.25 0.5 0.91", YAML, "line 2 has 10 columns, expected 5"),
        ("0", YAML, "line 2 has 1 column, expected 5"),
        ("0 0.5 0.5", YAML, "line 2 has 3 columns, expected 5"),
        (f"0 {BOX} {' '.join(['0.1 0.1 2'] * 17)}", YAML, "line 2 has 56 columns, expected 5"),
        (
            f"0 {BOX} 0.91",
            f"{YAML}kpt_shape: [2, 2]\n",
            "line 2 has 6 columns, expected 5 (class cx cy w h) or 9 (box and",
        ),
        (f"0 {BOX} 0.1 0.1", f"{YAML}kpt_shape: [2, 2]\n", "line 2 has 7 columns, expected 5 (class cx cy w h) or 9"),
        (f"0 {BOX} {' '.join(['0.1 0.1 2'] * 17)} 0.9", f"{YAML}kpt_shape: [17, 3]\n", "line 2 has 57 columns"),
        (f"0 {BOX} #", YAML, "line 2 has 6 columns"),
    ],
)
def test_other_columns_are_never_guessed(tmp_path: Path, line: str, yaml: str, message: str) -> None:
    root = make(tmp_path, f"0 {BOX}\n{line}\n", yaml)
    (image, _), problems = read(root)
    assert [kind for kind, _ in problems] == ["bad-annotation"]
    assert problems[0][1].startswith(message)
    assert (len(image.objects), image.unusable_objects) == (1, 1)
    with pytest.raises(ValueError, match=r"a\.txt: line 2 has \d+ columns?, expected 5"):
        open_dataset(root)


def test_objects_that_are_left_out_are_counted(tmp_path: Path) -> None:
    root = make(tmp_path, f"7 {BOX}\n0 {BOX} 1\ncat {BOX}\n1 {BOX}\n0 1\n")
    (image, other), problems = read(root)
    assert [kind for kind, _ in problems] == ["unknown-class", "bad-annotation", "unknown-class", "bad-annotation"]
    assert (len(image.objects), image.unusable_objects, other.unusable_objects) == (1, 4, 0)


@pytest.mark.parametrize(
    "text",
    ["0 a 0.5 0.2 0.5", "0 0.5 0.5 0.2 0.5 # Möwe", "0 0.5 nan 0.2 0.5", "0 0.5 0.5 0.2 inf", "0 0,5 0,5 0,2 0,5"],
)
def test_a_box_that_is_no_number_is_quoted(tmp_path: Path, text: str) -> None:
    (problem,) = check_dataset(make(tmp_path, text), workers=1).problems
    assert (problem.kind, problem.detail) == ("not-a-number", f"object 1 (cat): line 1: {text}")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0 30 20 10 10", "box-outside"),
        ("1 5 5 30 5 30 20", "box-outside"),
        ("0 0.5 0.5 30 20", "box-partly-outside"),
        ("0 -40 0.5 0.1 0.1", "box-outside"),
    ],
)
def test_pixels_instead_of_fractions_are_named(tmp_path: Path, text: str, kind: str) -> None:
    (problem,) = check_dataset(make(tmp_path, text), workers=1).problems
    assert problem.kind == kind
    assert f"line 1: {text}, which looks like pixels: expected fractions of the image, 0 to 1" in problem.detail


def test_a_box_a_little_outside_is_given_in_pixels(tmp_path: Path) -> None:
    (problem,) = check_dataset(make(tmp_path, "0 0.5 0.5 1.5 1.5"), workers=1).problems
    assert problem.detail == "object 1 (cat): x1 y1 x2 y2 = -15 -10 75 50"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"0 {BOX}\n".encode("utf-16"), "is UTF-16 or UTF-32 text, expected UTF-8"),
        (f"0 {BOX}\n".encode("utf-32"), "is UTF-16 or UTF-32 text, expected UTF-8"),
        (f"0 {BOX}\n".encode("utf-16-le"), "holds NUL bytes"),
        (f"0 {BOX} # Möwe\n".encode("latin-1"), "is not UTF-8 text (byte 0xf6"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8 text (byte 0x89 at position 0)"),
        (b"0 0.5\0 0.5 0.2 0.5\n", "holds NUL bytes"),
        (b"0 0.5 0.5 0.2 0.5\n" * 600_000, "has more than 10,000,000 bytes"),
        ("folder", "is a folder, not a file"),
        ("pipe", "is a special file, such as a pipe or a device"),
    ],
    ids=["utf-16", "utf-32", "wide", "latin-1", "image", "NUL", "huge", "folder", "pipe"],
)
def test_a_label_file_that_cannot_be_read_is_one_problem(tmp_path: Path, data: bytes | str, message: str) -> None:
    root = make(tmp_path / "d", data)
    if isinstance(data, str):
        (root / "labels/a.txt").unlink()
        (root / "labels/a.txt").mkdir() if data == "folder" else os.mkfifo(root / "labels/a.txt")
    report = check_dataset(root, workers=1)
    assert [(problem.kind, problem.image) for problem in report.problems] == [("bad-annotation", "labels/a.txt")]
    assert message in report.problems[0].detail
    assert report.statistics.splits[0].images == 2
    assert [image.image_path.name for image in report.clean[0].images] == ["b.png"]  # an unknown image is no negative
    assert "images/a.png" in {removal.image for removal in report.removed if removal.what == "image"}
    with pytest.raises(ValueError, match=r"a\.txt: (is|has|holds)"):
        open_dataset(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_label_file_without_permission(tmp_path: Path) -> None:
    root = make(tmp_path, f"0 {BOX}")
    (root / "labels/a.txt").chmod(0)
    (problem,) = check_dataset(root, workers=1).problems
    assert (problem.kind, problem.detail) == ("bad-annotation", "cannot be read (Permission denied)")


@pytest.mark.parametrize("text", ["\ufeff0 {}\r\n", "0 {}\r0 0.1 0.1 0.1 0.1\r", "\n\n  0 {}  \n"])
def test_text_of_other_editors(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, text.format(BOX))
    assert open_dataset(root)[0].target.boxes.tolist()[0] == pytest.approx([24, 10, 36, 30])


@pytest.mark.parametrize(
    ("source", "target", "hint"),
    [
        ("labels/{}/{}.txt", "Labels/{}/{}.txt", "Labels/train/ has text files of the images' names"),
        (
            "labels/{}/{}.txt",
            "label/{}/{}.txt",
            "label/train/ has text files of the images' names: move its files to labels",
        ),
        ("labels/{}/{}.txt", "annotations/{}/{}.txt", "annotations/train/ has text files of the images' names"),
        ("labels/{}/{}.txt", "labels/{}_all/{}.txt", "labels/train_all/ has text files of the images' names"),
        ("labels/{}/{}.txt", "labels/{1}.txt", "labels/ has text files of the images' names"),
        ("labels/{}/{}.txt", "labels/{}/x{}.txt", ".txt, but a label file must have the name of its image"),
        (
            "labels/{}/{}.txt",
            "labels/{}/{}.xml",
            "labels/train/ has XML files of the images' names: those are labels in VOC",
        ),
        ("labels/{}/{}.txt", "", "if the images show no object, give them empty label files"),
    ],
    ids=["Labels", "label", "annotations", "other split", "nesting", "other names", "xml", "none"],
)
def test_a_split_without_any_label_file(tmp_path: Path, source: str, target: str, hint: str) -> None:
    root = make_yolo(tmp_path)
    for n in range(5):
        label = root / source.format("train", n)
        if target:
            (root / target.format("train", n)).parent.mkdir(parents=True, exist_ok=True)
            label.rename(root / target.format("train", n))
        else:
            label.unlink()
    problems = [problem for problem in check_dataset(root, workers=1).problems if problem.kind == "no-labels"]
    assert problems[0].image == "images/train"
    assert problems[0].detail.startswith(
        "none of the 5 images of the split train has a label file: looked for labels/train/0"
    )
    assert hint in problems[0].detail
    with pytest.raises(ValueError, match="none of the 5 images of the split train has a label file"):
        open_dataset(root, "train")


def test_a_split_without_label_files_is_not_announced_as_a_problem_of_the_copy(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "d")
    for path in (root / "labels/val").iterdir():
        path.unlink()
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {"no-labels": 1}
    assert not any("new problem" in hint for hint in report.hints)
    write_cleaned_copy(report, tmp_path / "out")
    assert check_dataset(tmp_path / "out", workers=1).count_by_kind() == {"no-labels": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 -.1 .1 .5 .1 .5 .6 .2 .7", "1 0 0.1 0.5 0.1 0.5 0.6 0.2 0.7"),
        ("0 .5 .5 1.2 .5 1.2 1.3", "0 0.5 0.5 1 0.5 1 1"),
        ("0 .5 -.5 .9 -.5 .9 .4 .5 .4", "0 0.5 0 0.9 0 0.9 0.4 0.5 0.4"),  # a turned box
    ],
)
def test_a_clipped_polygon_stays_a_polygon(tmp_path: Path, line: str, expected: str) -> None:
    root = make(tmp_path / "d", f"{line}\n")
    assert [p.kind for p in check_dataset(root, workers=1).problems] == ["box-partly-outside"]
    clean_and_check(root, tmp_path / "out")
    written = (tmp_path / "out/labels/a.txt").read_text().split()
    assert [f"{float(column):g}" for column in written] == expected.split()


@pytest.mark.parametrize("rename", ["{}.TXT", "../../images/train/{}.txt"])
def test_other_places_that_are_read(tmp_path: Path, rename: str) -> None:
    root = make_yolo(tmp_path / "d")
    for path in (root / "labels/train").iterdir():
        path.rename(path.parent / rename.format(path.stem))
    assert [len(sample.target) for sample in open_dataset(root, "train")] == [2] * 5
    clean_and_check(root, tmp_path / "out")
    assert [len(sample.target) for sample in open_dataset(tmp_path / "out", "train")] == [2] * 5


def test_one_label_file_is_enough_and_empty_ones_count(tmp_path: Path) -> None:
    root = make_yolo(tmp_path)
    for n in (1, 2, 3, 4):
        (root / f"labels/train/{n}.txt").unlink()
    (root / "labels/train/0.txt").write_text("")
    assert "no-labels" not in check_dataset(root, workers=1).count_by_kind()
    assert [len(sample.target) for sample in open_dataset(root, "train")] == [0] * 5


def test_labels_outside_the_data_folder_are_not_read(tmp_path: Path) -> None:
    root = make_yolo(tmp_path / "images/d")
    for path in (root / "labels").rglob("*.txt"):
        path.unlink()
    (root / "images/train").rename(root / "train")
    (root / "data.yaml").write_text("train: train\nnames: [cat, dog]\n")
    (tmp_path / "labels/d/train").mkdir(parents=True)
    (tmp_path / "labels/d/train/0.txt").write_text(f"0 {BOX}\n")
    with pytest.raises(ValueError, match="none of the 5 images"):
        open_dataset(root)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x89PNG\r\n\x1a\nxx", None], ids=["empty", "text", "cut", "link"])
def test_an_image_without_a_readable_header_is_counted(tmp_path: Path, data: bytes | None) -> None:
    root = make_yolo(tmp_path / "d")
    image = root / "images/train/0.png"
    image.unlink()
    image.symlink_to("absent.png") if data is None else image.write_bytes(data)
    report = check_dataset(root, workers=1)
    assert [(p.kind, p.split, p.image) for p in report.problems] == [
        ("unreadable-image", "train", "images/train/0.png")
    ]
    assert data is not None or report.problems[0].detail == "is a link that leads nowhere"
    train = report.statistics.splits[0]
    assert (train.images, train.annotated_objects, train.objects) == (5, 10, 8)
    assert [removal.what for removal in report.removed] == ["image"]
    clean_and_check(root, tmp_path / "out")
    assert not (tmp_path / "out/labels/train/0.txt").exists()
    with pytest.raises(ValueError, match=r"0\.png: (is a|is an|is not|is empty|has)"):
        open_dataset(root, "train")
