"""The images that judge an export: never those of the training, nor those that calibrate it."""

from __future__ import annotations

import dataclasses
import shutil
import tomllib
from pathlib import Path

import pytest

from vovnet.engine.detector import load_network
from vovnet.errors import UsageError
from vovnet.export.judging_images import calibration_inputs, calibration_paths, judging_images, select_apart
from vovnet.export.source import describe_export
from vovnet.names import SAMPLE_IMAGES, sample_images
from vovnet.weights.detector import load_weights

BCCD = Path("samples/bccd")


@pytest.fixture(scope="module")
def detector():
    return load_network("bccd", "cpu")


def lists(root: Path, **names: list[str]) -> None:
    """Rewrite the lists of a VOC folder."""
    folder = root / "ImageSets/Main"
    for path in folder.glob("*.txt"):
        path.unlink()
    for name, images in names.items():
        (folder / f"{name}.txt").write_text("\n".join(images) + "\n")


def images_of(root: Path) -> list[str]:
    return sorted(path.stem for path in (root / "JPEGImages").iterdir())


def test_val_judges_by_default(detector, small_voc):
    images = judging_images(small_voc, None, detector, "int8")
    assert (images.split, len(images.paths), images.data) == ("val", 3, "data")
    assert images.dataset is not None


@pytest.mark.parametrize(("other", "expected"), [("test", "test"), ("holdout", "holdout")])
def test_without_val_the_other_split_judges(detector, small_voc, other, expected):
    ids = images_of(small_voc)
    lists(small_voc, train=ids[:5], **{other: ids[5:]})
    assert judging_images(small_voc, None, detector, "float32").split == expected


def test_the_training_split_does_not_judge(detector, small_voc):
    with pytest.raises(UsageError, match="the split train is for training.*--split val"):
        judging_images(small_voc, "train", detector, "float32")


def test_several_that_could_judge_are_named(detector, small_voc):
    ids = images_of(small_voc)
    lists(small_voc, train=ids[:4], day=ids[4:6], night=ids[6:])
    with pytest.raises(UsageError, match="name the one that judges with --split"):
        judging_images(small_voc, None, detector, "float32")


def test_one_split_judges_float32_and_is_refused_for_int8(detector, small_voc):
    lists(small_voc, train=images_of(small_voc))
    assert judging_images(small_voc, None, detector, "float32").split == "train"
    with pytest.raises(UsageError, match="has the one split train: a VOC dataset names its splits in"):
        judging_images(small_voc, None, detector, "int8")


def test_plain_images_judge_float32_only(detector, small_voc):
    folder = small_voc / "JPEGImages"
    images = judging_images(folder, None, detector, "float32")
    assert (len(images.paths), images.split, images.dataset) == (8, None, None)
    for precision in ("bf16", "int8"):
        with pytest.raises(UsageError, match="average precision must judge it: give the dataset of which"):
            judging_images(folder, None, detector, precision)


def test_a_folder_that_is_not_there_is_said(detector, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        judging_images(tmp_path / "none", None, detector, "float32")


def test_calibration_and_judging_images_never_meet(detector, small_voc):
    ids = images_of(small_voc)
    copied = small_voc / "JPEGImages/a_copy.jpg"  # of an image that judges, under another name
    shutil.copy(small_voc / f"JPEGImages/{ids[-1]}.jpg", copied)
    annotation = (small_voc / f"Annotations/{ids[-1]}.xml").read_text()
    (small_voc / "Annotations/a_copy.xml").write_text(annotation.replace(ids[-1], "a_copy"))
    lists(small_voc, trainval=["a_copy", *ids], val=ids[5:])
    judging = judging_images(small_voc, None, detector, "int8")
    for count in (1, 3, 100):
        chosen = calibration_paths(small_voc, judging, count)
        assert len(chosen) == min(count, 5)
        assert not {path.resolve() for path in chosen} & {path.resolve() for path in judging.paths}
        assert not {path.read_bytes() for path in chosen} & {path.read_bytes() for path in judging.paths}


def test_calibration_images_come_from_the_training_split_evenly(detector):
    judging = judging_images(BCCD, None, detector, "int8")
    chosen = [path.stem for path in calibration_paths(BCCD, judging, 20)]
    training = (BCCD / "ImageSets/Main/train.txt").read_text().split()
    places = [training.index(stem) for stem in chosen]
    assert len(places) == 20
    assert (min(places), max(places)) == (0, len(training) - 1)


def test_a_training_split_that_is_all_judged_is_refused(detector, small_voc):
    ids = images_of(small_voc)
    lists(small_voc, train=ids[:3], val=ids)
    judging = judging_images(small_voc, None, detector, "int8")
    with pytest.raises(UsageError, match="are among those of val, which judge"):
        calibration_paths(small_voc, judging, 100)


def test_copies_are_replaced_by_other_images(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    judge = tmp_path / "judge.jpg"
    judge.write_bytes(bytes([0]))
    assert [path.stem for path in select_apart(paths, [judge], 2)] == ["5", "1"]


def test_calibration_inputs_are_those_of_the_network(small_voc):
    info = describe_export(load_weights("bccd"), "int8")
    (first, *_) = calibration_inputs(sorted((small_voc / "JPEGImages").iterdir()), info)
    assert (first.shape, first.dtype) == ((1, 3, 300, 300), "uint8")


def test_the_images_that_ship_are_in_the_wheel_and_trained_nothing():
    assert all(path.is_file() for path in sample_images())
    training = set((BCCD / "ImageSets/Main/train.txt").read_text().split())
    assert not training & set(SAMPLE_IMAGES)
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    shipped = {f"samples/bccd/JPEGImages/{name}.jpg" for name in SAMPLE_IMAGES} | {"samples/bccd/LICENSE"}
    wheel = {key for key, value in settings["wheel"]["force-include"].items() if "sample_images" in value}
    assert wheel == shipped
    assert shipped <= set(settings["sdist"]["include"])


def test_a_detector_without_these_classes_is_told_so(detector, small_voc):
    other = dataclasses.make_dataclass("Other", ["class_names", "masks"])(("car",), False)
    with pytest.raises(ValueError, match="car|class"):
        judging_images(small_voc, None, other, "float32")
