from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from vovnet.data.formats import open_dataset, splits

BOX = "<bndbox><xmin>1</xmin><ymin>3</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"


def write_voc(root: Path, objects: dict[str, str], lists: dict[str, str] | None = None, suffix: str = ".jpg") -> Path:
    """objects: image id → what stands in <annotation>."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for stem, body in objects.items():
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{body}</annotation>")
        (root / "JPEGImages" / f"{stem}{suffix}").touch()
    for split, text in (lists or {}).items():
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(text)
    return root


def test_bccd() -> None:
    train, test = open_dataset("samples/bccd", "train"), open_dataset("samples/bccd", "test")
    assert (len(train), len(test)) == (205, 72)
    assert train.class_names == test.class_names == ("Platelets", "RBC", "WBC")
    assert train.category_ids == (1, 2, 3)
    assert len(open_dataset("samples/bccd", "all")) == 364
    with pytest.raises(ValueError, match="has the splits test, train, trainval, val: give one"):
        open_dataset("samples/bccd")
    sample = next(sample for sample in open_dataset("samples/bccd", "val") if sample.image_id == "BloodImage_00000")
    assert sample.image_path == Path("samples/bccd/JPEGImages/BloodImage_00000.jpg")
    assert sample.image_size == (480, 640)
    assert sample.target.boxes[0].tolist() == [259, 176, 491, 376]
    assert test.class_names[sample.target.labels[0]] == "WBC"


def test_boxes_flags_and_class_names(tmp_path: Path) -> None:
    first = f"<object><name> dog </name><difficult>1</difficult>{BOX}</object><object><name>cat</name>{BOX}</object>"
    root = write_voc(
        tmp_path, {"a": first, "b": f"<object><name>ant</name>{BOX}</object>", "c": ""}, {"train": "a\nc\n"}
    )
    data = open_dataset(root, "train")
    assert data.class_names == ("ant", "cat", "dog")  # ant is in no list
    assert data[0].target.boxes.tolist() == [[0, 2, 20, 30]] * 2
    assert data[0].target.labels.tolist() == [2, 1]
    assert data[0].target.difficult.tolist() == [True, False]
    assert data[0].image_size is None
    assert len(data[1].target) == 0


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part>"
    root = write_voc(tmp_path, {"a": f"<object>{part}<name>person</name>{BOX}</object>"})
    data = open_dataset(root)
    assert data.class_names == ("person",)
    assert data[0].target.boxes.tolist() == [[0, 2, 20, 30]]


def test_fractions_of_pixels_are_kept(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": f"<object><name>x</name>{BOX.replace('20', '20.5')}</object>"})
    assert open_dataset(root)[0].target.boxes.tolist() == [[0, 2, 20.5, 30]]


def test_lists_with_flags_blank_lines_and_lists_for_one_class(tmp_path: Path) -> None:
    lists = {"train": "a\n\nb \n", "dog_train": "a  1\nb -1\n", "val": "c"}
    root = write_voc(tmp_path, dict.fromkeys("abc", ""), lists)
    assert splits(root) == ("train", "val")
    assert [sample.image_id for sample in open_dataset(root, "dog_train")] == ["a", "b"]


def test_without_lists_all_is_the_split(tmp_path: Path) -> None:
    root = write_voc(tmp_path, dict.fromkeys("ab", ""))
    assert splits(root) == ("all",)
    assert len(open_dataset(root)) == len(open_dataset(root, "all")) == 2
    with pytest.raises(ValueError, match="there are: all"):
        open_dataset(root, "train")


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png", ".bmp"])
def test_suffixes(tmp_path: Path, suffix: str) -> None:
    root = write_voc(tmp_path, {"a.b": ""}, suffix=suffix)
    assert open_dataset(root)[0].image_path == root / "JPEGImages" / f"a.b{suffix}"


def test_an_annotation_called_like_the_image_with_its_suffix(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a.png": "", "b.png": "", "c.JPG": ""}, suffix="")
    assert [sample.image_path.name for sample in open_dataset(root)] == ["a.png", "b.png", "c.JPG"]
    (root / "JPEGImages" / "a.jpg").touch()  # of the two, it means its own
    assert open_dataset(root)[0].image_path.name == "a.png"
    (root / "JPEGImages" / "b.png").rename(root / "JPEGImages" / "b.jpg")
    assert open_dataset(root)[1].image_path.name == "b.jpg"
    (root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.png\.xml: there is no JPEGImages/b\.png"):
        open_dataset(root)


def test_annotations_of_two_images_of_one_stem(tmp_path: Path) -> None:
    body = "<filename>{}</filename>".format
    root = write_voc(tmp_path, {name: body(name) for name in ("a.jpg", "a.png")}, suffix="")
    assert [sample.image_path.name for sample in open_dataset(root)] == ["a.jpg", "a.png"]


def test_the_file_name_in_the_xml_cannot_leave_the_folder(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "data", {"a": "<filename>../../secret.jpg</filename>"})
    (tmp_path / "secret.jpg").touch()
    (root / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml: there is no JPEGImages/a\.jpg"):
        open_dataset(root)
    (root / "JPEGImages" / "secret.jpg").touch()
    assert open_dataset(root)[0].image_path == root / "JPEGImages" / "secret.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "not well-formed XML"),
        ("", "not well-formed XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "declares a document type"),
        ("<annotation><object></object></annotation>", "object 1 has no <name>"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_bad_xml_names_the_file(tmp_path: Path, text: str, message: str, encoding: str) -> None:
    root = write_voc(tmp_path, {"a": "", "b": ""})
    (root / "Annotations" / "b.xml").write_text(text, encoding=encoding)
    with pytest.raises(ValueError, match=rf"b\.xml: .*{message}"):
        open_dataset(root)


def test_boxes_without_an_inside_are_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = ["", BOX.replace("20", "nan"), BOX.replace("20", "0"), BOX.replace("30", "-4"), BOX.replace("20", "inf")]
    objects = "".join(f"<object><name>x</name>{box}</object>" for box in [*bad, BOX])
    root = write_voc(tmp_path, {"a": objects})
    with caplog.at_level(logging.WARNING, logger="vovnet"):
        assert open_dataset(root)[0].target.boxes.tolist() == [[0, 2, 20, 30]]
    assert len(caplog.records) == 1
    assert "left out 5 boxes" in caplog.text
    assert "a.jpg" in caplog.text


def test_given_class_names_number_the_labels(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": f"<object><name>dog</name>{BOX}</object>"})
    data = open_dataset(root, class_names=["cat", "bird", "dog"])
    assert data[0].target.labels.tolist() == [2]
    assert data.class_names == ("cat", "bird", "dog")
    assert len(set(data.category_ids)) == 3
    with pytest.raises(ValueError, match=r"a\.xml: unknown class 'dog' .*did you mean 'dogs'"):
        open_dataset(root, class_names=["cat", "dogs"])
    with pytest.raises(ValueError, match=r"unknown class 'dog' in a\.jpg \(expected one of 1\)"):
        open_dataset(root, class_names=["platypus"])


def test_a_list_that_names_what_is_not_there(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": ""}, {"train": "a\nz\n"})
    with pytest.raises(FileNotFoundError, match=r"train\.txt: lists z"):
        open_dataset(root, "train")


def test_images_are_not_decoded(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": ""})
    Image.new("RGB", (4, 4)).save(root / "JPEGImages" / "a.jpg")
    (root / "JPEGImages" / "a.jpg").write_bytes(b"")
    assert len(open_dataset(root)) == 1


def test_faults_of_files_outside_the_split_do_not_stop_it(tmp_path: Path) -> None:
    body = f"<object><name>cat</name>{BOX}</object>"
    root = write_voc(tmp_path, {"a": body, "b": body}, {"train": "a\n", "test": "b\n"})
    (root / "JPEGImages" / "b.jpg").unlink()
    (root / "Annotations" / "c.xml").write_text("not XML")
    assert len(open_dataset(root, "train")) == 1
    with pytest.raises(FileNotFoundError, match="b.xml"):
        open_dataset(root, "test")
