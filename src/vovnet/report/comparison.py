"""The same images annotated by several detectors: what each of them finds, misses and gets wrong.

Classes are matched by name: a class that several detectors know has the same colour in all columns.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset
from vovnet.engine.predicting.drawing import draw_detections, draw_target
from vovnet.engine.predicting.predictor import Predictor, Running
from vovnet.engine.predicting.sources import expand_sources, read_source
from vovnet.errors import UsageError, did_you_mean
from vovnet.masks import RleMasks, decode, encode
from vovnet.media.finding import is_video
from vovnet.printing import line
from vovnet.structures import Detections, Target
from vovnet.urls import is_url
from vovnet.weights.find import find_exported, find_weights

if TYPE_CHECKING:
    from PIL.Image import Image

Objects = TypeVar("Objects", Detections, Target)
MOST_IMAGES = 50  # in one figure, which is then about 35,000 pixels high
DEFAULT_IMAGES = 4  # of a dataset
LONG_SIDE = 640  # of an annotated image, in pixels


@dataclass(frozen=True)
class Tally:
    """Number of objects or detections of each class.

    missed: objects that the image marks as "missed"; None without ground truth.
    wrong: detections that the image marks with "?"; None without ground truth.
    """

    classes: Counter[str]
    missed: int | None = None
    wrong: int | None = None

    @property
    def total(self) -> int:
        return self.classes.total()

    def to_dict(self) -> dict[str, Any]:
        return {"found": self.total, "classes": dict(self.classes), "missed": self.missed, "wrong": self.wrong}


@dataclass(frozen=True)
class Annotator:
    """A column of the comparison: a detector, or the ground truth.

    weights: as the user named them; None for the ground truth.
    running: what ran the detector.
    """

    name: str
    weights: str | None
    running: Running | None = None

    @property
    def source(self) -> str:
        """The weights, and what ran them unless that was PyTorch; nothing for the ground truth."""
        exported = self.running is not None and self.running.file is not None
        return f"{self.weights} ({self.running})" if exported else self.weights or ""

    def caption(self, tally: Tally) -> str:
        """For example "18 detections, 1 missed, 2 wrong"."""
        noun = "object" if self.weights is None else "detection"
        counts = [f"{tally.total} {noun}{'' if tally.total == 1 else 's'}"]
        counts += [] if tally.missed is None else [f"{tally.missed} missed"]
        return ", ".join(counts + ([] if tally.wrong is None else [f"{tally.wrong} wrong"]))


@dataclass(frozen=True)
class AnnotatedImage:
    """One image as one annotator sees it."""

    image: Image
    tally: Tally


@dataclass(frozen=True)
class ComparedImage:
    """A row of the comparison: one image by all annotators. source: a path or URL."""

    name: str
    source: str
    annotated: tuple[AnnotatedImage, ...]


@dataclass(frozen=True)
class Comparison:
    annotators: tuple[Annotator, ...]
    images: tuple[ComparedImage, ...]
    score_threshold: float

    def totals(self) -> list[Tally]:
        """For each annotator the sum over all images."""
        return [_sum([image.annotated[index].tally for image in self.images]) for index in range(len(self.annotators))]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, ready for JSON."""
        return {
            "score_threshold": self.score_threshold,
            "columns": [
                {**asdict(annotator), **total.to_dict()}
                for annotator, total in zip(self.annotators, self.totals(), strict=True)
            ],
            "pictures": [
                {"source": image.source, "columns": [annotated.tally.to_dict() for annotated in image.annotated]}
                for image in self.images
            ],
        }


def _sum(tallies: Sequence[Tally]) -> Tally:
    missed = [tally.missed for tally in tallies if tally.missed is not None]
    wrong = [tally.wrong for tally in tallies if tally.wrong is not None]
    classes = sum((tally.classes for tally in tallies), Counter[str]())
    return Tally(classes, sum(missed) if missed else None, sum(wrong) if wrong else None)


