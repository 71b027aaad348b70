"""A dataset as training and evaluation see it, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vovnet.structures import Target


@dataclass(frozen=True)
class Sample:
    """One image file and its objects. The image is read when it is needed.

    image_id: the format's own id: COCO's number, else the file's stem.
    image_size: (height, width) that the annotation states, or None if it states none.
    """

    image_path: Path
    image_id: int | str
    target: Target
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DetectionDataset:
    """One split of a dataset.

    class_names: in label order; `target.labels` index into it.
    category_ids: the format's own ids of these classes: any integers in COCO, 0…K−1 in YOLO, 1…K in the others.
    """

    root: Path
    format: str
    split: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)
