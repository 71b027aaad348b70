"""Which splits must not share images, by their names."""

from __future__ import annotations

import pytest

from vovnet.data.splits.split_roles import find_rivals, find_role, priority


@pytest.mark.parametrize(
    ("name", "parts", "group"),
    [
        ("train", {"train"}, ()),
        ("Training", {"train"}, ()),
        ("valid", {"val"}, ()),
        ("validation", {"val"}, ()),
        ("dev", {"val"}, ()),
        ("trainval", {"train", "val"}, ()),
        ("train_val", {"train", "val"}, ()),
        ("train2017", {"train"}, ("2017",)),
        ("val_night", {"val"}, ("night",)),
        ("fold3-test", {"test"}, ("fold", "3")),
        ("test-dev2017", {"test"}, ("2017",)),
    ],
)
def test_the_role_is_in_the_name(name: str, parts: set[str], group: tuple[str, ...]) -> None:
    role = find_role(name)
    assert role is not None
    assert (role.parts, role.group) == (parts, group)


@pytest.mark.parametrize("name", ["seq1", "camera_front", "fold2", "subset-a", "all", "unlisted", "minival"])
def test_other_lists_have_no_role(name: str) -> None:
    assert find_role(name) is None


@pytest.mark.parametrize(
    ("names", "rivals"),
    [
        ("train val test", "train-val train-test val-test"),
        ("train valid test trainval seq1 seq2 fold1", "train-valid train-test valid-test trainval-test"),
        ("train2017 val2017", "train2017-val2017"),
        ("train_a val_a train_b val_b", "train_a-val_a train_b-val_b"),  # folds overlap
        (
            "train_1 val_1 train_2 val_2 test",
            "train_1-val_1 train_2-val_2 train_1-test val_1-test train_2-test val_2-test",
        ),
        ("train val train_1 val_1", "train-val train_1-val_1"),  # the folds of train
        ("fold1_train fold1_test fold2_train fold2_test", "fold1_train-fold1_test fold2_train-fold2_test"),
        ("train_day train_night val", "train_day-val train_night-val"),
        ("train2014 val2014 train2017 val2017", "train2014-val2014 train2017-val2017"),
        ("bdd_images_train bdd_images_val", "bdd_images_train-bdd_images_val"),
        ("trainval test", "trainval-test"),
        ("test_a test_b", ""),
        ("cam1 cam2 night", ""),
    ],
)
def test_rivals(names: str, rivals: str) -> None:
    assert find_rivals(names.split()) == {frozenset(pair.split("-")) for pair in rivals.split()}


def test_who_keeps_a_shared_image() -> None:
    assert sorted(["seq", "train_a", "dev", "trainval", "test"], key=priority) == [
        "test",
        "dev",
        "trainval",
        "train_a",
        "seq",
    ]
