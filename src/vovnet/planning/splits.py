"""Which images a plan trains on, chooses the weights by, and tests with once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vovnet.data.dataset import raise_problem
from vovnet.data.formats import find_format
from vovnet.data.formats import splits as names_of_splits
from vovnet.data.reading import read_splits
from vovnet.data.splits.split_file import image_names, is_split_file, read_split_file, write_members
from vovnet.data.splits.split_roles import find_role
from vovnet.data.splitting import divide
from vovnet.files import make_folder

VAL_FRACTION = 0.2
SPLIT_FILE = "splits.json"
_OTHER_SPLIT_FILE = "splits-with-val.json"  # where that is the dataset itself
_SEED = 0


@dataclass(frozen=True)
class Splits:
    """A dataset and the names of its splits; None for one that it lacks."""

    root: Path
    train: str
    val: str | None
    test: str | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.train, self.val, self.test) if name is not None)


def find_splits(root: Path) -> Splits:
    """The splits for training, validation and test by their names. A dataset of one split is all for training.

    Of several for the same, as train2017 and train_extra, the one with the fewest further words comes first.
    """
    names = names_of_splits(root)
    train, val, test = (_named(names, {part}) for part in ("train", "val", "test"))
    both = _named(names, {"train", "val"})
    if train is None:
        train = both or next((name for name in names if name not in (val, test)), names[0])
    elif val is None and both:
        train = both
    return Splits(root, train, val if val != train else None, test if test != train else None)


def _named(names: Sequence[str], parts: set[str]) -> str | None:
    roles = {name: role for name in names if (role := find_role(name)) and role.parts == parts}
    return min(roles, key=lambda name: (len(roles[name].group), names.index(name)), default=None)


def take_val_from_train(splits: Splits, folder: Path, *, compare_images: bool = True) -> Splits:
    """The splits with a part of the training images as val, in a split file that is written to `folder`.

    Each class has the same share of both, and nearly equal images stay together. The test images stay the same.
    compare_images: decode them all, by which copies under other names are known.
    """
    path, module = folder / SPLIT_FILE, find_format(splits.root)
    dataset = splits.root
    if is_split_file(dataset):
        path = path.with_name(_OTHER_SPLIT_FILE) if path.resolve() == dataset.resolve() else path
        dataset = read_split_file(dataset).root
    wanted = [name for name in (splits.train, splits.test) if name is not None]
    annotations = read_splits(module, splits.root, wanted, raise_problem, masks=False)
    train, *test = (list(image_names(split)) for split in annotations)
    make_folder(folder)
    write_members(path, dataset, {"train": train})
    division = divide(path, {"train": 1 - VAL_FRACTION, "val": VAL_FRACTION}, _SEED, compare_images=compare_images)
    members = dict(division.members) | ({"test": tuple(test[0])} if test else {})
    write_members(path, division.root, members)
    return replace(splits, root=path, train="train", val="val", test="test" if test else None)
