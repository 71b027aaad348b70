"""CSV files of boxes: both kinds, every place, and lines that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.formats import open_dataset, recognise, splits
from vovnet.limits import set_limit

from ..small_datasets import clean_and_check, write_image

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def make(root: Path, text: str, name: str = "train/_annotations.csv", images: str = "ab") -> Path:
    for seed, stem in enumerate(images):
        write_image((root / name).parent / f"{stem}.png", seed)
    (root / name).write_text(text, encoding="utf-8")
    return root


def boxes(root: Path, split: str) -> dict[str, list[list[float]]]:
    return {sample.image_path.name: sample.target.boxes.tolist() for sample in open_dataset(root, split)}


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}a.png,60,40,cat,1,2,30,20\nb.png,60,40,dog,3,4,5,6\n",
        "\ufeffclass,ymin,xmin,ymax,xmax,filename\r\ncat,2,1,20,30,a.png\r\ndog,4,3,6,5,b.png",
        '"Filename","Class","XMin","YMin","XMax","YMax","Confidence"\n'
        '"a.png","cat","1","2","30","20",""\n"b.png","dog","3","4","5","6",""\n\n',
    ],
    ids=["Roboflow", "another order, with a mark", "quoted, with a further column"],
)
def test_columns_are_found_by_their_names(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, text)
    assert boxes(root, "train") == {"a.png": [[1, 2, 30, 20]], "b.png": [[3, 4, 5, 6]]}
    assert open_dataset(root, "train").class_names == ("cat", "dog")


def test_splits_number_classes_alike(tmp_path: Path) -> None:
    make(tmp_path, f"{HEADER}a.png,60,40,zebra,1,2,30,20\nb.png,60,40,cat,3,4,5,6\n")
    make(tmp_path, f"{HEADER}c.png,60,40,zebra,1,2,30,20\n", "valid/_annotations.csv", "c")
    assert splits(tmp_path) == ("train", "valid")
    assert open_dataset(tmp_path, "val").class_names == ("cat", "zebra")
    (sample,) = open_dataset(tmp_path, "valid")
    assert sample.target.labels.tolist() == [1]


@pytest.mark.parametrize("folder", ["images/train", "images", "train", "."])
def test_files_that_are_called_like_splits(tmp_path: Path, folder: str) -> None:
    write_image(tmp_path / folder / "a.png", 0)
    (tmp_path / "train_labels.csv").write_text(f"{HEADER}a.png,60,40,cat,1,2,30,20\n")
    assert recognise(tmp_path).reason == "train_labels.csv is a CSV file with TensorFlow's header"
    assert splits(tmp_path) == ("train",)
    assert boxes(tmp_path, "train") == {"a.png": [[1, 2, 30, 20]]}


def test_retinanet_numbers_classes_as_its_list_does(tmp_path: Path) -> None:
    root = make(tmp_path, "a.png,1,2,30,20,dog\n./b.png,,,,,\na.png,3,4,9,9,cat\n")
    (root / "train/_classes.csv").write_text("dog,1\ncat,2\nbird,0\n")
    assert open_dataset(root).class_names == ("bird", "dog", "cat")
    assert boxes(root, "train") == {"a.png": [[1, 2, 30, 20], [3, 4, 9, 9]], "b.png": []}


def test_faults_are_problems_and_the_copy_lacks_them(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    lines = (
        "a.png,60,40,cat,1,2,30,20",
        "a.png,60,40,cat,9,9,4,4",
        "a.png,60,40,,9,9,14,14",
        "b.png,60,40,dog,x,2,30,20",
        "b.png,60,40,dog,50,2,70,20",
        "gone.png,60,40,dog,5,2,7,20",
        "../../c.png,60,40,dog,5,2,7,20",
        "./a.png,60,40,dog,5,2,7,20",
    )
    make(root, HEADER + "\n".join(lines), images="abz")
    report = check_dataset(root, workers=1)
    assert report.count_by_kind() == {
        "missing-image": 1,
        "bad-annotation": 2,
        "listed-twice": 1,
        "not-a-number": 1,
        "inverted-box": 1,
        "box-partly-outside": 1,
    }
    assert any("object 5 (dog): line 5: x, 2, 30, 20" in problem.detail for problem in report.problems)
    assert clean_and_check(root, out).problems == ()
    assert recognise(out).format == "COCO"
    assert not (out / "train/_annotations.csv").exists()
    assert boxes(out, "train") == {"a.png": [[1, 2, 30, 20]], "b.png": [[50, 2, 60, 20]]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{HEADER}a.png,60,40,cat,1,2,30\n", "has 7 columns in line 2, expected 8: filename, width"),
        (f"{HEADER}a.png,60,40,{'x' * 200_000},1,2,30,20\n", "is no CSV file .line 2: field larger than"),
        (f"{HEADER}a.png,60,40,caf\ud800,1,2,30,20\n", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_one_sentence(tmp_path: Path, text: str, reason: str) -> None:
    root = make(tmp_path, HEADER)
    (root / "train/_annotations.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=reason):
        open_dataset(root, "train")
    assert {problem.kind for problem in check_dataset(root, workers=1).problems} == {"bad-annotation"}


@pytest.mark.parametrize("text", ["dog\n", "dog,1,2\n", "dog,inf\n", "dog,1.5\n", "dog,\n", "cat,0\ndog,nan\n"])
def test_a_list_of_classes_that_is_none_is_one_sentence(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, "a.png,1,2,30,20,dog\n")
    (root / "train/_classes.csv").write_text(text)
    with pytest.raises(ValueError, match=r"_classes\.csv must have lines `name,number`"):
        open_dataset(root, "train")


def test_an_image_has_a_limited_number_of_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOVNET_LIMITS", "")
    root = make(tmp_path, HEADER + 4 * "a.png,60,40,cat,1,2,30,20\n")
    set_limit("image_objects=3")
    with pytest.raises(ValueError, match=r"a\.png has more than 3 objects: raise the limit"):
        open_dataset(root, "train")


@pytest.mark.parametrize("text", ["filename,class\na.png,cat\n", "time,power\n1,2\n", ""])
def test_other_csv_files_are_no_dataset(tmp_path: Path, text: str) -> None:
    root = make(tmp_path, text, "table.csv")
    with pytest.raises(ValueError, match="not a known dataset"):
        splits(root)


def test_images_that_no_file_lists_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, split in enumerate(("train", "test")):
        make(tmp_path, f"{HEADER}{number}.png,60,40,cat,1,2,30,20\n", f"{split}_labels.csv", str(number))
    check_dataset(tmp_path, workers=1)
    assert caplog.text == ""  # each file lists other images
    write_image(tmp_path / "2.png", 2)
    check_dataset(tmp_path, workers=1)
    assert "1 image has no line in a CSV file and counts in no split" in caplog.text


def test_a_line_that_is_cut_short_costs_its_image_and_no_other(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    lines = ("a.png,60,40,cat,1,2,30,20", "b.png,60,40,dog,3,4,5,6", "b.png,60,40,big, dog,3,4,15,16", "c.png,60,4")
    make(root, HEADER + "\n".join(lines), images="abc")
    with pytest.raises(ValueError, match="has 9 columns in line 4, expected 8: filename, width"):
        open_dataset(root)
    assert check_dataset(root, workers=1).count_by_kind() == {"bad-annotation": 2}
    assert clean_and_check(root, out).problems == ()
    assert boxes(out, "train") == {"a.png": [[1, 2, 30, 20]], "b.png": [[3, 4, 5, 6]]}
