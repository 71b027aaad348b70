"""The methods that hand detections to other libraries."""

from __future__ import annotations

from typing import Any


class Exchangeable:
    """Detections that other libraries take, whether tensors or arrays hold them.

    boxes: (D, 4), x1 y1 x2 y2 in pixels of the image.
    labels, scores: (D,).
    image_size: (height, width) of the image.
    masks: what each detection covers; None if the detector has no masks.
    """

    boxes: Any
    labels: Any
    scores: Any
    image_size: tuple[int, int]
    masks: Any

    def to_supervision(self) -> Any:
        """`supervision.Detections`: boxes in pixels, scores, labels as class ids, masks as bitmaps of the whole image.

        The class names are in `data["class_name"]`, where the annotators of supervision look for them. Needs the extra
        "supervision".
        """
        from vovnet.exchange.supervision import to_supervision

        return to_supervision(self)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each detection, under the names of the columns of detections.csv.

        file, frame (of a video), class, label, category_id, score, and x1, y1, x2, y2 in pixels of the image. What
        `model.decode` returns knows no file and no classes, and lacks these columns. Needs the extra "pandas".
        """
        from vovnet.exchange.pandas import to_pandas

        return to_pandas(self)

    def to_fiftyone(self) -> Any:
        """`fiftyone.Detections`: class names, boxes [x, y, width, height] from 0 to 1, scores, masks cut to the boxes.

        Needs the extra "fiftyone", and class names: what `model.decode` returns has none, which is a ValueError.
        """
        from vovnet.exchange.fiftyone import to_fiftyone

        return to_fiftyone(self)
