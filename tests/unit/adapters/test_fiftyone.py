"""A dataset and what a detector found in it become a dataset of FiftyOne, and what that exports is read again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vovnet.adapters.fiftyone import make_samples
from vovnet.data.dataset import Tile
from vovnet.data.formats import open_dataset
from vovnet.masks import decode, encode
from vovnet.runtime.detections import Detections

from ..fiftyone_here import import_or_skip, need_database

fo = import_or_skip()
BCCD = Path("samples/bccd")


@pytest.fixture
def dataset() -> Any:
    whole = open_dataset(BCCD, "val")
    return replace(whole, samples=whole.samples[:3])


@pytest.fixture
def in_fiftyone() -> Iterator[Any]:
    need_database()
    made = fo.Dataset()
    yield made
    made.delete()


def perfect(sample: Any, dataset: Any) -> Detections:
    """What a detector without fault finds."""
    target = sample.target
    return Detections(
        boxes=target.boxes.numpy(),
        labels=target.labels.numpy(),
        scores=np.linspace(0.9, 0.5, len(target), dtype=np.float32),
        image_size=sample.image_size,
        class_names=dataset.class_names,
        category_ids=dataset.category_ids,
        source=str(sample.image_path),
    )


def test_fiftyone_evaluates_what_it_got(dataset: Any, in_fiftyone: Any) -> None:
    in_fiftyone.add_samples(make_samples([perfect(sample, dataset) for sample in dataset], dataset=dataset))
    assert in_fiftyone.values("filepath") == [os.path.abspath(sample.image_path) for sample in dataset]
    assert in_fiftyone.values("image_id") == [sample.image_id for sample in dataset]
    assert in_fiftyone.values("ground_truth.detections.iscrowd")[0] == dataset[0].target.crowd.tolist()
    results = in_fiftyone.evaluate_detections("predictions", gt_field="ground_truth", method="coco", compute_mAP=True)
    assert results.mAP() == pytest.approx(1)


def test_images_without_predictions_and_predictions_without_dataset(dataset: Any) -> None:
    one = perfect(dataset[1], dataset)
    with_truth = make_samples([one], dataset=dataset)
    assert [sample.has_field("predictions") for sample in with_truth] == [False, True, False]
    (alone,) = make_samples([one])
    assert alone.filepath == os.path.abspath(one.source)
    assert len(alone.predictions.detections) == len(one)
    assert not alone.has_field("ground_truth")


def test_masks_come_back_through_coco(dataset: Any, in_fiftyone: Any, tmp_path: Path) -> None:
    """FiftyOne makes polygons of masks, which moves their outlines a little."""
    original = dataset[0]
    bitmaps = torch.zeros((len(original.target), *original.image_size), dtype=torch.uint8)
    for bitmap, (x1, y1, x2, y2) in zip(bitmaps, original.target.boxes.int().tolist(), strict=True):
        bitmap[y1:y2, x1 : (x1 + x2) // 2] = 1  # the left half
    with_masks = replace(original, target=replace(original.target, masks=encode(bitmaps)))
    in_fiftyone.add_samples(make_samples(dataset=replace(dataset, samples=(with_masks,))))
    kind, folder = fo.types.COCODetectionDataset, str(tmp_path / "exported")
    in_fiftyone.export(export_dir=folder, dataset_type=kind, label_field="ground_truth", progress=False)
    (again,) = open_dataset(folder, masks=True)
    for bitmap, expected in zip(decode(again.target.masks), bitmaps, strict=True):
        assert (bitmap & expected).sum() / (bitmap | expected).sum() > 0.9


def test_what_does_not_fit_is_named(dataset: Any, tmp_path: Path) -> None:
    one = perfect(dataset[0], dataset)
    other = tmp_path / "other.jpg"
    other.write_bytes(dataset[0].image_path.read_bytes())
    with pytest.raises(ValueError, match="expected predictions of images of the split val in samples/bccd, got one of"):
        make_samples([replace(one, source=str(other))], dataset=dataset)
    with pytest.raises(ValueError, match="expected one prediction for each image, got two of"):
        make_samples([one, one])
    tile = replace(dataset[0], tile=Tile((0, 0, 320, 320), (480, 640)))
    with pytest.raises(ValueError, match="samples are image files, got a tile of"):
        make_samples(dataset=replace(dataset, samples=(tile,)))
    with pytest.raises(ValueError, match="samples are files, got a prediction of 0"):
        make_samples([replace(one, source="0")])
    with pytest.raises(ValueError, match="expected one prediction for each frame of a video, got two of"):
        make_samples([replace(one, source="samples/video/cars.mp4", frame=2)] * 2)


def test_frames_of_a_video_are_in_one_sample(dataset: Any, in_fiftyone: Any) -> None:
    found = [replace(perfect(dataset[i], dataset), source="samples/video/cars.mp4", frame=i) for i in range(3)]
    in_fiftyone.add_samples(make_samples(found))
    video = in_fiftyone.one(fo.ViewField("filepath") == os.path.abspath("samples/video/cars.mp4"))
    assert in_fiftyone.media_type == "video"
    assert {number: len(frame.predictions.detections) for number, frame in video.frames.items()} == {
        number + 1: len(one) for number, one in enumerate(found)
    }


@pytest.mark.parametrize("kind", ["COCODetectionDataset", "VOCDetectionDataset", "YOLOv5Dataset"])
def test_what_fiftyone_exports_is_read(kind: str, dataset: Any, in_fiftyone: Any, tmp_path: Path) -> None:
    in_fiftyone.add_samples(make_samples(dataset=dataset))
    folder = tmp_path / "exported"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_fiftyone.export(
            export_dir=str(folder),
            dataset_type=getattr(fo.types, kind),
            label_field="ground_truth",
            classes=list(dataset.class_names),
            progress=False,
        )
    again = open_dataset(folder)
    by_name = {sample.image_path.stem: sample.target for sample in again}
    for sample in dataset:
        target = by_name[sample.image_path.stem]
        error = (target.boxes - sample.target.boxes).abs()
        in_whole_pixels = kind.startswith("VOC")  # which FiftyOne rounds down, so that some sides lose one
        assert error.max() <= (1 if in_whole_pixels else 1e-3)
        assert error.mean() < 0.25
        assert [again.class_names[label] for label in target.labels.tolist()] == [
            dataset.class_names[label] for label in sample.target.labels.tolist()
        ]
