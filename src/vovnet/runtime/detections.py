"""What an exported detector finds in an image, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vovnet import run_lengths
from vovnet.exchange.detections import Exchangeable
from vovnet.media.pixels import Pixels, read_pixels
from vovnet.media.results import Named, coco_results, make_image_id

if TYPE_CHECKING:
    from PIL.Image import Image

    from vovnet.media.drawing import Region

Index = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Masks:
    """The masks of the detections in one image.

    codes: COCO's compressed run-length code of each mask.
    size: (height, width) of the image.
    """

    codes: tuple[bytes, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Index) -> Masks:
        """The masks that a boolean mask or an index array selects."""
        return replace(self, codes=tuple(self.codes[i] for i in np.arange(len(self))[index].tolist()))

    def bitmap(self, index: int) -> npt.NDArray[np.bool_]:
        """(H, W): the pixels of one mask."""
        return run_lengths.decode(self.codes[index], self.size)

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO's compressed run-length objects, ready for JSON."""
        return [{"size": list(self.size), "counts": code.decode()} for code in self.codes]

    def to_polygons(self) -> list[list[list[float]]]:
        """The polygons of each mask, see `vovnet.masks.to_polygons`."""
        polygons = []
        for index in range(len(self)):
            (rows, columns), inside = _region(self, index, self.size)
            polygons.append(run_lengths.outlines(inside, columns.start, rows.start) if inside.size else [])
        return polygons


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections(Exchangeable, Named):
    """The objects that a detector reports for one image, best score first.

    boxes: float32 (D, 4), x1 y1 x2 y2 in pixels of the original image.
    labels: int64 (D,), indices into `class_names`.
    scores: float32 (D,) in [0, 1].
    image_size: (height, width) of the original image.
    class_names, category_ids: those of the detector, in label order.
    source: path or URL of the image; for an image in memory its index among the inputs, from "0".
    masks: what each detection covers; None if the detector has no masks.
    frame: index of the frame in a video, from 0; None for an image.
    start_s, seconds: when the frame of a video is shown, from the start of the video, and for how long.
    pixels: the image itself, uint8 RGB (H, W, 3). None for an image file unless it was asked for: the file is read
        again when it is needed, so that a thousand results hold no images.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    image_size: tuple[int, int]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str
    masks: Masks | None = None
    frame: int | None = None
    start_s: float | None = None
    seconds: float | None = None
    pixels: Pixels | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Index) -> Detections:
        """The detections that a boolean mask or an index array selects."""
        masks = None if self.masks is None else self.masks[index]
        return replace(self, boxes=self.boxes[index], labels=self.labels[index], scores=self.scores[index], masks=masks)

    def image(self) -> Pixels:
        """uint8 RGB (H, W, 3): `pixels` if they are held, else read from the file. A video is decoded to the frame."""
        if self.pixels is not None:
            return self.pixels
        if self.frame is None:
            return read_pixels(Path(self.source))
        from vovnet.media.video import read_pixel_frames

        with closing(read_pixel_frames(self.source)) as frames:
            return next(islice(frames, self.frame, None))

    def draw_array(self) -> Pixels:
        """uint8 RGB (H, W, 3): the annotated image, with masks, boxes, class names and scores."""
        from vovnet.media.drawing import Item, annotate, colours, shown_names

        shown = shown_names(self.class_names)
        of_each = colours(self.labels.tolist(), masks=self.masks is not None)
        items = [
            Item(
                box,
                f"{shown[label]} {score:.2f}",
                colour,
                None if self.masks is None else partial(_region, self.masks, index),
            )
            for index, (box, label, score, colour) in enumerate(
                zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), of_each, strict=True)
            )
        ]
        return annotate(self.image(), items[::-1])

    def draw(self, path: str | Path | None = None) -> Image:
        """The annotated image; also saved at `path` if that is given (JPEG quality 92)."""
        from vovnet.media.drawing import save_drawn

        return save_drawn(self.draw_array(), path)

    def to_coco(self, image_id: int | str | None = None, *, contours: bool = False) -> list[dict[str, Any]]:
        """COCO results: one {image_id, category_id, bbox: [x, y, width, height], score} per detection.

        Detections with masks also have a segmentation: COCO's compressed run-length code, or polygons with `contours`.
        The default `image_id` comes
        from the file name, see `vovnet.media.results.make_image_id`.
        """
        if image_id is None:
            image_id = make_image_id(self.stem, self.frame)
        corners = self.boxes.astype(np.float64)
        boxes_xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
        categories: Sequence[int] = [self.category_ids[label] for label in self.labels.tolist()]
        results = coco_results(image_id, categories, boxes_xywh, self.scores.tolist())
        if self.masks is not None:
            segmentations = self.masks.to_polygons() if contours else self.masks.to_coco()
            for result, segmentation in zip(results, segmentations, strict=True):
                result["segmentation"] = segmentation
        return results


def _region(masks: Masks, index: int, image_size: tuple[int, int]) -> Region:
    """The bounding box of a mask as slices of the image, and the mask in it."""
    if masks.size != image_size:
        raise ValueError(f"masks must have the image's size {image_size} (height, width), got {masks.size}")
    bitmap = masks.bitmap(index)
    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if not len(rows):
        return (slice(0, 0), slice(0, 0)), bitmap[:0, :0]
    region = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return region, bitmap[region]