@dataclass(frozen=True)
class ImageSource:
    """An image that is not read yet. source: a path or URL. target: its objects, if they are known."""

    source: str
    target: Target | None = None

    def read(self) -> Tensor:
        """The image, uint8 RGB (3, H, W). Raises ValueError or OSError that names the source."""
        return read_source(self.source)


def open_ground_truth(root: Path, split: str | None, *, masks: bool) -> DetectionDataset:
    """A split of a dataset; with `masks`, with masks too if its format has any."""
    dataset = open_dataset(root, split)
    if masks:
        with suppress(UsageError):  # the split exists, so it is the format that has no masks
            dataset = open_dataset(root, split, masks=True)
    return dataset


def choose_images(
    sources: Sequence[str],
    dataset: DetectionDataset | None = None,
    limit: int | None = None,
    *,
    output: Path | None = None,
) -> list[ImageSource]:
    """The images to compare on. Raises UsageError for others than images, or of the dataset, and for more than 50.

    sources: images, folders, patterns and URLs; with a dataset, stems, names or paths of its images, by default its
        first four.
    output: the folder that the comparison is written to, which is never a source.
    """
    if dataset is None:
        if not sources:
            raise UsageError("say which images to compare on: --images SOURCE…, or --data DIR")
        images = [ImageSource(source) for source in expand_sources(sources, output=output)]
        if videos := [image.source for image in images if is_video(image.source)]:
            raise UsageError(f"{videos[0]} is a video; only images can be compared")
    else:
        samples = _find_samples(dataset, sources) if sources else islice(dataset, limit or DEFAULT_IMAGES)
        images = [ImageSource(str(sample.image_path), sample.target) for sample in samples]
    images = images[:limit]
    if len(images) > MOST_IMAGES:
        raise UsageError(f"one figure shows at most {MOST_IMAGES} images, got {len(images)}: set --limit")
    return images


def _find_samples(dataset: DetectionDataset, names: Sequence[str]) -> list[Sample]:
    by_name: dict[str, list[Sample]] = {}
    for sample in dataset:
        path = sample.image_path
        for name in {path.stem, path.name, os.path.realpath(path)}:
            by_name.setdefault(name, []).append(sample)
    chosen = []
    for name in names:
        samples = by_name.get(name) or by_name.get(os.path.realpath(name), [])
        if not samples:
            hint = did_you_mean(name, by_name)
            raise UsageError(f"{line(name, 300)} is not an image of {dataset.root}, split {dataset.split}{hint}")
        chosen += samples
    return chosen


def image_names(sources: Sequence[str]) -> list[str]:
    """The file names; the whole source where two files have the same name."""
    return _shorten(sources, lambda source: Path(urlsplit(source).path if is_url(source) else source).name)


def detector_names(weights: Sequence[str], names: Sequence[str] | None = None) -> list[str]:
    """`names` if given, else the names of the files, or of the folders that hold best.safetensors.

    Raises UsageError for weights given twice, even by two paths to the same file, and for names that are not one for
    each detector, all different; FileNotFoundError for weights that do not exist.
    """
    if not weights:
        raise UsageError("say which detectors to compare: shipped names, files, folders of runs, or URLs")
    seen: dict[Path, str] = {}
    for argument in weights:
        path = (find_exported(argument) or find_weights(argument)).resolve()
        if path in seen:
            same = "is given twice" if seen[path] == argument else f"and {seen[path]} are the same weights"
            raise UsageError(f"{argument} {same}: name each detector once")
        seen[path] = argument
    if names is None:
        return _shorten(weights, _name_of_weights)
    if len(names) != len(weights):
        raise UsageError(
            f"--names needs one name for each detector, got {len(names)} names for {len(weights)} detectors"
        )
    if repeated := [name for name in names if list(names).count(name) > 1]:
        raise UsageError(f"--names must all be different, got {repeated[0]!r} twice")
    return list(names)


