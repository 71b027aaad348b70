"""Which problems of a dataset stop a training before it begins."""

import shutil

import pytest
from PIL import Image

from vovnet.planning.soundness import check_soundness, most_decoded

SPLITS = ("train", "val")


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def first(small_voc):
    """The first training image and its annotation."""
    name = (small_voc / "ImageSets/Main/train.txt").read_text().split()[0]
    return small_voc / "JPEGImages" / f"{name}.jpg", small_voc / "Annotations" / f"{name}.xml"


def test_a_sound_dataset(small_voc):
    soundness = check_soundness(small_voc, *SPLITS)
    assert soundness.is_sound
    assert not soundness.spoiling


def test_a_damaged_image(small_voc, first):
    first[0].write_bytes(first[0].read_bytes()[:3000])
    soundness = check_soundness(small_voc, *SPLITS)
    assert [problem.kind for problem in soundness.spoiling] == ["unreadable-image"]


def test_the_same_image_in_two_splits(small_voc, first):
    name = (small_voc / "ImageSets/Main/val.txt").read_text().split()[0]
    shutil.copy(first[0], small_voc / "JPEGImages" / f"{name}.jpg")
    with Image.open(first[0]) as image:
        assert image.size == (640, 480)
    assert "split-leak" in {problem.kind for problem in check_soundness(small_voc, *SPLITS).spoiling}


def test_what_cannot_be_opened(small_voc, first):
    first[0].unlink()
    soundness = check_soundness(small_voc, *SPLITS)
    assert not soundness.is_sound
    assert "missing-image" in {problem.kind for problem in soundness.spoiling}


def test_a_few_bad_boxes_are_counted_and_many_are_not_accepted(small_voc, first):
    objects = first[1].read_text().count("<object>")
    total = sum(path.read_text().count("<object>") for path in (small_voc / "Annotations").glob("*.xml"))
    assert objects > 0.01 * total
    text = first[1].read_text()
    first[1].write_text(text.replace("<xmax>", "<xmax>-"))
    many = check_soundness(small_voc, *SPLITS)
    assert {problem.kind for problem in many.spoiling} <= {"inverted-box", "box-outside"}
    assert len(many.spoiling) == objects
    first[1].write_text(text)
    bad = text.replace("<xmin>", "<xmin>-", 1)  # it extends beyond the edge
    first[1].write_text(bad)
    few = check_soundness(small_voc, *SPLITS)
    assert few.is_sound
    assert few.harmless == {"box-partly-outside": 1}
    assert any("1 × box-partly-outside" in sentence for sentence in few.sentences())


def test_many_images_are_checked_by_their_headers(small_voc):
    soundness = check_soundness(small_voc, *SPLITS, most_images=7)
    assert soundness.report.headers_only
    assert any("only their headers were read" in sentence for sentence in soundness.sentences())
    assert not check_soundness(small_voc, *SPLITS, most_images=8).report.headers_only
    assert most_decoded(1) < most_decoded(None)


def test_a_val_of_training_images_is_none(tmp_path):
    """As in small examples of YOLO, which name one folder for both; no copy without these images would help."""
    write_yolo(tmp_path, labelled=("train", "val", "test"))
    settings = tmp_path / "data.yaml"
    replace_in(settings, "val: images/val", "val: images/train")
    soundness = check_soundness(tmp_path, *SPLITS, test="test")
    assert soundness.is_sound
    assert soundness.repeated_val == "val"
    assert "the split val has only images of the training: others are kept for validation" in soundness.sentences()
    replace_in(settings, "test: images/test", "test: images/train")
    assert {problem.kind for problem in check_soundness(tmp_path, *SPLITS, test="test").spoiling} == {"split-leak"}


def write_yolo(root, *, labelled):
    """A YOLO folder with an image in each of train, val and test, and a label file in those of `labelled`."""
    for number, split in enumerate(("train", "val", "test")):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (64, 48), (80 * number, 40, 200)).save(root / "images" / split / f"{split}.png")
        if split in labelled:
            (root / "labels" / split / f"{split}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    lines = [f"{split}: images/{split}" for split in ("train", "val", "test")]
    (root / "data.yaml").write_text("\n".join(["names: [a]", *lines, ""]))


def test_a_test_split_without_labels_is_left_out(tmp_path):
    root = tmp_path / "my data"
    write_yolo(root, labelled=("train", "val"))
    soundness = check_soundness(root, *SPLITS, test="test")
    assert soundness.is_sound
    assert soundness.unlabelled_test == "test"
    first, *more = soundness.sentences()
    assert first == "the split test has no labels that can be read: it is not used"
    assert any(f"`vovnet data check '{root}'` says more" in sentence for sentence in more)


def test_splits_for_training_need_labels(tmp_path):
    write_yolo(tmp_path / "data", labelled=("train", "test"))
    soundness = check_soundness(tmp_path / "data", *SPLITS, test="test")
    assert not soundness.is_sound
    assert {problem.kind for problem in soundness.spoiling} == {"no-labels"}
    assert soundness.unlabelled_test is None
