"""What a detector returns for one source: a `Prediction`, or a `Failure` with the reason."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL.Image import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vovnet.data.images import read_image
from vovnet.data.video import read_frames
from vovnet.engine.drawing import draw_detections
from vovnet.errors import describe
from vovnet.files import encodable, write_image
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.metrics.coco import to_coco_results
from vovnet.structures import Detections
from vovnet.urls import is_url

_LARGEST_ID = 2**63 - 1
_MOST_DIGITS = len(str(_LARGEST_ID))


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Detections):
    """The detections of one image, with what is needed to name, draw and export them.

    class_names, category_ids: those of the detector, in label order.
    source: path or URL of the image; for an image in memory its index among the inputs, from "0".
    frame: index of the frame in a video, from 0; None for an image.
    start_s, seconds: when the frame of a video is shown, from the start of the video, and for how long.
    pixels: the image itself, uint8 RGB (3, H, W). None for an image file unless it was asked for: the file is read
        again when it is needed, so that a thousand predictions hold no images.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str
    frame: int | None = None
    start_s: float | None = None
    seconds: float | None = None
    pixels: Tensor | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def stem(self) -> str:
        """The file name without folder and suffix."""
        if is_url(self.source):
            url = urlsplit(self.source)
            return Path(url.path).stem or url.netloc.rpartition("@")[2]  # without a password
        return Path(self.source).stem

    def image(self) -> Tensor:
        """uint8 RGB (3, H, W): `pixels` if they are held, else read from the file. A video is decoded to the frame."""
        if self.pixels is not None:
            return self.pixels
        if self.frame is None:
            return read_image(Path(self.source))
        with closing(read_frames(self.source)) as frames:
            return next(islice(frames, self.frame, None))

    def draw_pixels(self) -> Tensor:
        """uint8 RGB (3, H, W): the annotated image, with masks, boxes, class names and scores."""
        return draw_detections(self.image(), self, self.class_names)

    def draw(self, path: str | Path | None = None) -> Image:
        """The annotated image; also saved at `path` if that is given (JPEG quality 92)."""
        annotated = to_pil_image(self.draw_pixels())
        if path is not None:
            if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
                raise ValueError(f"{path} must end in one of {' '.join(IMAGE_SUFFIXES)}")
            write_image(path, annotated, quality=92)
        return annotated

    def to_coco(self, image_id: int | str | None = None, *, contours: bool = False) -> list[dict[str, Any]]:
        """COCO results: one {image_id, category_id, bbox: [x, y, width, height], score} per detection.

        Detections with masks also have a segmentation: COCO's compressed run-length code, or polygons with `contours`.
        The default `image_id` comes from the file name, see `make_image_id`.
        """
        if image_id is None:
            image_id = make_image_id(self.stem, self.frame)
        return to_coco_results([self], [image_id], self.category_ids, contours=contours)


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


@dataclass(frozen=True)
class Failure:
    """A source that could not be read or drawn, or a video that broke off, and the reason."""

    source: str
    error: ValueError | OSError

    @property
    def reason(self) -> str:
        return describe(self.error)
