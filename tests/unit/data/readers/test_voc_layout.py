"""VOC annotations are found wherever the usual tools put them, and a copy keeps the layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, splits
from vovnet.errors import UsageError

from ..small_datasets import clean_and_check, make_voc, make_yolo, write_image, xml_of

# Name of the layout → split → (XML file, image) with the stem as {}.
LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    "images": {"all": ("Annotations/{}.xml", "images/{}.png")},
    "images in folders": {"all": ("Annotations/{}.xml", "JPEGImages/2012/{}.png")},
    "both in folders": {"2012": ("Annotations/2012/{}.xml", "JPEGImages/2012/{}.png")},
    "images beside the XML": {"all": ("Annotations/{}.xml", "Annotations/{}.png")},
    "images above the XML": {"all": ("Annotations/{}.xml", "{}.png")},
    "lower case": {"all": ("annotations/{}.xml", "images/{}.png")},
    "folders of splits": {s: (f"annotations/{s}/{{}}.xml", f"images/{s}/{{}}.png") for s in ("train", "val")},
    "one level down": {"all": ("VOC2007/Annotations/{}.xml", "VOC2007/JPEGImages/{}.png")},
    "two levels down": {"all": ("VOCdevkit/VOC2012/Annotations/{}.xml", "VOCdevkit/VOC2012/JPEGImages/{}.png")},
    "one folder": {"all": ("{}.xml", "{}.png")},
    "XML above the images": {"all": ("{}.xml", "images/{}.png")},
    "Roboflow": {s: (f"{s}/{{}}.xml", f"{s}/{{}}.png") for s in ("train", "valid", "test")},
    "XML in splits, images below": {s: (f"{s}/{{}}.xml", f"{s}/images/{{}}.png") for s in ("train", "test")},
    "VOC in splits": {s: (f"{s}/Annotations/{{}}.xml", f"{s}/JPEGImages/{{}}.png") for s in ("train", "val")},
    "one split": {"train": ("train/annotations/{}.xml", "train/images/{}.png")},
}


def make(root: Path, layout: dict[str, tuple[str, str]], stems: str = "ab") -> None:
    """The same stems in each split, with different images and boxes."""
    for seed, patterns in enumerate(layout.values()):
        for offset, stem in enumerate(stems):
            xml, image = (root / pattern.format(stem) for pattern in patterns)
            write_image(image, 100 * seed + offset)
            xml.parent.mkdir(parents=True, exist_ok=True)
            xml.write_text(xml_of((1, 1, 30 + 10 * seed + offset, 20)))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(tmp_path: Path, layout: dict[str, tuple[str, str]]) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    make(root, layout)
    assert splits(root) == tuple(sorted(layout))
    report = check_dataset(root, workers=1)
    assert report.problems == ()
    assert {split.split: split.images for split in report.statistics.splits} == dict.fromkeys(layout, 2)
    for seed, (split, (xml, image)) in enumerate(layout.items()):
        data, right = open_dataset(root, split), 30 + 10 * seed
        assert [sample.image_path for sample in data] == [root / image.format(stem) for stem in "ab"]
        assert [sample.target.boxes.tolist() for sample in data] == [[[0, 0, right, 20]], [[0, 0, right + 1, 20]]]
        assert len({sample.image_id for sample in data}) == 2
        (root / xml.format("a")).write_text(xml_of((1, 1, 90, 20)))
    clean_and_check(root, out)
    for split, (_, image) in layout.items():
        copy = open_dataset(out, split)
        assert [sample.image_path for sample in copy] == [out / image.format(stem) for stem in "ab"]
        assert copy[0].target.boxes.tolist() == [[0, 0, 60, 20]]


@pytest.mark.parametrize("layout", ["one folder", "Roboflow", "lower case"])
def test_files_without_a_partner(tmp_path: Path, layout: str) -> None:
    make(tmp_path / "d", LAYOUTS[layout], "abc")
    xml, image = (tmp_path / "d" / pattern for pattern in next(iter(LAYOUTS[layout].values())))
    Path(str(image).format("a")).unlink()
    Path(str(xml).format("b")).unlink()  # an image that nobody has labelled is no negative
    report = check_dataset(tmp_path / "d", workers=1)
    assert [(problem.kind, Path(problem.image).name) for problem in report.problems] == [("missing-image", "a.xml")]
    clean_and_check(tmp_path / "d", tmp_path / "out")


@pytest.mark.parametrize("asked", ["val", "valid", "validation", "dev"])
@pytest.mark.parametrize("own", ["val", "valid", "validation", "dev"])
def test_names_of_the_validation_split(tmp_path: Path, asked: str, own: str) -> None:
    make(tmp_path, {own: (f"{own}/{{}}.xml", f"{own}/{{}}.png"), "train": LAYOUTS["Roboflow"]["train"]})
    assert open_dataset(tmp_path, asked).split == own
    with pytest.raises(UsageError, match="no split 'test'"):
        open_dataset(tmp_path, "test")


def test_two_names_of_the_validation_split_are_two_splits(tmp_path: Path) -> None:
    make(tmp_path, {split: (f"{split}/{{}}.xml", f"{split}/{{}}.png") for split in ("val", "dev")})
    assert open_dataset(tmp_path, "dev").split == "dev"
    with pytest.raises(UsageError, match="no split 'valid'"):
        open_dataset(tmp_path, "valid")


def test_a_folder_of_several_datasets_names_them(tmp_path: Path) -> None:
    make_voc(tmp_path / "VOC2007")
    make_voc(tmp_path / "VOC2012")
    with pytest.raises(ValueError, match=r"VOC2007, \S+VOC2012 are datasets: give that folder"):
        open_dataset(tmp_path)


def test_a_folder_beside_the_right_one_names_it(tmp_path: Path) -> None:
    make_yolo(tmp_path / "up/data")
    for wrong in (tmp_path / "up", tmp_path / "up/data/images"):
        with pytest.raises(ValueError, match=r"not a known dataset.*up/data is a dataset: give that folder"):
            open_dataset(wrong)


@pytest.mark.parametrize(
    ("name", "text"),
    [("annotations.xml", "<annotations><image/></annotations>"), ("pom.xml", "<project/>"), ("a.xml", "")],
)
def test_other_xml_is_no_dataset(tmp_path: Path, name: str, text: str) -> None:
    write_image(tmp_path / "a.png", 0)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="not a known dataset"):
        open_dataset(tmp_path)


def test_companions_of_macos_are_no_files_of_the_dataset(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    for path in ("Annotations/._a.xml", "JPEGImages/._a.png", "JPEGImages/.DS_Store"):
        (root / path).write_bytes(b"\0\5\x16\7")
    assert check_dataset(root, workers=1).problems == ()
    assert len(open_dataset(root, "all")) == 10


def test_annotations_without_any_image(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/a.xml").write_text(xml_of((1, 1, 9, 9)))
    with pytest.raises(FileNotFoundError, match=r"no images: put them into JPEGImages/"):
        open_dataset(tmp_path)


def test_fiftyones_folders_are_read_with_boxes_from_0(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    make(root, {"all": ("labels/{}.xml", "data/{}.png")})
    dataset = open_dataset(root)
    assert [sample.image_path for sample in dataset] == [root / "data/a.png", root / "data/b.png"]
    assert [sample.target.boxes.tolist() for sample in dataset] == [[[1, 1, 30, 20]], [[1, 1, 31, 20]]]
    (root / "labels/a.xml").write_text(xml_of((1, 1, 90, 20)))
    clean_and_check(root, out)
    assert open_dataset(out)[1].target.boxes.tolist() == [[1, 1, 31, 20]]
