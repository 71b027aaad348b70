from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vovnet.data.formats import open_dataset, splits

YAML = "train: images/train\nval: images/val\nnames: [cat, dog]\n"


def write_yolo(root: Path, labels: dict[str, str | None], yaml: str = YAML) -> Path:
    """labels: `split/stem` → the label file's text, None for none. Images are 40 wide and 20 high."""
    root.mkdir(exist_ok=True)
    (root / "data.yaml").write_text(yaml)
    for name, text in labels.items():
        for folder in ("images", "labels"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(root / f"images/{name}.png")
        if text is not None:
            (root / f"labels/{name}.txt").write_text(text)
    return root


def test_boxes_polygons_and_missing_labels(tmp_path: Path) -> None:
    text = "1 0.5 0.5 0.5 1\n\n0 0.25 0.1 0.75 0.1 0.5 0.6\n"
    root = write_yolo(tmp_path, {"train/a": text, "train/b": None, "train/c": "", "val/d": ""})
    assert splits(root) == ("train", "val")
    data = open_dataset(root, "train")
    assert data.class_names == ("cat", "dog")
    assert data.category_ids == (0, 1)
    assert [len(sample.target) for sample in data] == [2, 0, 0]
    assert data[0].image_size == (20, 40)
    assert data[0].target.boxes[0].tolist() == [10, 0, 30, 20]
    assert data[0].target.boxes[1].tolist() == pytest.approx([10, 2, 30, 12])
    assert data[0].target.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "entry",
    ["images/train", "../images/train", "[images/train]", "list.txt", "images"],
    ids=["folder", "up", "list", "txt", "nested"],
)
@pytest.mark.parametrize("path", ["", "path: .\n", "path: /absent/elsewhere\n", "path: ../datasets/x\n"])
def test_ways_to_name_the_images(tmp_path: Path, entry: str, path: str) -> None:
    root = write_yolo(
        tmp_path / "d", {"train/a": "0 0.5 0.5 1 1"}, f"{path}train: {entry}\nnames: {{0: cat, 1: dog}}\nnc: 2\n"
    )
    (root / "list.txt").write_text("./images/train/a.png\n")
    (sample,) = open_dataset(root)
    assert sample.image_path == root / "images/train/a.png"
    assert sample.target.boxes.tolist() == [[0, 0, 40, 20]]


def test_split_folders_with_images_inside(tmp_path: Path) -> None:
    for folder in ("train/images", "train/labels"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: [cat]\n")
    Image.new("RGB", (40, 20)).save(tmp_path / "train/images/a.jpg")
    (tmp_path / "train/labels/a.txt").write_text("0 0.5 0.5 1 1")
    assert len(open_dataset(tmp_path)[0].target) == 1


def test_images_outside_the_folder_are_refused(tmp_path: Path) -> None:
    write_yolo(tmp_path / "other", {"train/a": ""})
    root = write_yolo(tmp_path / "d", {}, "train: ../other/images/train\nnames: [cat]\n")
    with pytest.raises(FileNotFoundError, match=r"data\.yaml: train: \.\./other/images/train is not a folder or list"):
        open_dataset(root)
    (root / "data.yaml").write_text("train: list.txt\nnames: [cat]\n")
    (root / "list.txt").write_text(f"{tmp_path}/other/images/train/a.png\n")
    with pytest.raises(ValueError, match="outside the data folder"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [", "not valid YAML"),
        ("just text", "must hold the keys"),
        ("train: images/train\n", "names must be a list"),
        ("train: images/train\nnames: [cat]\nnc: 2\n", "nc is 2, but names has 1"),
        ("train: images/train\nnames: {1: cat, 2: dog}\n", "keys 0, 1, 2"),
        ("train: images/train\nnames: [cat, cat]\n", "must differ"),
        ("names: [cat]\n", "under train, val or test"),
    ],
)
def test_bad_yaml_names_the_file(tmp_path: Path, yaml: str, message: str) -> None:
    root = write_yolo(tmp_path, {"train/a": ""}, yaml)
    with pytest.raises(ValueError, match=rf"data\.yaml.*{message}"):
        open_dataset(root)


@pytest.mark.parametrize("line", ["2 0.5 0.5 1 1", "-1 0.5 0.5 1 1", "0.5 0.5 0.5 1 1", "cat 0.5 0.5 1 1"])
def test_class_out_of_range(tmp_path: Path, line: str) -> None:
    root = write_yolo(tmp_path, {"train/a": line}, "train: images/train\nnames: [cat, dog]\n")
    with pytest.raises(ValueError, match=r"a\.txt: line 1 has the class .* not 0 to 1"):
        open_dataset(root)


def test_bad_boxes_are_left_out(tmp_path: Path) -> None:
    lines = ["0 0.5 0.5 0 1", "0 0.5 0.5 -1 1", "0 nan 0.5 1 1", "0 a b c d", "0 0.5 0.5 1 1"]
    root = write_yolo(tmp_path, {"train/a": "\n".join(lines)}, "train: images/train\nnames: [cat]\n")
    assert len(open_dataset(root)[0].target) == 1


def test_one_stem_in_two_folders_gives_two_ids(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, {"train/x/a": "", "train/y/a": "", "train/b": ""}, YAML)
    ids = [sample.image_id for sample in open_dataset(root, "train")]
    assert ids == ["b", "images/train/x/a", "images/train/y/a"]
