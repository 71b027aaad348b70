"""Makes the `DetectionDataset` that training and evaluation see of what a format's module has read."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import numpy as np

from vovnet.data.dataset import (
    DetectionDataset,
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    Sample,
    SplitAnnotations,
    is_valid_box,
    size_text,
)
from vovnet.data.images import annotated_orientation
from vovnet.data.orientation import turn_box, turn_masks
from vovnet.data.samples import MadeSamples
from vovnet.errors import counted, did_you_mean
from vovnet.limits import check_limit
from vovnet.masks import RleMasks, find_polygons, from_coco
from vovnet.media.pixels import image_header_size
from vovnet.polygons import Polygons
from vovnet.printing import line, quoted

_LOG = logging.getLogger("vovnet")


def to_dataset(annotations: SplitAnnotations, class_names: Sequence[str] | None, masks: bool) -> DetectionDataset:
    names = annotations.class_names if class_names is None else tuple(class_names)
    labels = {name: label for label, name in enumerate(names)}
    mended: list[str] = []
    invalid: list[str] = []
    orientations = bytearray()
    codes: list[RleMasks] = []
    for image in annotations.images:
        orientation = 1 if image.orientation else annotated_orientation(image.image_path, image.image_size)
        orientations.append(orientation)
        objects = _valid_objects(image, labels)
        invalid += [line(image.image_path.name)] * (len(image.objects) - len(objects))
        if masks:
            of_image = _to_masks(image, objects, mended)
            codes.append(turn_masks(of_image, orientation) if orientation != 1 else of_image)
    samples = _Samples(annotations.images, bytes(orientations), labels, codes if masks else None)
    ids = dict(zip(annotations.class_names, annotations.category_ids, strict=True))
    unused_ids = itertools.count(max(annotations.category_ids, default=0) + 1)
    category_ids = tuple(ids[name] if name in ids else next(unused_ids) for name in names)
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


class _Samples(MadeSamples):
    """Those of annotated images: the tensors of 100,000 would take 300 MB.

    orientations: by EXIF, of the images that are annotated as stored, 1 for the others.
    labels: class name → label.
    masks: those of each image, upright; None without masks.
    """

    def __init__(
        self, images: ImageTable, orientations: bytes, labels: dict[str, int], masks: list[RleMasks] | None
    ) -> None:
        self._images, self._orientations, self._labels, self._masks = images, orientations, labels, masks

    def __len__(self) -> int:
        return len(self._images)

    def make(self, position: int) -> Sample:
        masks = None if self._masks is None else self._masks[position]
        return _to_sample(self._images[position], self._labels, self._orientations[position], masks)


def _to_sample(image: ImageAnnotation, labels: dict[str, int], orientation: int, masks: RleMasks | None) -> Sample:
    """The image with its objects in pixels of the upright image, even where the annotation means the stored one."""
    size = image.image_size[::-1] if image.image_size and orientation != 1 else image.image_size
    objects = _valid_objects(image, labels)
    from vovnet.structures import Target  # imports PyTorch, which the check of a dataset does not need

    target = Target.make(
        [turn_box(obj.box, image.image_size, orientation) if image.image_size else obj.box for obj in objects],
        [labels[obj.class_name] for obj in objects],
        difficult=[obj.difficult for obj in objects],
        crowd=[obj.crowd for obj in objects],
        area=[_area(obj) for obj in objects],
        masks=masks,
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
