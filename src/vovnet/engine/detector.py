"""From images to detections: one `Detector` for files, folders, patterns, addresses, arrays and videos."""

from __future__ import annotations

import difflib
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar, Unpack, overload
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vovnet.data.images import IMAGE_SUFFIXES, read_image, to_image_tensor
from vovnet.data.sources import expand_sources, is_video
from vovnet.data.video import VideoWriter, read_frames, video_info
from vovnet.download import download, is_url
from vovnet.engine.distributed import choose_device
from vovnet.engine.inference import detect_images
from vovnet.files import replacing
from vovnet.models.detectors.contract import DetectionModel
from vovnet.structures import Detections

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Tensor | np.ndarray[Any, Any] | Image

T = TypeVar("T")


class Options(TypedDict, total=False):
    """What `Detector.predict` takes by name."""

    score_threshold: float
    top_k: int
    classes: str | int | Sequence[str | int] | None
    batch_size: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Detections):
    """The detections of one image, and what is needed to name, draw and export them.

    source: path or address of the image; for an image given as pixels its place among the inputs, from "0".
    frame: number of the frame in a video from 0, None for an image.
    pixels: uint8 RGB (3, H, W) where the image came as pixels, from an address or in a stream of video frames;
        None where the file is read again when it is drawn, so that a thousand predictions hold no images.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str
    frame: int | None = None
    pixels: Tensor | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    @property
    def stem(self) -> str:
        """The name of the file without folder and suffix."""
        if is_url(self.source):
            address = urlsplit(self.source)
            return Path(address.path).stem or address.netloc
        return Path(self.source).stem

    def image(self) -> Tensor:
        """uint8 RGB (3, H, W): the held pixels, else read from the file; a video is decoded up to the frame."""
        if self.pixels is not None:
            return self.pixels
        if self.frame is None:
            return read_image(Path(self.source))
        with closing(read_frames(self.source)) as frames:
            return next(islice(frames, self.frame, None))

    def draw_pixels(self) -> Tensor:
        """uint8 RGB (3, H, W): the image with masks, boxes, names and scores."""
        from vovnet.engine.drawing import draw_detections

        return draw_detections(self.image(), self, self.class_names)

    def draw(self, path: str | Path | None = None) -> Image:
        """The image with masks, boxes, names and scores; saved at `path` (JPEG quality 92) if one is given."""
        drawn = to_pil_image(self.draw_pixels())
        if path is not None:
            if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
                raise ValueError(f"{path} must end in one of {' '.join(IMAGE_SUFFIXES)}")
            with replacing(path) as temporary:
                drawn.save(temporary, quality=92)
        return drawn

    def to_coco(self, image_id: int | str | None = None, *, contours: bool = False) -> list[dict[str, Any]]:
        """COCO results: one {image_id, category_id, bbox: [x, y, width, height], score} a detection.

        Where there are masks, also segmentation: COCO's compressed run-length code, with `contours` polygons. Without
        an `image_id` the name of the file gives it, see `make_image_id`.
        """
        from vovnet.metrics.coco import to_coco_results

        if image_id is None:
            image_id = make_image_id(self.stem, self.frame)
        return to_coco_results([self], [image_id], self.category_ids, contours=contours)


def make_image_id(stem: str, frame: int | None = None) -> int | str:
    """A file's name, as a number where it is one (COCO's "000000000139" → 139); stem_frame for a frame of a video."""
    if frame is not None:
        return f"{stem}_{frame:06d}"
    return int(stem) if stem.isdecimal() else stem


@dataclass(frozen=True)
class Failure:
    """A source that could not be read, or a video that broke off, and why."""

    source: str
    error: ValueError | OSError

    @property
    def reason(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class _Input:
    """An image on its way to the network: `resized` is uint8 RGB (3, *preprocessing.input_size)."""

    source: str
    frame: int | None
    resized: Tensor
    image_size: tuple[int, int]
    pixels: Tensor | None


class Detector:
    """A trained model with the names of its classes.

    class_names, category_ids: in label order; the ids are those of the data set that the model learned from.
    metadata: what the checkpoint says about itself.

    The model is moved to `device`, to channels_last, and set to evaluation mode.
    """

    def __init__(
        self,
        model: DetectionModel,
        class_names: Sequence[str],
        category_ids: Sequence[int],
        metadata: Mapping[str, Any] | None = None,
        *,
        device: str | torch.device = "cpu",
    ) -> None:
        if len(class_names) != len(category_ids):
            raise ValueError(
                f"expected one category id a class, got {len(category_ids)} for {len(class_names)} classes"
            )
        self.device = choose_device(str(device))
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.class_names = tuple(class_names)
        self.category_ids = tuple(category_ids)
        self.metadata = dict(metadata or {})

    @overload
    def predict(
        self, source: list[ImageLike] | tuple[ImageLike, ...], **options: Unpack[Options]
    ) -> list[Prediction]: ...
    @overload
    def predict(self, source: ImageLike, **options: Unpack[Options]) -> Prediction: ...
    def predict(
        self,
        source: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        *,
        score_threshold: float = 0.3,
        top_k: int = 100,
        classes: str | int | Sequence[str | int] | None = None,
        batch_size: int = 8,
    ) -> Prediction | list[Prediction]:
        """One image → one prediction; a list of images, folders and patterns → a list of predictions.

        An image is a path, an http(s) address, a NumPy array, a PIL image or a uint8 RGB tensor (3, H, W).
        Detections that score below `score_threshold` are left out; of those of `classes` (names or labels; None: all)
        the best `top_k` are kept.

        Raises ValueError or OSError at the first image that cannot be read (`stream` goes on instead).
        """
        several = isinstance(source, list | tuple)
        inputs = _expand(source)
        if isinstance(source, str | Path) and inputs != [str(source)]:
            raise ValueError(
                f"{source} may hold several images: pass a list, predict([{str(source)!r}]), to get a list"
            )
        if videos := [given for given in inputs if isinstance(given, str) and is_video(given)]:
            raise ValueError(
                f"{videos[0]} is a video: use predict_video or stream, which give one frame after the other"
            )
        predictions = []
        for result in self.stream(
            inputs, score_threshold=score_threshold, top_k=top_k, classes=classes, batch_size=batch_size
        ):
            if isinstance(result, Failure):
                raise result.error
            predictions.append(result)
        return predictions if several else predictions[0]

    def predict_video(
        self, path: str | Path, output_path: str | Path | None = None, **options: Unpack[Options]
    ) -> Iterator[Prediction]:
        """One prediction a frame, while the video is read; the drawn video at `output_path` if one is given.

        The work happens as the predictions are taken, and the drawn video appears when the last one was.
        `options` are those of `predict`. Raises ValueError or FileNotFoundError for a video that cannot be read.
        """
        if output_path is not None and Path(output_path).resolve() == Path(path).resolve():
            raise ValueError(f"the drawn video would replace its source {path}; choose another output_path")
        with ExitStack() as stack:
            writer = None
            if output_path is not None:
                writer = stack.enter_context(VideoWriter(output_path, video_info(path).fps))
            for result in self.stream(path, **options):
                if isinstance(result, Failure):
                    raise result.error
                if writer is not None:
                    writer.write(result.draw_pixels())
                yield result

    def stream(
        self,
        sources: ImageLike | Sequence[ImageLike],
        *,
        score_threshold: float = 0.3,
        top_k: int = 100,
        classes: str | int | Sequence[str | int] | None = None,
        batch_size: int = 8,
    ) -> Iterator[Prediction | Failure]:
        """One result an image, and one a frame of a video, in order; what cannot be read gives a `Failure`.

        Arguments as for `predict`. A thread reads up to `batch_size` images ahead of the network. A path that does not
        exist, a wrong class name and a wrong number are errors at once, before the first image.
        """
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must lie in 0…1, got {score_threshold}")
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k and batch_size must be at least 1, got {top_k} and {batch_size}")
        inputs = _expand(sources)
        labels = None if classes is None else torch.tensor(self._labels(classes))
        return self._stream(inputs, score_threshold, top_k, labels, batch_size)

    def _stream(
        self, inputs: list[Any], score_threshold: float, top_k: int, labels: Tensor | None, batch_size: int
    ) -> Iterator[Prediction | Failure]:
        # The network's own top_k counts all classes, so a filter by class has to come before it.
        limit = top_k if labels is None else sys.maxsize
        with closing(_ahead(self._read(inputs), batch_size)) as items:
            while group := list(islice(items, batch_size)):
                images = [item for item in group if isinstance(item, _Input)]
                found = iter(self._detect(images, score_threshold, limit) if images else [])
                for item in group:
                    if isinstance(item, Failure):
                        yield item
                        continue
                    detections = next(found)
                    keep = torch.arange(len(detections))
                    if labels is not None:
                        keep = keep[torch.isin(detections.labels, labels)][:top_k]
                    kept = detections[keep]  # also a copy, so that no tensor of inference mode reaches the caller
                    yield Prediction(
                        kept.boxes,
                        kept.labels,
                        kept.scores,
                        kept.image_size,
                        kept.masks,
                        class_names=self.class_names,
                        category_ids=self.category_ids,
                        source=item.source,
                        frame=item.frame,
                        pixels=item.pixels,
                    )

    def _read(self, inputs: list[Any]) -> Iterator[_Input | Failure]:
        for index, given in enumerate(inputs):
            source = given if isinstance(given, str) else str(index)
            try:
                if not isinstance(given, str):
                    yield self._input(source, to_image_tensor(given))
                elif is_url(given):
                    yield self._input(source, _fetch(given))
                elif is_video(given):
                    for frame, pixels in enumerate(read_frames(given)):
                        yield self._input(source, pixels, frame=frame)
                else:
                    yield self._input(source, read_image(Path(given)), keep=False)
            except (ValueError, OSError) as error:
                yield Failure(source, error)

    def _input(self, source: str, pixels: Tensor, *, frame: int | None = None, keep: bool = True) -> _Input:
        height, width = pixels.shape[1:]
        if height == 0 or width == 0:
            raise ValueError(f"image {source} has no pixels: its size is {(height, width)}")
        resized = self.model.preprocessing.resize(pixels)
        return _Input(source, frame, resized, (height, width), pixels if keep else None)

    @torch.inference_mode()
    def prepare(self, images: Sequence[Tensor]) -> Tensor:
        """uint8 RGB images (3, H, W) of any sizes → a batch (N, 3, *preprocessing.input_size) on the device.

        An image that already has the network's size is not resized again. A detector that keeps the ratio of an image's
        sides takes only images of one input size at once; ValueError for others.
        """
        preprocessing = self.model.preprocessing
        resized = [preprocessing.resize(image) for image in images]
        if len(sizes := {image.shape[1:] for image in resized}) > 1:
            came = ", ".join(f"{height}×{width}" for height, width in sorted(sizes))
            raise ValueError(
                f"images of one batch must come to one input size, got {came}: prepare them one by one, or use predict"
            )
        return preprocessing.normalize(torch.stack(resized).to(self.device))

    @torch.inference_mode()
    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        """The network alone, on a batch from `prepare`."""
        return self.model(batch)

    @torch.inference_mode()
    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.3,
        top_k: int = 100,
    ) -> list[Detections]:
        """What `forward` gave → detections on the CPU, in pixels of the original images of (height, width)."""
        found = self.model.decode(outputs, image_sizes, score_threshold=score_threshold, top_k=top_k)
        return [detections.cpu() for detections in found]

    def _detect(self, images: list[_Input], score_threshold: float, top_k: int) -> list[Detections]:
        def detect_batch(resized: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
            outputs = self.forward(self.prepare(resized))
            return self.decode(outputs, sizes, score_threshold=score_threshold, top_k=top_k)

        try:
            return detect_images(
                [image.resized for image in images], [image.image_size for image in images], detect_batch
            )
        except torch.OutOfMemoryError:
            raise MemoryError(
                f"{self.device} has too little memory for {len(images)} images; lower batch_size"
            ) from None

    def _labels(self, classes: str | int | Sequence[str | int]) -> list[int]:
        wanted = [classes] if isinstance(classes, str | int) else list(classes)
        if not wanted:
            raise ValueError(f"classes must name at least one of {', '.join(self.class_names)}")
        labels = []
        for given in wanted:
            if isinstance(given, str) and given not in self.class_names:
                known = {name.lower(): name for name in self.class_names}
                nearest = known[difflib.get_close_matches(given.lower(), known, n=1, cutoff=0)[0]]
                raise ValueError(f"no class {given!r}; nearest is {nearest!r} of {', '.join(self.class_names)}")
            if not isinstance(given, str) and not 0 <= given < len(self.class_names):
                raise ValueError(f"labels of classes go from 0 to {len(self.class_names) - 1}, got {given}")
            labels.append(self.class_names.index(given) if isinstance(given, str) else given)
        return labels


def _expand(sources: ImageLike | Sequence[ImageLike]) -> list[Any]:
    """Names become paths and addresses; images in memory stay as they are."""
    given = sources if isinstance(sources, list | tuple) else [sources]
    return [one for item in given for one in (expand_sources([item]) if isinstance(item, str | Path) else [item])]


def _fetch(url: str) -> Tensor:
    content = download(url)
    try:
        return read_image(content)
    except ValueError as error:
        raise ValueError(f"{url} did not send an image that can be read ({error})") from None


def _ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items in order, made by a thread that is at most `depth` of them ahead."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        try:
            waiting = deque(pool.submit(next, items, end) for _ in range(depth))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(pool.submit(next, items, end))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
