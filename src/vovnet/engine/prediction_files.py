"""The files of a prediction run: annotated images and videos, COCO results and CSV, written one image at a time."""

from __future__ import annotations

import csv
import json
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import Any

from vovnet.data.video import VideoWriter, video_info
from vovnet.engine.prediction import Prediction, make_image_id
from vovnet.files import replacing

CSV_COLUMNS = ("file", "frame", "image_id", "class", "score", "x1", "y1", "x2", "y2")


class PredictionWriter:
    """Writes predictions into `folder`, one at a time, so that memory does not grow with the length of the run.

    drawn/            with `draw`: each annotated image under its own name (.png stays PNG, other formats become JPEG
                      of quality 92), each annotated video as .mp4. If sources share a stem, the later ones become
                      stem_2, stem_3, …
    detections.json   a list of COCO results. Masks are run-length codes, or polygons with `contours`. `image_id` is the
                      stem of the annotated file, as a number where it is one ("000000000139.jpg" → 139); stem_frame
                      for a frame of a video.
    detections.csv    one row per detection; boxes in pixels; `frame` counts from 0, empty for images.

    A file appears, or replaces an older one, when it is complete. A `with` block that ends early still completes the
    files with what was written so far. Only an OSError keeps the older json, csv and video.
    """

    def __init__(self, folder: str | Path, *, draw: bool = True, contours: bool = False) -> None:
        self.folder, self.draw, self.contours = Path(folder), draw, contours
        self._taken: set[str] = set()  # image ids of images, and stems of videos, in lower case, as is:
        self._videos: set[str] = set()
        self._video: VideoWriter | None = None

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as stack:
            path = stack.enter_context(replacing(self.folder / "detections.csv"))
            self._rows = csv.writer(stack.enter_context(path.open("w", newline="", encoding="utf-8")))
            self._rows.writerow(CSV_COLUMNS)
            path = stack.enter_context(replacing(self.folder / "detections.json"))
            self._json = stack.enter_context(path.open("w", encoding="utf-8"))
            self._json.write("[")
            self._separator = "\n"
            stack.callback(self._json.write, "\n]\n")
            stack.push(self._end_video)
            self._stack = stack.pop_all()
        return self

    def write(self, prediction: Prediction) -> None:
        """Add one image, or the next frame of a video. Frames must come in order, from 0."""
        if not prediction.frame:
            self._end_video(None)
            self._stem = self._unused_stem(prediction.stem, is_video=prediction.frame is not None)
        image_id = make_image_id(self._stem, prediction.frame)
        if self.draw:
            self._draw(prediction)
        for result in prediction.to_coco(image_id, contours=self.contours):
            self._json.write(self._separator + json.dumps(result))
            self._separator = ",\n"
        source = [prediction.source, "" if prediction.frame is None else prediction.frame, image_id]
        boxes, scores = prediction.boxes.tolist(), prediction.scores.tolist()
        for box, name, score in zip(boxes, prediction.names, scores, strict=True):
            self._rows.writerow([*source, name, f"{score:.4f}", *(f"{side:.2f}" for side in box)])

    def _draw(self, prediction: Prediction) -> None:
        source = Path(prediction.source)
        suffix = ".png" if source.suffix.lower() == ".png" else ".jpg"
        target = self.folder / "drawn" / f"{self._stem}{suffix if prediction.frame is None else '.mp4'}"
        if source.exists() and target.exists() and target.samefile(source):
            raise ValueError(f"the annotated image would replace its source {source}; choose another output folder")
        if prediction.frame is None:
            prediction.draw(target)
            return
        if self._video is None:
            self._video = VideoWriter(target, video_info(source).fps).__enter__()
        self._video.write(prediction.draw_pixels(), prediction.start_s, prediction.seconds)

    def _unused_stem(self, stem: str, *, is_video: bool) -> str:
        def is_free(name: str) -> bool:
            # "7" and "007" are one image_id; some file systems do not tell "A" from "a"; a_000001 is a frame of a.mp4.
            image_id = str(make_image_id(name)).lower()
            frames = [taken for taken in self._taken if _video_of(taken) == image_id] if is_video else []
            return not frames and image_id not in self._taken and _video_of(image_id) not in self._videos

        free = next(filter(is_free, chain([stem], (f"{stem}_{number}" for number in count(2)))))
        taken = str(make_image_id(free)).lower()
        self._taken.add(taken)
        if is_video:
            self._videos.add(taken)
        return free

    def _end_video(self, error_type: type[BaseException] | None, *details: Any) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.__exit__(error_type, *(details or (None, None)))

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is not None and not issubclass(error_type, OSError):
            error_type = error = traceback = None
        self._stack.__exit__(error_type, error, traceback)


def _video_of(image_id: str) -> str | None:
    """The stem of the video that a frame with this id would be of."""
    stem, _, frame = image_id.rpartition("_")
    return stem if len(frame) >= 6 and frame.isdecimal() else None
