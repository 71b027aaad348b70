"""The file that describes a YOLO dataset: its name, its class names, and the folders that it names."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from vovnet.data.check import check_dataset, write_cleaned_copy
from vovnet.data.formats import open_dataset, splits

from ..small_datasets import clean_and_check, make_yolo, write_image

BODY = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def make(root: Path, text: str, name: str = "data.yaml") -> Path:
    """The dataset of `make_yolo` with this file instead of its own."""
    make_yolo(root)
    (root / "data.yaml").unlink()
    (root / name).write_text(text)
    return root


@pytest.mark.parametrize("name", ["data.yml", "dataset.yaml", "coco8.yaml", "my.yml", "MY.YAML"])
def test_any_name_and_its_path(tmp_path: Path, name: str) -> None:
    root = make(tmp_path / "d", BODY, name)
    (root / "config.yaml").write_text("model: dsod\ntrain: {epochs: 3}\n")
    (root / "broken.yaml").write_text("names: [")
    for given in (root, root / name):
        assert splits(given) == ("train", "val")
        data = open_dataset(given, "train")
        assert (data.root, len(data), data.class_names) == (root, 5, ("cat", "dog"))
    clean_and_check(root, tmp_path / "out")
    assert (tmp_path / "out" / name).is_file()
    assert [len(open_dataset(tmp_path / "out" / name, split)) for split in ("train", "val")] == [5, 2]


def test_several_need_one_to_be_named(tmp_path: Path) -> None:
    root = make(tmp_path / "d", BODY, "a.yaml")
    (root / "b.yml").write_text("train: images/val\nnames: [x, y]\n")
    with pytest.raises(ValueError, match=r"several YAML files with names and splits \(a\.yaml, b\.yml\): name one"):
        open_dataset(root)
    assert open_dataset(root / "b.yml").class_names == ("x", "y")
    report = check_dataset(root / "b.yml", workers=1)
    assert (report.problems, report.statistics.splits[0].images) == ((), 2)
    with pytest.raises(ValueError, match="lies inside the data folder"):
        write_cleaned_copy(report, root / "out")
    write_cleaned_copy(report, tmp_path / "out")
    assert open_dataset(tmp_path / "out/b.yml")[0].image_path == tmp_path / "out/images/val/0.png"
    (root / "data.yaml").write_text(BODY)
    assert open_dataset(root, "train").class_names == ("cat", "dog")
    (root / "data.yaml").write_text("just: a note\n")
    (root / "a.yaml").unlink()
    assert open_dataset(root).class_names == ("x", "y")


def test_a_file_that_describes_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt is a file: give the folder"):
        open_dataset(tmp_path / "notes.txt")
    (tmp_path / "a.yaml").write_text("model: dsod\n")
    with pytest.raises(ValueError, match=r"a\.yaml: names must be a list"):
        open_dataset(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ('{"0": cat, "1": dog}', ("cat", "dog")),
        ("{1: dog, 0: cat}", ("cat", "dog")),
        ("[cat, dog]\nnc: '2'", ("cat", "dog")),
        ("[yes, no]\nnc: 2", ("yes", "no")),
        ("[1.0, 007]", ("1.0", "007")),
        ("[2024-01-01, null]", ("2024-01-01", "null")),
        ("[!!bool x, on]", ("x", "on")),
        ('["car ", car]', ("car ", "car")),
    ],
)
def test_names_are_text(tmp_path: Path, names: str, expected: tuple[str, ...]) -> None:
    root = make(tmp_path / "d", f"train: images/train\nnames: {names}\n")
    assert open_dataset(root).class_names == expected
    clean_and_check(root, tmp_path / "out")
    assert open_dataset(tmp_path / "out").class_names == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{0: cat, 2: dog}", "dictionary with the keys 0, 1, 2, …, but 1 is missing"),
        ("{cat: 0, dog: 1}", "got the key 'cat'"),
        (f"{{{'9' * 900}: cat}}", "got the key '9999"),
        ("[[cat], [dog]]", "got something else in it"),
        ("{0: [cat]}", "got something else in it"),
        ("data/names.txt", "got the text 'data/names.txt'"),
        ("[]", "got nothing"),
        ("[cat, dog]\nnc: three", "nc is three, but names has 2"),
        ("[cat, dog]\nnc: [2]", "nc is no number"),
        ("[cat, dog]\npath: [a]", "path must be a folder"),
        ("[cat, dog]\nval: {a: b}", "val must be a folder or list"),
        ("[cat, dog]\nkpt_shape: 17", "kpt_shape must be"),
        ("[cat, dog]\nkpt_shape: [17, 4]", "kpt_shape must be"),
        ("[cat, dog]\nkpt_shape: [a, 2]", "kpt_shape must be"),
        ("&a [*a]", r"the alias \*a in line 2"),
        ("&names [a, b]\nmore: *names", r"the alias \*names in line 3: write the part out"),
        ("[" * 5000, "nested more than 50 levels deep"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_wrong_is_said_in_one_short_sentence(tmp_path: Path, text: str, message: str) -> None:
    root = make(tmp_path, f"train: images/train\nnames: {text}\n")
    with pytest.raises(ValueError, match=rf"data\.yaml.*({message})") as caught:
        open_dataset(root, "train")
    assert len(str(caught.value)) < 600


def test_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    merges = "b0: &b0 {x: y}\n" + "".join(
        f"b{n}: &b{n} {{<<: [{','.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
    )
    root = make(tmp_path, "")
    for key in ("names", "nc", "path", "train", "kpt_shape"):
        (root / "data.yaml").write_text(f"{bomb}{merges}{BODY.replace(f'{key}: ', 'old: ')}{key}: *a29\n")
        with pytest.raises(ValueError, match=r"data\.yaml") as caught:
            open_dataset(root, "val")
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1", "utf-32"])
def test_encodings_of_the_yaml(tmp_path: Path, encoding: str) -> None:
    root = make(tmp_path, BODY)
    (root / "data.yaml").write_bytes(BODY.replace("cat", "Möwe").encode(encoding))
    if encoding == "utf-8-sig":
        assert open_dataset(root, "train").class_names == ("Möwe", "dog")
    else:
        with pytest.raises(ValueError, match=r"data\.yaml is .*save it as UTF-8"):
            open_dataset(root, "train")


@pytest.mark.parametrize("missing", ["../test/images", "test/images", "[images/a, images/b]", "C:\\ds\\test\\images"])
def test_a_test_split_that_was_not_exported(tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path / "d", f"{BODY}test: {missing}\n")
    assert splits(root) == ("train", "val")
    assert len(open_dataset(root, "train")) == 5
    with caplog.at_level(logging.WARNING, logger="vovnet"):
        assert check_dataset(root, workers=1).problems == ()
    assert "data.yaml: there is no split test" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"data\.yaml: test: .* is not a folder or list"):
        open_dataset(root, "test")
    clean_and_check(root, tmp_path / "out")


@pytest.mark.parametrize("value", ["", '""', "null", "~", "[]"])
def test_an_empty_entry_is_no_split(tmp_path: Path, value: str) -> None:
    root = make(tmp_path, f"train: images/train\nval: {value}\nnames: [cat, dog]\n")
    assert splits(root) == ("train",)
    assert check_dataset(root, workers=1).problems == ()


@pytest.mark.parametrize("entry", ["images/vall", "../valid/images", "/content/ds/images"])
def test_a_train_or_val_split_that_is_missing_is_a_problem(tmp_path: Path, entry: str) -> None:
    root = make(tmp_path, f"train: images/train\nval: {entry}\nnames: [cat, dog]\n")
    report = check_dataset(root, workers=1)
    assert ("missing-image", "data.yaml") in [(problem.kind, problem.image) for problem in report.problems]
    assert report.statistics.splits[0].images == 5
    with pytest.raises(FileNotFoundError, match=rf"data\.yaml: val: {entry} is not a folder or list"):
        open_dataset(root, "val")


def test_one_of_several_folders_is_missing(tmp_path: Path) -> None:
    root = make(tmp_path / "d", "train: [images/train, images/more]\nval: images/val\nnames: [cat, dog]\n")
    (problem,) = check_dataset(root, workers=1).problems
    assert (problem.kind, problem.image) == ("missing-image", "data.yaml")
    assert problem.detail.startswith("train: images/more is not a folder")
    with pytest.raises(FileNotFoundError, match="images/more"):
        open_dataset(root, "train")
    assert len(open_dataset(root, "val")) == 2
    clean_and_check(root, tmp_path / "out")


@pytest.mark.parametrize("key", ["val", "valid", "validation"])
@pytest.mark.parametrize(
    "entry",
    ["images/val", "./images/val/", "images\\val", "..\\images\\val", "../../images/val", "/home/me/ds/images/val",
     "C:\\Users\\me\\ds\\images\\val", "C:/ds/images/val"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["", "path: C:\\Users\\me\\ds\n", "path: /home/me/ds\n", "path: ../ds\n"])
def test_folders_of_other_machines(tmp_path: Path, key: str, entry: str, path: str) -> None:
    root = make(tmp_path, f"{path}train: images/train\n{key}: {entry}\nnames: [cat, dog]\n")
    assert [sample.image_path for sample in open_dataset(root, "val")] == [root / f"images/val/{n}.png" for n in (0, 1)]


@pytest.mark.parametrize(
    "line",
    ["images/val/1.png", "./images/val/1.png", "images\\val\\1.png", "/home/me/ds/images/val/1.png",
     "data/ds/images/val/1.png", "C:\\ds\\images\\val\\1.png", "val/1.png", "  images/val/1.png  "],
)  # fmt: skip
def test_lines_of_a_list(tmp_path: Path, line: str) -> None:
    root = make(tmp_path, "train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "val").symlink_to(root / "images/val")
    (root / "train.txt").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    assert [sample.image_path for sample in open_dataset(root, "train")] == [root / "images/val/1.png"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_list_in_another_encoding_is_one_problem(tmp_path: Path, encoding: str) -> None:
    root = make(tmp_path, "train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    (root / "train.txt").write_text("images/train/0.png\n", encoding=encoding)
    report = check_dataset(root, workers=1)
    assert ("bad-annotation", "train.txt") in [(problem.kind, problem.image) for problem in report.problems]
    assert [split.images for split in report.statistics.splits] == [0, 2]
    with pytest.raises(ValueError, match=r"train\.txt: is UTF-16 or UTF-32 text"):
        open_dataset(root, "train")


@pytest.mark.parametrize(
    ("classes", "images", "labels"),
    [("classes.txt", "", ""), ("classes.txt", "images/", "labels/"), ("labels/classes.txt", "images/", "labels/"),
     ("classes.txt", "images/", "images/")],
)  # fmt: skip
def test_classes_txt_alone(tmp_path: Path, classes: str, images: str, labels: str) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    for seed, stem in enumerate("abc"):
        write_image(root / f"{images}{stem}.png", seed)
    (root / labels).mkdir(exist_ok=True)
    (root / f"{labels}a.txt").write_text("1 0.5 0.5 0.5 0.5\n0 1 0.5 0.5 0.5\n")
    (root / f"{labels}b.txt").write_text("0 0.5 0.5 nan 0.5\n")
    (root / classes).write_text("\ufeffcat\r\nbig dog \r\n\r\n")
    assert splits(root) == ("all",)
    data = open_dataset(root)
    assert data.class_names == ("cat", "big dog")
    assert [len(sample.target) for sample in data] == [2, 0, 0]
    assert check_dataset(root, workers=1).count_by_kind() == {"not-a-number": 1, "box-partly-outside": 1}
    clean_and_check(root, out)
    assert open_dataset(out).class_names == ("cat", "big dog")
    assert open_dataset(out)[0].target.boxes.tolist() == [[15, 10, 45, 30], [45, 10, 60, 30]]


@pytest.mark.parametrize(
    ("text", "message"), [("cat\n\ndog\n", "line 2 is blank"), ("cat\ncat\n", "'cat' is there twice"), ("", "empty")]
)
def test_a_bad_classes_txt(tmp_path: Path, text: str, message: str) -> None:
    write_image(tmp_path / "a.png", 0)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"classes\.txt.*{message}"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("names", ["data/obj.names", "obj.names", "/home/me/darknet/data/obj.names", "data\\obj.names"])
def test_the_data_file_of_darknet(tmp_path: Path, names: str) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    make(
        root,
        f"classes = 2\ntrain = data/train.txt\nvalid = data/val.txt\nnames = {names}\nbackup = backup/\n",
        "obj.data",
    )
    (root / "obj.names").write_text("cat\ndog\n")
    for split, count in (("train", 5), ("val", 2)):
        (root / f"{split}.txt").write_text("".join(f"data/images/{split}/{n}.png\n" for n in range(count)))
    for given in (root, root / "obj.data"):
        assert splits(given) == ("train", "val")
        assert [len(open_dataset(given, split)) for split in ("train", "val")] == [5, 2]
    clean_and_check(root, out)
    assert open_dataset(out, "val").class_names == ("cat", "dog")


def test_the_copy_keeps_what_else_the_yaml_says(tmp_path: Path) -> None:
    root, out = tmp_path / "d", tmp_path / "out"
    make(root, f"path: /elsewhere\n{BODY}nc: 2\nroboflow:\n  license: 'yes'\n  version: 3\nkeep: no\n")
    clean_and_check(root, out)
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content == {
        "train": "train.txt", "val": "val.txt", "names": ["cat", "dog"], "nc": 2,
        "roboflow": {"license": "yes", "version": 3}, "keep": False,
    }  # fmt: skip


@pytest.mark.parametrize("linked", ["images", "images/train", "labels"])
def test_a_link_inside_the_data_folder_keeps_its_name(tmp_path: Path, linked: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / linked).rename(root / "store")
    (root / linked).symlink_to(root / "store")
    assert [len(sample.target) for sample in open_dataset(root, "train")] == [2] * 5
    clean_and_check(root, tmp_path / "out")
    assert [len(sample.target) for sample in open_dataset(tmp_path / "out", "train")] == [2] * 5


@pytest.mark.parametrize("linked", ["images", "images/train"])
def test_a_link_out_of_the_data_folder_is_named_as_such(tmp_path: Path, linked: str) -> None:
    root = make_yolo(tmp_path / "d")
    (root / linked).rename(tmp_path / "store")
    (root / linked).symlink_to(tmp_path / "store")
    report = check_dataset(root, workers=1)
    assert report.problems[0].kind == "missing-image"
    assert "none of them behind a link" in report.problems[0].detail
    assert {removal.what for removal in report.removed} == {"annotation"}  # data.yaml itself is in the copy
    write_cleaned_copy(report, tmp_path / "out")
    assert (tmp_path / "out/data.yaml").is_file()


@pytest.mark.parametrize("file", ["data.yaml", "obj.data"])
def test_subsets_of_cvat_are_splits_by_their_names(tmp_path: Path, file: str) -> None:
    """Its subsets are called Train, Validation and Test, or as their owner likes."""
    root, out = tmp_path / "d", tmp_path / "out"
    subsets = {"Train": "ab", "Validation": "c", "night shift": "de"}
    for seed, (subset, stems) in enumerate(subsets.items()):
        for offset, stem in enumerate(stems):
            write_image(root / f"images/{subset}/{stem}.png", 10 * seed + offset)
            (root / f"labels/{subset}").mkdir(parents=True, exist_ok=True)
            (root / f"labels/{subset}/{stem}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
        (root / f"{subset}.txt").write_text("".join(f"data/images/{subset}/{stem}.png\n" for stem in stems))
    (root / "obj.names").write_text("cat\ndog\n")
    lists = {subset: f"{subset}.txt" for subset in subsets}
    if file == "data.yaml":
        entries = "".join(f"{subset}: {name}\n" for subset, name in lists.items())
        (root / file).write_text(f"path: .\nnotes: notes.txt\nnames:\n  0: cat\n  1: dog\n{entries}")
    else:
        entries = "".join(f"{subset} = data/{name}\n" for subset, name in lists.items())
        (root / file).write_text(f"classes = 2\n{entries}names = data/obj.names\nbackup = backup/\n")
    assert splits(root) == ("train", "val", "night shift")
    assert [sample.image_path.stem for sample in open_dataset(root, "night shift")] == ["d", "e"]
    (root / "images/Train/b.png").write_bytes(b"damaged")
    assert clean_and_check(root, out).problems == ()
    for split, stems in (("train", "a"), ("val", "c"), ("night shift", "de")):
        assert [sample.image_path.stem for sample in open_dataset(out, split)] == list(stems)


def test_a_further_key_of_a_list_is_no_way_out_of_the_copy(tmp_path: Path) -> None:
    make_yolo(tmp_path / "d")
    (tmp_path / "d/more.txt").write_text("images/train/0.png\n")
    with (tmp_path / "d/data.yaml").open("a") as file:
        file.write("../evil: more.txt\n.hidden: more.txt\nnotes: missing.txt\n")
    assert splits(tmp_path / "d") == ("train", "val")
