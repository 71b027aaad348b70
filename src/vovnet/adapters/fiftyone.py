"""Images with their ground truth and what a detector found in them, as samples of FiftyOne."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.exchange.fiftyone import import_fiftyone, make_labels
from vovnet.media.pixels import image_header_size
from vovnet.printing import line


class _Found(Protocol):
    """What a detector's `predict` returns for one image."""

    @property
    def source(self) -> str: ...
    @property
    def frame(self) -> int | None: ...
    def to_fiftyone(self) -> Any: ...


def make_samples(predictions: Iterable[_Found] = (), *, dataset: DetectionDataset | None = None) -> list[Any]:
    """A `fiftyone.Sample` for each image or video, for `fiftyone.Dataset.add_samples`.

    A sample has the absolute path of its file, and the detections as `predictions`, in a video those of its frames.
    With a dataset, all its images are samples in its order, with their objects as `ground_truth` and their `image_id`;
    each object has the flags `iscrowd` and `difficult`. The predictions must then be of these files.

    predictions: of image files, one for each file, and of frames of video files.
    dataset: a split, see `vovnet.data.formats.open_dataset`. Tiles are no files, so it must not be divided into them.

    Raises ValueError for what does not fit together, ModuleNotFoundError without FiftyOne.
    """
    fiftyone = import_fiftyone("vovnet.adapters.fiftyone")
    found = _by_path(predictions)
    samples = []
    if dataset is None:
        for path, frames in found.items():
            samples.append(fiftyone.Sample(filepath=path))
            _add(samples[-1], frames, fiftyone.Frame)
        return samples
    for image in dataset:
        if image.tile is not None:
            raise ValueError(f"FiftyOne's samples are image files, got a tile of {image.image_path}")
        path = os.path.abspath(image.image_path)
        labels = _ground_truth(image, dataset.class_names)
        samples.append(fiftyone.Sample(filepath=path, ground_truth=labels, image_id=image.image_id))
        _add(samples[-1], found.pop(path, {}), fiftyone.Frame)
    if found:
        raise ValueError(
            f"expected predictions of images of the split {dataset.split} in {dataset.root}, got one of "
            f"{line(next(iter(found)), 200)}"
        )
    return samples


def _by_path(predictions: Iterable[_Found]) -> dict[str, dict[int | None, _Found]]:
    """The predictions of each file by their frame, which is None for an image."""
    found: dict[str, dict[int | None, _Found]] = {}
    for one in predictions:
        path = os.path.abspath(one.source)
        if not os.path.isfile(path):
            raise ValueError(f"FiftyOne's samples are files, got a prediction of {line(one.source, 200)}")
        frames = found.setdefault(path, {})
        if one.frame in frames:
            what = "image" if one.frame is None else "frame of a video"
            raise ValueError(f"expected one prediction for each {what}, got two of {line(path, 200)}")
        frames[one.frame] = one
    return found


def _add(sample: Any, frames: Mapping[int | None, _Found], make_frame: Callable[..., Any]) -> None:
    for index, one in frames.items():
        if index is None:
            sample["predictions"] = one.to_fiftyone()
        else:
            sample.frames[index + 1] = make_frame(predictions=one.to_fiftyone())  # FiftyOne counts from 1


def _ground_truth(image: Sample, class_names: tuple[str, ...]) -> Any:
    target = image.target
    return make_labels(
        target,
        [class_names[label] for label in target.labels.tolist()],
        image_size=image.image_size or image_header_size(image.image_path),
        iscrowd=target.crowd.tolist(),
        difficult=target.difficult.tolist(),
    )
