"""What a detector returns for one image: a `Prediction`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from vovnet.data.images import read_image
from vovnet.data.video import read_frames
from vovnet.engine.predicting.drawing import draw_detections
from vovnet.media.drawing import save_drawn
from vovnet.media.pixels import Pixels
from vovnet.media.results import Named, make_image_id
from vovnet.metrics.coco import to_coco_results
from vovnet.structures import Detections


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Detections, Named):
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

    def draw_array(self) -> Pixels:
        """As `draw_pixels`, but (H, W, 3)."""
        return self.draw_pixels().permute(1, 2, 0).numpy()

    def draw(self, path: str | Path | None = None) -> Image:
        """The annotated image; also saved at `path` if that is given (JPEG quality 92)."""
        return save_drawn(self.draw_array(), path)

    def to_coco(self, image_id: int | str | None = None, *, contours: bool = False) -> list[dict[str, Any]]:
        """COCO results: one {image_id, category_id, bbox: [x, y, width, height], score} per detection.

        Detections with masks also have a segmentation: COCO's compressed run-length code, or polygons with `contours`.
        The default `image_id` comes from the file name, see `make_image_id`.
        """
        if image_id is None:
            image_id = make_image_id(self.stem, self.frame)
        return to_coco_results([self], [image_id], self.category_ids, contours=contours)
