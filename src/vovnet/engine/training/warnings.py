"""What is said about the data before an hour of training is spent on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import are_inside
from vovnet.media.pixels import image_header_size
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Preprocessing

_LOG = logging.getLogger("vovnet")
_MOST_IMAGES = 1000  # whose objects are looked at: enough for a median
_MOST_NAMES = 10  # that a sentence lists


def count_objects(dataset: DetectionDataset) -> list[int]:
    """Number of objects of each class, without crowds, from which nothing is learnt."""
    labels = [sample.target.labels[~sample.target.crowd] for sample in dataset]
    return torch.cat([torch.empty(0, dtype=torch.long), *labels]).bincount(minlength=len(dataset.class_names)).tolist()


def warn_before_training(
    dataset: DetectionDataset, val: DetectionDataset | None, name: str, model: DetectionModel
) -> None:
    """Warn of classes without objects, and of objects that are outside their image or too small for the detector.

    name: of the detector.
    """
    for sentence in (
        *_warnings_about_classes(dataset, val),
        *_warnings_about_places(dataset),
        *_warnings_about_size(dataset, name, model),
    ):
        _LOG.warning(sentence)


def _warnings_about_classes(dataset: DetectionDataset, val: DetectionDataset | None) -> Iterator[str]:
    names = dataset.class_names
    counts = count_objects(dataset)
    val_counts = count_objects(val) if val is not None else [0] * len(names)
    missing = [name for name, count in zip(names, counts, strict=True) if not count]
    if missing:
        only_in_val = [name for name, count in zip(names, val_counts, strict=True) if count and name in missing]
        in_val = f"; val has objects of {_join(only_in_val)}, which lower its metric" if only_in_val else ""
        yield f"no training image has an object of {_join(missing)} ({len(missing)} of {len(names)} classes){in_val}"


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(map(repr, names[:_MOST_NAMES])) + more


def _warnings_about_places(dataset: DetectionDataset) -> Iterator[str]:
    """A sentence if an object is outside its image."""
    samples = _some(dataset)
    inside = [are_inside(sample) for sample in samples]
    outside = sum(int((~are).sum()) for are in inside)
    if outside:
        first = next(sample for sample, are in zip(samples, inside, strict=True) if not are.all())
        yield (
            f"{outside} of {sum(map(len, inside))} training objects are outside their image, so nothing is learnt from "
            f"them (the first is in {first.image_path.name}): `vovnet data check` lists them"
        )


def _some(dataset: DetectionDataset) -> Sequence[Sample]:
    """Images from all parts of the dataset."""
    return dataset.samples[:: math.ceil(len(dataset) / _MOST_IMAGES)]


def _warnings_about_size(dataset: DetectionDataset, name: str, model: DetectionModel) -> Iterator[str]:
    """A sentence if the median object has a third of the side of the smallest default box, or less.

    Then the IoU of most objects with every default box is 0.1 or less, and each is learnt from one default box only.
    """
    smallest = model.smallest_anchor
    sides = torch.cat([torch.empty(0), *(_sides_in_input(sample, model.preprocessing) for sample in _some(dataset))])
    if smallest is None or not len(sides) or sides.median() > smallest / 3:
        return
    height, width = model.preprocessing.image_size
    size = f"of at most {width} pixels" if model.preprocessing.keep_ratio else f"of {width} × {height} pixels"
    smaller = (sides < smallest / 3).float().mean().item()
    yield (
        f"half of the training objects are smaller than {sides.median():.1f} pixels (√area) in {name}'s input {size}, "
        f"and {smaller:.0%} are smaller than a third of its smallest default box ({smallest:g} pixels): it will hardly "
        "learn them. A larger input helps (refinedet512, or Mask R-CNN and Faster R-CNN, which keep the aspect ratio), "
        "or train on tiles: data.tiles='{size: PIXELS}'"
    )


def _sides_in_input(sample: Sample, preprocessing: Preprocessing) -> Tensor:
    """√area of an image's objects in pixels of the network's input, (M,); none for an image that cannot be read."""
    try:
        height, width = sample.image_size or image_header_size(sample.image_path)
    except (ValueError, OSError):  # training itself says so when it needs the image
        return torch.empty(0)
    input_height, input_width = preprocessing.input_size((height, width))
    boxes = sample.target.boxes[~sample.target.crowd]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (areas * (input_height * input_width / (height * width))).sqrt()
