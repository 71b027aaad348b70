"""The files of a prediction run: annotated images and videos, COCO results and CSV, written one image at a time."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from itertools import chain, count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from vovnet.files import csv_line, file_name, is_below, json_text, replacing
from vovnet.media.pixels import Pixels
from vovnet.media.results import make_image_id

if TYPE_CHECKING:
    from vovnet.media.video import VideoWriter

CSV_COLUMNS = ("file", "frame", "image_id", "class", "score", "x1", "y1", "x2", "y2")
_CSV_END = "\r\n"


class _ListOf(Protocol):
    """An array or a tensor."""

    def tolist(self) -> Any: ...


class Predicted(Protocol):
    """What a detector found in an image: the `Detections` of `vovnet.runtime`, or a `Prediction` of `vovnet.engine`."""

    @property
    def boxes(self) -> _ListOf: ...
    @property
    def scores(self) -> _ListOf: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def source(self) -> str: ...
    @property
    def stem(self) -> str: ...
    @property
    def frame(self) -> int | None: ...
    @property
    def start_s(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...
    def to_coco(self, image_id: int | str | None = None, *, contours: bool = False) -> list[dict[str, Any]]: ...
    def draw(self, path: str | Path | None = None) -> Any: ...
    def draw_array(self) -> Pixels: ...


class PredictionWriter:
    """Writes predictions into `folder`, one at a time, so that memory does not grow with the length of the run.

    drawn/            with `draw`: each annotated image under its own name (.png stays PNG, other formats become JPEG
                      of quality 92), each annotated video as .mp4. If sources share a stem, the later ones become
                      stem_2, stem_3, … A name that is too long is cut.
    detections.json   a list of COCO results. Masks are run-length codes, or polygons with `contours`. `image_id` is the
                      stem of the annotated file before it is cut, as `make_image_id` has it; stem_frame for a frame of
                      a video.
    detections.csv    one row per detection; boxes in pixels; `frame` counts from 0, empty for images. Text that a
                      spreadsheet would run as a formula starts with an apostrophe.

    A file appears, or replaces an older one, when it is complete. A `with` block that ends early still completes the
    files with what was written so far. Only an OSError keeps the older json, csv and video.
    """

    def __init__(self, folder: str | Path, *, draw: bool = True, contours: bool = False) -> None:
        self.folder, self.draw, self.contours = Path(folder), draw, contours
        self._taken: set[str] = set()  # image ids of images, and stems of videos, in lower case, as is:
        self._videos: set[str] = set()
        self._files: set[str] = set()
        self._video: VideoWriter | None = None
        self._draws_frames = True
        self._has_results = all((self.folder / name).exists() for name in ("detections.json", "detections.csv"))

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as stack:
            path = stack.enter_context(replacing(self.folder / "detections.csv"))
            self._csv = stack.enter_context(path.open("w", newline="", encoding="utf-8"))
            self._csv.write(csv_line(CSV_COLUMNS, _CSV_END))
            path = stack.enter_context(replacing(self.folder / "detections.json"))
            self._json = stack.enter_context(path.open("w", encoding="utf-8"))
            self._json.write("[")
            self._separator = "\n"
            stack.callback(self._json.write, "\n]\n")
            stack.push(self._end_video)
            self._stack = stack.pop_all()
        return self

    def write(self, prediction: Predicted) -> None:
        """Add one image, or the next frame of a video. Frames must come in order, from 0.

        Raises ValueError or OSError if it cannot be drawn: its detections are written, and the next one can follow. Of
        a video that cannot be drawn, one frame raises it, and no annotated video appears.
        """
        if not prediction.frame:
            self._stem = self._unused_stem(prediction.stem, is_video=prediction.frame is not None)
        image_id = make_image_id(self._stem, prediction.frame)
        results = list(map(json_text, prediction.to_coco(image_id, contours=self.contours)))
        source = [prediction.source, "" if prediction.frame is None else prediction.frame, image_id]
        boxes, scores = prediction.boxes.tolist(), prediction.scores.tolist()
        rows = [
            f"{csv_line([*source, name], end='')},{score:.4f},{','.join(f'{side:.2f}' for side in box)}{_CSV_END}"
            for box, name, score in zip(boxes, prediction.names, scores, strict=True)
        ]
        for result in results:
            self._json.write(self._separator + result)
            self._separator = ",\n"
        self._csv.writelines(rows)
        if self.draw:
            self._draw(prediction)

    def _draw(self, prediction: Predicted) -> None:
        if not prediction.frame:
            self._draws_frames = True
            self._end_video(None)
        if prediction.frame is None:
            is_png = Path(prediction.source).suffix.lower() == ".png"
            prediction.draw(self._target(prediction.source, ".png" if is_png else ".jpg"))
        elif self._draws_frames:
            from vovnet.media.video import VideoWriter, video_info

            try:
                if self._video is None:
                    target = self._target(prediction.source, ".mp4")
                    self._video = VideoWriter(target, video_info(prediction.source).fps).__enter__()
                self._video.write_pixels(prediction.draw_array(), prediction.start_s, prediction.seconds)
            except (ValueError, OSError) as error:
                self._draws_frames = False
                with suppress(ValueError, OSError):
                    self._end_video(type(error), error, error.__traceback__)
                raise

    def _target(self, source: str, suffix: str) -> Path:
        """The annotated file. ValueError if it would replace a source, or what may be a file of the user."""
        target = self.folder / "drawn" / file_name(self._stem, suffix)
        if target.is_symlink():
            raise ValueError(f"{target} is a link, which is not followed: remove it or choose another output folder")
        if not target.exists() or not os.path.exists(source):
            return target
        if target.samefile(source):
            raise ValueError(f"the annotated image would replace its source {source}; choose another output folder")
        if not self._has_results and is_below(source, self.folder):
            raise ValueError(
                f"{target} exists, and no detections.json beside its folder shows that vovnet drew it: choose another "
                "output folder"
            )
        return target

    def _unused_stem(self, stem: str, *, is_video: bool) -> str:
        def is_free(name: str) -> bool:
            # "7" and "007" are one image_id; some file systems do not tell "A" from "a"; a_000001 is a frame of a.mp4.
            image_id = str(make_image_id(name)).lower()
            frames = [taken for taken in self._taken if _video_of(taken) == image_id] if is_video else []
            is_known = image_id in self._taken or _file_key(name) in self._files
            return not frames and not is_known and _video_of(image_id) not in self._videos

        free = next(filter(is_free, chain([stem], (f"{stem}_{number}" for number in count(2)))))
        taken = str(make_image_id(free)).lower()
        self._taken.add(taken)
        self._files.add(_file_key(free))
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


def _file_key(stem: str) -> str:
    """The same for stems whose annotated files have the same name."""
    return file_name(stem, ".jpg").lower()


def _video_of(image_id: str) -> str | None:
    """The stem of the video that a frame with this id would be of."""
    stem, _, frame = image_id.rpartition("_")
    return stem if len(frame) >= 6 and frame.isdecimal() else None
