"""Opens a dataset in whichever format its folder has."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from vovnet.data import coco, mask_png, voc, yolo
from vovnet.data.dataset import (
    DetectionDataset,
    ImageAnnotation,
    ObjectAnnotation,
    Sample,
    SplitAnnotations,
    is_valid_box,
    raise_problem,
    size_text,
)
from vovnet.data.images import annotated_orientation
from vovnet.data.orientation import turn_box, turn_masks
from vovnet.data.split_file import Selection, is_split_file, read_split_file
from vovnet.errors import UsageError, counted, did_you_mean, listed
from vovnet.limits import check_limit
from vovnet.masks import RleMasks, find_polygons, from_coco
from vovnet.media.pixels import image_header_size
from vovnet.polygons import Polygons
from vovnet.printing import line, quoted

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger("vovnet")
_MAX_NEIGHBOURS = 50  # folders looked at for a hint
_MOST_NAMES = 10  # of splits that a message lists
_VALIDATION_NAMES = ("val", "valid", "validation", "dev")
# The first function that recognises a folder says which module reads it.
_CERTAIN_FORMATS: tuple[tuple[Callable[[Path], bool], ModuleType], ...] = (
    (voc.recognises, voc),
    (coco.recognises, coco),
    (yolo.recognises, yolo),
    (mask_png.recognises, mask_png),
)
_FORMATS = (
    *_CERTAIN_FORMATS,
    (yolo.recognises_yaml, yolo),
    (voc.recognises_layout, voc),
    (yolo.recognises_settings, yolo),
)
_FORMATS_WITH_MASKS = (coco, mask_png)


def open_dataset(
    root: str | Path, split: str | None = None, *, class_names: Sequence[str] | None = None, masks: bool = False
) -> DetectionDataset:
    """One split of a VOC, COCO, YOLO or mask PNG dataset. No image is decoded.

    Boxes stay as annotated, not clipped to the image, but are turned upright with an image that EXIF turns, if they are
    those of the pixels as stored. Boxes without a finite, positive width and height are left out, and one warning
    counts them.

    root: the folder of the dataset, the YAML file that describes a YOLO dataset in its folder, or a split file.
    split: one of `splits(root)`, or "all" for every annotation file of VOC. None takes the only split there is. val,
    valid, validation and dev are names of the same split where a dataset has only one of them.
    class_names: number the classes in this order (that of a checkpoint) instead of the dataset's own; a class that is
    not among them is a ValueError.
    masks: read the masks of the objects too. It needs the extra "eval" and some seconds for 100,000 masks. A format
    without masks is a UsageError; an object without a mask, or with a damaged one, is a ValueError.
    """
    root = Path(root)
    format_module = find_format(root)
    if masks and own_format(format_module) not in _FORMATS_WITH_MASKS:
        name = own_format(format_module).__name__.rpartition(".")[2].upper()
        raise UsageError(
            f"{root} is a dataset in {name} format, which has no masks: give one in COCO format (annotations/*.json) "
            "or with mask PNGs (images/ and masks/), or use a model without masks"
        )
    (annotations,) = format_module.read(root, [_choose_split(root, format_module, split)], raise_problem)
    if not annotations.images:
        raise ValueError(f"{root}: the split {annotations.split} has no images")
    return _to_dataset(annotations, class_names, masks)


def require_objects(dataset: DetectionDataset) -> None:
    """ValueError if no image has an object inside it: a detector would learn nothing, or be compared with nothing."""
    if any((~sample.target.crowd & are_inside(sample)).any() for sample in dataset):  # nothing is learnt from crowds
        return
    where = " inside it" if any((~sample.target.crowd).any() for sample in dataset) else ""
    raise ValueError(
        f"{dataset.root}: no image of the split {dataset.split} has an object{where}: correct "
        "the annotations (`vovnet data check` lists problems) or name another split"
    )


def are_inside(sample: Sample) -> Tensor:
    """Which objects of an image are inside it, at least in part, (M,). All of them if its size cannot be found."""
    boxes = sample.target.boxes

    def fit(size: tuple[int, int]) -> Tensor:
        return ((boxes[:, :2] < boxes.new_tensor(size[::-1])) & (boxes[:, 2:] > 0)).all(dim=1)

    inside = fit(sample.image_size) if sample.image_size else sample.target.crowd.new_ones(len(boxes))
    if sample.image_size and inside.all():
        return inside
    try:  # the size may not be stated, or wrong
        return fit(image_header_size(sample.image_path))
    except (ValueError, OSError):  # is said when the image is needed
        return inside


def splits(root: str | Path) -> tuple[str, ...]:
    """Names of the splits of the dataset in a folder."""
    root = Path(root)
    return find_format(root).splits(root)


def data_folder(root: Path) -> Path:
    """The folder of a dataset that is given by its folder, by the file that describes it or by a split file."""
    if is_split_file(root):
        return data_folder(read_split_file(root).root)
    return root.parent if root.is_file() else root


def own_format(format_module: ModuleType | Selection) -> ModuleType:
    """The module that reads the annotations: that of the dataset itself where a split file selects from it."""
    return format_module.module if isinstance(format_module, Selection) else format_module


def find_format(root: Path) -> ModuleType | Selection:
    """What reads the format of a folder, of the dataset that a YAML file describes, or of a split file."""
    if is_split_file(root):
        file = read_split_file(root)
        return Selection(file, own_format(find_format(file.root)))
    if root.is_file():
        if yolo.is_settings_file(root):
            return yolo
        raise ValueError(
            f"{root} is a file: give the folder of the dataset, the YAML file of a YOLO dataset, or a split file"
        )
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {root} does not exist")
    for recognises, module in _FORMATS:
        if recognises(root):
            return module
    reason = "it is empty" if not any(root.iterdir()) else "none of these exists"
    raise ValueError(
        f"{root} is not a known dataset: looked for Annotations/*.xml or *.xml beside the images (VOC), "
        "annotations/*.json or */_annotations.coco.json (COCO), data.yaml or another YAML file with names and train, "
        f"or classes.txt (YOLO), and images/ with masks/*.png (mask PNGs), but {reason}{_hint_at_neighbours(root)}"
    )


def _hint_at_neighbours(root: Path) -> str:
    """The dataset above, or the datasets one or two folders below, of which one may be meant."""
    groups = ([root.resolve().parent], *(islice(root.glob(pattern), _MAX_NEIGHBOURS) for pattern in ("*", "*/*")))
    for group in groups:
        datasets = sorted(str(path) for path in group if _is_dataset(path))
        if datasets:
            is_or_are = "is a dataset" if len(datasets) == 1 else "are datasets"
            return f"; {', '.join(datasets[:5])} {is_or_are}: give that folder"
    return ""


def _is_dataset(path: Path) -> bool:
    return path.is_dir() and any(recognises(path) for recognises, _ in _CERTAIN_FORMATS)


def _choose_split(root: Path, format_module: ModuleType | Selection, split: str | None) -> str:
    names = format_module.splits(root)
    if split is None and len(names) == 1:
        return names[0]
    if split is None:
        raise UsageError(f"{root} has the splits {listed(names, _MOST_NAMES)}: name one of them")
    if split in names or (format_module in (voc, yolo) and format_module.has_split(root, split)):
        return split
    same = [name for name in names if name in _VALIDATION_NAMES]
    if split in _VALIDATION_NAMES and len(same) == 1:
        return same[0]
    hint = did_you_mean(split, names)
    raise UsageError(f"{root} has no split {quoted(split)}{hint} (there are: {listed(names, _MOST_NAMES)})")


def _to_dataset(annotations: SplitAnnotations, class_names: Sequence[str] | None, masks: bool) -> DetectionDataset:
    names = annotations.class_names if class_names is None else tuple(class_names)
    labels = {name: label for label, name in enumerate(names)}
    mended: list[str] = []
    samples = tuple(_to_sample(image, labels, masks, mended) for image in annotations.images)
    ids = dict(zip(annotations.class_names, annotations.category_ids, strict=True))
    unused_ids = itertools.count(max(annotations.category_ids, default=0) + 1)
    category_ids = tuple(ids[name] if name in ids else next(unused_ids) for name in names)
    invalid = [
        line(image.image_path.name) for image in annotations.images for o in image.objects if not is_valid_box(o.box)
    ]
    if invalid:
        _LOG.warning(
            "%s, split %s: left out %s without a finite, positive size (the first in %s); "
            "`vovnet data check` lists all",
            annotations.root, annotations.split, counted(len(invalid), "box", "boxes"), invalid[0],
        )  # fmt: skip
    if mended:
        _LOG.warning(
            "%s, split %s: masks from which something that is no polygon was left out: %d (the first in %s); "
            "`vovnet data check` lists them",
            annotations.root, annotations.split, len(mended), mended[0],
        )  # fmt: skip
    return DetectionDataset(
        annotations.root, annotations.format, annotations.split, names, category_ids=category_ids, samples=samples
    )


def _to_sample(image: ImageAnnotation, labels: dict[str, int], masks: bool, mended: list[str]) -> Sample:
    """The image with its objects in pixels of the upright image, even where the annotation means the stored one.

    mended: gets the name of the image for each mask that also holds something that is no polygon.
    """
    orientation = annotated_orientation(image.image_path, image.image_size)
    size = image.image_size[::-1] if image.image_size and orientation != 1 else image.image_size
    objects = _valid_objects(image, labels)
    codes = _to_masks(image, objects, mended) if masks else None
    from vovnet.structures import Target  # imports PyTorch, which the check of a dataset does not need

    target = Target.make(
        [turn_box(obj.box, image.image_size, orientation) if image.image_size else obj.box for obj in objects],
        [labels[obj.class_name] for obj in objects],
        difficult=[obj.difficult for obj in objects],
        crowd=[obj.crowd for obj in objects],
        area=[_area(obj) for obj in objects],
        masks=turn_masks(codes, orientation) if codes is not None and orientation != 1 else codes,
    )
    return Sample(image.image_path, image.image_id, target, size)


def _valid_objects(image: ImageAnnotation, labels: dict[str, int]) -> list[ObjectAnnotation]:
    objects = [obj for obj in image.objects if is_valid_box(obj.box)]
    for obj in objects:
        if obj.class_name not in labels:
            hint = did_you_mean(obj.class_name, labels)
            raise ValueError(
                f"{image.annotation_path}: unknown class {quoted(obj.class_name, 40)} in "
                f"{line(image.image_path.name, 40)}{hint} "
                f"(expected one of {len(labels)}): correct the annotation or use a model of these classes"
            )
    return objects


def _to_masks(image: ImageAnnotation, objects: Sequence[ObjectAnnotation], mended: list[str]) -> RleMasks:
    size = image.image_size or image_header_size(image.image_path)
    what = f"{image.annotation_path} states {size_text(size)} pixels for {line(image.image_path.name)}, which"
    check_limit("image_pixels", size[0] * size[1], what, "correct the size, use a model without masks")
    codes, outlines = [], []
    for obj in objects:
        try:
            code, polygons, is_mended = _to_code(obj.mask, size)
        except ValueError as error:
            name = f"object {obj.index + 1} ({line(obj.class_name, 40)} in {line(image.image_path.name)})"
            raise ValueError(
                f"{image.annotation_path}: {name}: {error}; correct it, leave such objects out with "
                "`vovnet data check --fix`, or use a model without masks"
            ) from error
        codes.append(code)
        outlines.append(polygons)
        mended += [line(image.image_path.name)] if is_mended else []
    if not any(outlines):
        return RleMasks(tuple(codes), size)
    boxes = np.array([obj.box for obj in objects]).clip(0, [size[1], size[0]] * 2)
    return RleMasks(tuple(codes), size, Polygons.make(outlines).drawable(boxes))


def _to_code(mask: object, size: tuple[int, int]) -> tuple[bytes, list[list[float]], bool]:
    """The code of a mask, the polygons that it was made of, if any, and whether what is no polygon was left out."""
    if mask is None:
        raise ValueError("it has no mask")
    try:
        return from_coco(mask, size), mask if isinstance(mask, list) else [], False
    except ValueError:
        polygons, others = find_polygons(mask)
        if not polygons or not others:
            raise
    return from_coco(polygons, size), polygons, True


def _area(obj: ObjectAnnotation) -> float:
    """The stated area, or that of the box."""
    x1, y1, x2, y2 = obj.box
    return (x2 - x1) * (y2 - y1) if obj.area is None else obj.area
