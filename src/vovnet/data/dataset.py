"""The one form in which every format's reader hands over a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vovnet.structures import Target


@dataclass(frozen=True)
class Sample:
    """One image file and its objects; the image is read when it is needed.

    image_id: the format's own id: COCO's number, else the file's stem.
    image_size: (height, width) as the annotation states it, or None where it does not.
    """

    image_path: Path
    image_id: int | str
    target: Target
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class DetectionDataset:
    """One split of a data set.

    class_names: in label order: `target.labels` index into it.
    category_ids: the ids that the format itself gives these classes (COCO: any integers; else 0…K−1 or 1…K).
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
