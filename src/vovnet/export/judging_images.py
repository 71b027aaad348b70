"""Which images judge an exported file, and which calibrate int8: never the same."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import find_format, open_dataset, require_objects, splits
from vovnet.data.images import read_image
from vovnet.data.splits.split_roles import find_role
from vovnet.engine.predicting.predictor import Predictor
from vovnet.engine.predicting.sources import expand_sources
from vovnet.errors import UsageError, counted, listed
from vovnet.media.finding import is_video
from vovnet.names import sample_images
from vovnet.parsing import read_bounded
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.resize import to_input

_NAMING = (
    "a VOC dataset names its splits in ImageSets/Main/train.txt and val.txt, a COCO dataset in annotations/train.json "
    "and val.json, a YOLO dataset in the keys train and val of its data.yaml"
)


@dataclass(frozen=True)
class JudgingImages:
    """The images that judge an exported file.

    data, split: the name of their folder and split, None for the images that ship with vovnet.
    dataset: with their objects; None for plain images, of which only the detections are compared.
    """

    paths: tuple[Path, ...]
    data: str | None
    split: str | None
    dataset: DetectionDataset | None


def judging_images(data: Path | None, split: str | None, detector: Predictor, precision: str) -> JudgingImages:
    """The images of a dataset's split, of a plain folder, or those that ship with vovnet.

    split: None is val, else the split that is not for training.

    UsageError for a training split beside others, and for bf16 and int8, which average precision judges, without
    labelled images.
    """
    labelled = data is not None and _is_dataset(data)
    if not labelled and precision != "float32":
        what = "--data" if data is None else f"the dataset of which {data} holds the images as --data"
        raise UsageError(
            f"{precision} changes what a detector finds, so average precision must judge it: give {what}, "
            "the folder of a dataset with the splits train and val"
        )
    if not labelled and split is not None:
        raise UsageError(f"--split {split} names a split of a dataset: give the folder of one as --data")
    if data is None:
        return JudgingImages(sample_images(), None, None, None)
    if not labelled:
        return JudgingImages(_plain_images(data), data.resolve().name, None, None)
    chosen = _judging_split(data, split, precision)
    dataset = open_dataset(data, chosen, class_names=detector.class_names, masks=detector.masks)
    require_objects(dataset)
    paths = tuple(sample.image_path for sample in dataset)
    return JudgingImages(paths, dataset.root.resolve().name, dataset.split, dataset)


def calibration_paths(data: Path, judging: JudgingImages, count: int) -> list[Path]:
    """Images for calibration, spread evenly over the training split: none that judges, nor a copy of one.

    UsageError if there are none.
    """
    names = [name for name in splits(data) if name != judging.split]
    for_training = [name for name in names if _is_for_training(name)]
    # A split such as trainval holds images that judge, which are left out.
    others = [name for name in names if (role := find_role(name)) and "train" in role.parts] or names
    chosen = (for_training or others)[:1]
    if not chosen:
        raise _one_split(data, str(judging.split))
    paths = [sample.image_path for sample in open_dataset(data, chosen[0])]
    found = select_apart(paths, judging.paths, count)
    if not found:
        raise UsageError(
            f"all images of the split {chosen[0]} of {data} are among those of {judging.split}, which judge: {_NAMING}"
        )
    return found


def select_apart(paths: Sequence[Path], judging: Iterable[Path], count: int) -> list[Path]:
    """At most `count` of `paths`, spread evenly, without the judging images and copies of them under other names."""
    forbidden = {path.resolve() for path in judging}
    digests = {_digest(path) for path in forbidden}
    apart = [path for path in dict.fromkeys(paths) if path.resolve() not in forbidden]
    # Those at even distances first, then the others, which stand in for copies.
    first = [apart[index] for index in np.linspace(0, len(apart) - 1, min(count, len(apart))).round().astype(int)]
    chosen: list[Path] = []
    for path in dict.fromkeys([*first, *apart]):
        if len(chosen) == count:
            break
        if _digest(path) not in digests:
            chosen.append(path)
    return chosen


def calibration_inputs(paths: Collection[Path], info: ExportInfo) -> list[npt.NDArray[np.uint8]]:
    """Network inputs, uint8 RGB (1, 3, H, W) each."""
    return [to_input(np.ascontiguousarray(read_image(path).permute(1, 2, 0).numpy()), info)[None] for path in paths]


def _is_dataset(data: Path) -> bool:
    """Whether a folder is a dataset; else it may hold plain images. FileNotFoundError if it is not there."""
    try:
        find_format(data)
    except ValueError:
        if data.is_dir():
            return False
        raise
    return True


def _plain_images(folder: Path) -> tuple[Path, ...]:
    return tuple(Path(path) for path in expand_sources([folder]) if not is_video(path))


def _judging_split(data: Path, split: str | None, precision: str) -> str:
    names = splits(data)
    if split is not None:
        if _is_for_training(split) and len(names) > 1:
            raise UsageError(
                f"the split {split} is for training: judge by images that the detector was not trained on, "
                f"--split {next((name for name in names if not _is_for_training(name)), 'val')}"
            )
        return split
    roles = {name: find_role(name) for name in names}
    by_part = [
        [name for name, role in roles.items() if role and role.parts == {part} and not role.group]
        or [name for name, role in roles.items() if role and role.parts == {part}]
        for part in ("val", "test")
    ]
    for found in (*by_part, [name for name in names if not (role := roles[name]) or "train" not in role.parts]):
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{data} has the splits {listed(names)}: name the one that judges with --split")
    if precision == "int8" and len(names) == 1:
        raise _one_split(data, names[0])
    if len(names) > 1:
        raise UsageError(f"{data} has {counted(len(names), 'split')} {listed(names)}: name one with --split")
    return names[0]


def _one_split(data: Path, split: str) -> UsageError:
    return UsageError(
        f"int8 needs images for calibration other than those that judge it, and {data} has the one split {split}: "
        f"{_NAMING}"
    )


def _is_for_training(name: str) -> bool:
    role = find_role(name)
    return role is not None and role.parts == {"train"}


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bounded(path, "image_bytes")).hexdigest()
