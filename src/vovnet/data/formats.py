"""Opens a data set in whatever format its folder is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from vovnet.data import coco, mask_png, voc, yolo
from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.images import MAX_PIXELS, image_header_size
from vovnet.data.raw import RawImage, RawObject, RawSplit, is_proper
from vovnet.errors import UsageError
from vovnet.masks import RleMasks, from_coco
from vovnet.structures import Target

_LOG = logging.getLogger("vovnet")
_FORMATS: tuple[ModuleType, ...] = (voc, coco, yolo, mask_png)
_WITH_MASKS = (coco, mask_png)


def open_dataset(
    root: str | Path,
    split: str | None = None,
    *,
    class_names: Sequence[str] | None = None,
    masks: bool = False,
) -> DetectionDataset:
    """One split of the VOC, COCO, YOLO or mask PNG data set in a folder; no image is decoded.

    split: one of `splits(root)`, or of VOC "all", every annotation file. None takes the only one there is.
    class_names: number the classes by these (a checkpoint's) instead of by the data's own; a class that is not among
    them is an error.
    masks: read the objects' masks too, which takes some seconds for 100,000 of them and the extra "eval". A format
    without masks is a UsageError; an object without a mask, or with a damaged one, a ValueError.

    Boxes stay as annotated, not clipped to the image. Those without a finite, positive width and height are left out,
    and one warning counts them.
    """
    root = Path(root)
    module = recognise(root)
    if masks and module not in _WITH_MASKS:
        form = module.__name__.rpartition(".")[2].upper()
        raise UsageError(
            f"{root} is a data set in {form} form, which has no masks: give one in COCO form (annotations/*.json) or "
            "with mask PNGs (images/ and masks/), or use a model without masks"
        )
    (raw,) = module.read(root, [_choose_split(root, module, split)])
    if not raw.images:
        raise ValueError(f"{root}: the split {raw.split} has no images")
    return _to_dataset(raw, class_names, masks)


def splits(root: str | Path) -> tuple[str, ...]:
    """The splits of the data set in a folder."""
    root = Path(root)
    return recognise(root).splits(root)


def recognise(root: Path) -> ModuleType:
    """The module that reads the format of a folder."""
    if not root.is_dir():
        raise FileNotFoundError(f"the data folder {root} does not exist")
    for module in _FORMATS:
        if module.recognises(root):
            return module
    found = "it is empty" if not any(root.iterdir()) else "none is there"
    raise ValueError(
        f"{root} is no known data set: looked for Annotations/*.xml (VOC), annotations/*.json or "
        f"*/_annotations.coco.json (COCO), data.yaml (YOLO), and images/ with masks/*.png (mask PNGs), but {found}"
    )


def _choose_split(root: Path, module: ModuleType, split: str | None) -> str:
    known = module.splits(root)
    if split is None and len(known) == 1:
        return known[0]
    if split is None:
        raise UsageError(f"{root} has the splits {', '.join(known)}: say which one")
    if split in known or (module is voc and (split == voc.ALL or voc.list_path(root, split).is_file())):
        return split
    nearest = get_close_matches(split, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UsageError(f"{root} has no split {split!r}: {hint}it has {', '.join(known)}")


def _to_dataset(raw: RawSplit, class_names: Sequence[str] | None, masks: bool) -> DetectionDataset:
    names = raw.class_names if class_names is None else tuple(class_names)
    labels = {name: label for label, name in enumerate(names)}
    samples = tuple(
        Sample(image.image_path, image.image_id, _to_target(image, labels, masks), image.image_size)
        for image in raw.images
    )
    dropped = [image.image_path.name for image in raw.images for obj in image.objects if not is_proper(obj.box)]
    if dropped:
        _LOG.warning(
            "%s, split %s: left out %d boxes without a finite, positive size (the first in %s); "
            "`vovnet data check` lists them",
            raw.root, raw.split, len(dropped), dropped[0],
        )  # fmt: skip
    return DetectionDataset(raw.root, raw.format, raw.split, names, _category_ids(raw, names), samples)


def _to_target(image: RawImage, labels: dict[str, int], masks: bool) -> Target:
    kept = [obj for obj in image.objects if is_proper(obj.box)]
    for obj in kept:
        if obj.class_name not in labels:
            nearest = get_close_matches(obj.class_name, labels, n=1, cutoff=0)
            hint = f" (nearest: {nearest[0]!r})" if nearest else ""
            raise ValueError(
                f"{image.annotation_path}: unknown class {obj.class_name!r} in {image.image_path.name}, "
                f"expected one of {len(labels)}{hint}: correct the annotation or use a model of these classes"
            )
    return Target.make(
        [obj.box for obj in kept],
        [labels[obj.class_name] for obj in kept],
        [obj.difficult for obj in kept],
        [obj.crowd for obj in kept],
        [_covered(obj) for obj in kept],
        _to_masks(image, kept) if masks else None,
    )


def _to_masks(image: RawImage, objects: Sequence[RawObject]) -> RleMasks:
    size = image.image_size or image_header_size(image.image_path)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{image.annotation_path} states {size[1]} × {size[0]} pixels for {image.image_path.name}, more than "
            f"{MAX_PIXELS:,}: correct it, or use a model without masks"
        )
    codes = []
    for obj in objects:
        try:
            if obj.mask is None:
                raise ValueError("it has no mask")
            codes.append(from_coco(obj.mask, size))
        except ValueError as error:
            place = f"object {obj.index + 1} ({obj.class_name} in {image.image_path.name})"
            raise ValueError(
                f"{image.annotation_path}: {place}: {error}; "
                "correct it, let `vovnet data check --fix` leave such objects out, or use a model without masks"
            ) from error
    return RleMasks(tuple(codes), size)


def _covered(obj: RawObject) -> float:
    x1, y1, x2, y2 = obj.box
    return (x2 - x1) * (y2 - y1) if obj.area is None else obj.area


def _category_ids(raw: RawSplit, names: tuple[str, ...]) -> tuple[int, ...]:
    """The format's ids of the names; a name that the data lacks gets a free one."""
    known = dict(zip(raw.class_names, raw.category_ids, strict=True))
    free = iter(range(max(raw.category_ids, default=0) + 1, max(raw.category_ids, default=0) + 1 + len(names)))
    return tuple(known[name] if name in known else next(free) for name in names)