def _name_of_weights(weights: str) -> str:
    path = Path(urlsplit(weights).path if is_url(weights) else weights)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        return path.name
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem


def _shorten(names: Sequence[str], shorten: Callable[[str], str]) -> list[str]:
    """Short names where they are not empty and differ from all others."""
    short = [shorten(name) for name in names]
    return [brief if brief and short.count(brief) == 1 else name for brief, name in zip(short, names, strict=True)]


@dataclass(frozen=True)
class Drawer:
    """Annotates images as each annotator sees them.

    detectors: those whose classes are the ground truth's, in any order, get their errors marked.
    truth_names: classes of the ground truth, which is then the first annotator.
    """

    detectors: Sequence[Predictor]
    truth_names: Sequence[str] | None = None
    score_threshold: float = 0.6
    top_k: int = 100

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those of all annotators; the position of a name chooses its colour."""
        lists = [self.truth_names or (), *(detector.class_names for detector in self.detectors)]
        return tuple(dict.fromkeys(chain(*lists)))

    def marks_errors(self, detector: Predictor) -> bool:
        return self.truth_names is not None and set(detector.class_names) == set(self.truth_names)

    def draw(self, image: Tensor, target: Target | None = None) -> tuple[AnnotatedImage, ...]:
        """image: uint8 RGB (3, H, W). target: its objects, required if there is ground truth."""
        # A small image is enlarged first, so that lines and text come out sharp; by a whole number, which keeps the
        # IoUs of boxes and masks.
        factor = -(-LONG_SIDE // max(image.shape[1:]))
        size = [side * factor for side in image.shape[1:]]
        canvas = F.resize(image, size, interpolation=F.InterpolationMode.BICUBIC)
        annotated = []
        if self.truth_names is not None:
            if target is None:
                raise ValueError("expected the objects of the image for the column of ground truth, got None")
            target = _enlarge(target, factor)
            names = [self.class_names[label] for label in target.labels.tolist()]
            annotated.append(AnnotatedImage(_fit(draw_target(canvas, target, self.class_names)), Tally(Counter(names))))
        for detector in self.detectors:
            detections = _enlarge(self._detect(detector, image), factor)
            truth = target if self.marks_errors(detector) else None
            drawn = draw_detections(canvas, detections, self.class_names, target=truth)
            names = [self.class_names[label] for label in detections.labels.tolist()]
            errors = (None, None) if truth is None else _count_errors(detections, truth)
            annotated.append(AnnotatedImage(_fit(drawn), Tally(Counter(names), *errors)))
        return tuple(annotated)

    def _detect(self, detector: Predictor, image: Tensor) -> Detections:
        """With the labels of `class_names`."""
        found = detector.predict(image, score_threshold=self.score_threshold, top_k=self.top_k)
        label_here = torch.tensor([self.class_names.index(name) for name in detector.class_names])
        return Detections(found.boxes, label_here[found.labels], found.scores, found.image_size, found.masks)


def _count_errors(detections: Detections, target: Target) -> tuple[int, int]:
    """How often `draw_detections` writes "missed" and "?"."""
    from vovnet.metrics.confusion import image_errors

    missed, false_positives, confused = image_errors([detections], [target], score_threshold=0)[0].tolist()
    return missed + confused, false_positives + confused


def _enlarge(objects: Objects, factor: int) -> Objects:
    masks = objects.masks
    if isinstance(masks, RleMasks) and factor > 1:
        masks = encode(decode(masks).repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2))
    return replace(objects, boxes=objects.boxes * factor, masks=masks)


def _fit(drawn: Tensor) -> Image:
    """The image with its longer side at `LONG_SIDE` pixels."""
    height, width = drawn.shape[1:]
    scale = LONG_SIDE / max(height, width)
    image: Image = F.to_pil_image(drawn)
    return image.resize((max(1, round(width * scale)), max(1, round(height * scale))), reducing_gap=3.0)
