"""What is said of a source that was given to a detector: its id, its name, COCO results, or why there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from vovnet.errors import describe
from vovnet.files import encodable
from vovnet.urls import is_url

T = TypeVar("T")
_LARGEST_ID = 2**63 - 1
_MOST_DIGITS = len(str(_LARGEST_ID))


@dataclass(frozen=True)
class Failure:
    """A source that could not be read or drawn, or a video that broke off, and the reason."""

    source: str
    error: ValueError | OSError

    @property
    def reason(self) -> str:
        return describe(self.error)


class Named:
    """What the detections of one image are called, whatever holds them.

    class_names: of the detector, in label order.
    labels: the index of the class of each detection.
    source: path or URL of the image; for an image in memory its index among the inputs, from "0".
    """

    class_names: tuple[str, ...]
    labels: Any
    source: str

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def stem(self) -> str:
        """The file name without folder and suffix."""
        return source_stem(self.source)


def raise_failures(results: Iterator[T | Failure]) -> Iterator[T]:
    """The results. Raises the error of the first `Failure` among them."""
    for result in results:
        if isinstance(result, Failure):
            raise result.error
        yield result


def source_stem(source: str) -> str:
    """The file name of a path or URL, without folder and suffix."""
    if is_url(source):
        url = urlsplit(source)
        return Path(url.path).stem or url.netloc.rpartition("@")[2]  # without a password
    return Path(source).stem


def make_image_id(stem: str, frame: int | None = None) -> int | str:
    """A file's stem, as a number where it is one (COCO's "000000000139" → 139); stem_frame for a frame of a video.

    A number that does not fit in 64 bits stays text. So do bytes of a file name that are no UTF-8, written as \\udc80.
    """
    if frame is not None:
        return f"{encodable(stem)}_{frame:06d}"
    digits = stem.lstrip("0") or "0"
    if stem.isdecimal() and len(digits) <= _MOST_DIGITS and int(digits) <= _LARGEST_ID:
        return int(digits)
    return encodable(stem)


def coco_results(
    image_id: int | str, category_ids: Sequence[int], boxes_xywh: Sequence[Sequence[float]], scores: Sequence[float]
) -> list[dict[str, Any]]:
    """COCO results of an image, without masks: bbox rounded to 0.001 pixel, score to six decimals.

    category_ids, boxes_xywh, scores: of each detection; boxes are x, y, width, height.
    """
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [round(value, 3) for value in box],
            "score": round(score, 6),
        }
        for category_id, box, score in zip(category_ids, boxes_xywh, scores, strict=True)
    ]
