"""Within `read_once` annotations are read once, and all that opens the dataset finds what it found before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from vovnet.data.check import check_dataset
from vovnet.data.dataset import DetectionDataset, raise_problem
from vovnet.data.formats import find_format, open_dataset
from vovnet.data.readers import cvat_xml as cvat_xml_reader
from vovnet.data.reading import read_once, read_splits
from vovnet.planning.facts import read_facts
from vovnet.planning.soundness import check_soundness
from vovnet.planning.splits import find_splits, take_val_from_train

from .small_datasets import append, make_coco, make_masked_coco, make_voc, make_yolo, write_image
from .tool_exports import LABELS, cvat_box, cvat_image, cvat_xml


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[tuple[str, ...]]]:
    """Counts the calls of a format's `read`: the names of the splits of each."""

    def watch(module: ModuleType) -> list[tuple[str, ...]]:
        calls: list[tuple[str, ...]] = []
        read = module.read

        def counting(root: Path, names: tuple[str, ...], on_problem: object) -> object:
            calls.append(tuple(names))
            return read(root, names, on_problem)

        monkeypatch.setattr(module, "read", counting)
        return calls

    return watch


def content(dataset: DetectionDataset) -> list[object]:
    return [
        (sample.image_path.resolve(), sample.image_id, sample.image_size, sample.target.boxes.tolist())
        for sample in dataset
    ]


def plan_and_open(root: Path, output: Path) -> list[list[object]]:
    """What `vovnet train DIR` reads before and after the training, of a dataset that needs a val of its own or has
    one."""
    splits = find_splits(root)
    assert check_soundness(root, splits.train, splits.val, test=splits.test).is_sound
    if splits.val is None:
        splits = take_val_from_train(splits, output)
    facts = read_facts(splits, None)
    assert facts.val is not None
    again = [open_dataset(splits.root, name) for name in (splits.train, splits.val)]
    return [content(facts.train), content(facts.val), *map(content, again)]


@pytest.mark.parametrize("make", [make_voc, make_coco, make_masked_coco, make_yolo])
@pytest.mark.parametrize("has_val", [True, False])
def test_a_plan_reads_the_annotations_once(
    tmp_path: Path, make: Callable[[Path], Path], has_val: bool, reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "data")
    if not has_val:
        remove_all_but_train(root)
    expected = plan_and_open(root, tmp_path / "a")
    calls = reads(find_format(root))
    monkeypatch.chdir(tmp_path)  # the split file names the dataset by another path
    with read_once():
        assert plan_and_open(Path("data"), tmp_path / "b") == expected
    assert len(calls) == 1
    open_dataset(root, find_splits(root).train)
    assert len(calls) == 2, "nothing is kept after the block"


def test_a_file_that_names_the_splits_is_parsed_once_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    images = []
    for number in range(6):
        write_image(root / f"images/{number}.png", number)
        subset = f' subset="{"Train" if number < 4 else "Validation"}"'
        images.append(cvat_image(number, f"{number}.png", cvat_box("cat", (1, 2, 30, 20)), subset))
    (root / "annotations.xml").write_text(cvat_xml(f"<task><id>5</id>{LABELS}</task>", "".join(images)))
    expected, parsed = plan_and_open(root, tmp_path), list[Path]()
    parse = cvat_xml_reader.parse_cvat
    monkeypatch.setattr(cvat_xml_reader, "parse_cvat", lambda path: parsed.append(path) or parse(path))
    with read_once():
        assert plan_and_open(root, tmp_path) == expected
    assert len(parsed) == 2, "for the names of the splits, and to read them"


def remove_all_but_train(root: Path) -> None:
    lists = [path for path in root.glob("ImageSets/Main/*.txt") if path.name != "train.txt"]
    for path in [*lists, *root.glob("annotations/*val*.json"), *root.glob("annotations/*test*.json")]:
        path.unlink()
    for name in ("val", "test"):
        shutil.rmtree(root / "images" / name, ignore_errors=True)
        shutil.rmtree(root / "labels" / name, ignore_errors=True)
    if (root / "data.yaml").exists():
        text = (root / "data.yaml").read_text()
        (root / "data.yaml").write_text(
            "".join(line for line in text.splitlines(True) if not line.startswith(("val", "test")))
        )


def test_a_problem_makes_the_dataset_be_read_again_to_open_it(tmp_path: Path, reads) -> None:
    root = make_voc(tmp_path)
    append("ImageSets/Main/train.txt", "a\n")(root)
    calls = reads(find_format(root))
    with read_once():
        assert check_dataset(root).problems
        with pytest.raises(ValueError, match="lists a twice"):
            open_dataset(root, "train")
        open_dataset(root, "val")
        open_dataset(root, "val")
    assert len(calls) == 3


def test_masks_are_read_again(tmp_path: Path, reads) -> None:
    root = make_masked_coco(tmp_path)
    module = find_format(root)
    calls = reads(module)
    with read_once():
        (whole,) = read_splits(module, root, ["train"], raise_problem, masks=True)
        (bare,) = read_splits(module, root, ["train"], raise_problem, masks=False)
        assert any(obj.mask is not None for image in whole.images for obj in image.objects)
        assert not any(obj.mask is not None for image in bare.images for obj in image.objects)
        assert len(calls) == 1
        read_splits(module, root, ["train"], raise_problem, masks=True)
    assert len(calls) == 2
