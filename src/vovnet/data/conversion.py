"""Converts a dataset from any format that is read to VOC, COCO or YOLO, in a new folder."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vovnet.data.checking.cleaned_copy import require_new_folder
from vovnet.data.checking.image_scan import Scans, scan_splits
from vovnet.data.conversion_files import FORMATS, Classes, PlacedImages, image_folder, write_annotations
from vovnet.data.conversion_names import FileNames
from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    ObjectAnnotation,
    SplitAnnotations,
    count_images,
    is_valid_box,
    raise_problem,
)
from vovnet.data.formats import data_folder, find_format
from vovnet.data.keys import KeySet, are_repeated, keys_of, text_key
from vovnet.data.orientation import turn_box, turn_masks
from vovnet.data.splits.split_roles import find_role, find_unions
from vovnet.errors import UsageError, counted, did_you_mean, listed, unknown_name
from vovnet.files import new_folder
from vovnet.masks import RleMasks, from_coco
from vovnet.media.orientation import means_stored_pixels
from vovnet.printing import line, quoted

_ROUNDING = 0.02  # pixels that a box may change when it is written as text

NO_BOX = "boxes left out, without a finite, positive size"
SIZE = "images whose annotation states another size, with their boxes taken as they are"
MASKS = "masks left out, whose boxes stay"
DIFFICULT_TO_COCO = "difficult objects written with ignore, which are neither trained on nor counted"
DIFFICULT_TO_YOLO = "difficult objects written as any others"
CROWD_TO_VOC = "crowds written as difficult objects"
CROWD_TO_YOLO = "crowds left out"
CLIPPED = "boxes clipped at the edge of their image"
OUTSIDE = "boxes left out, outside their image"
NO_NAME = "classes left out, without objects, as VOC has no list of classes"


@dataclass(frozen=True)
class Conversion:
    """What `convert_dataset` wrote.

    images, objects: split → number of them.
    changed: what the format cannot hold as it was → how often that occurred.
    renamed: path in the data folder → name of the image file in the copy, where the two names differ.
    unions: splits that join others, which are not written.
    empty: splits without images, which are not written either.
    files: number of image files, which may be in several splits.
    linked: number of them that are hard links.
    """

    out: Path
    format: str
    images: Mapping[str, int]
    objects: Mapping[str, int]
    changed: Mapping[str, int]
    renamed: Mapping[str, str]
    unions: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    files: int = 0
    linked: int = 0


def convert_dataset(
    root: str | Path,
    target: str,
    out: str | Path,
    *,
    splits: Sequence[str] = (),
    link: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Writes the dataset to the new folder `out`, which appears when it is complete and has been read back.

    Boxes are those of the upright image. Images are copied byte for byte. What the format cannot hold is counted.

    target: "coco", "voc" or "yolo".
    splits: those to write; by default all but unions of others, such as trainval.
    link: make hard links to the images where the file system can, in place of copies.
    workers: threads that read the headers of images. progress: is called with (images done, all images).
    """
    root, out = Path(root), Path(out)
    if target not in FORMATS:
        raise unknown_name("format that is written", target, FORMATS)
    require_new_folder(out, data_folder(root))
    read, unions = _read(root, splits)
    empty = tuple(split.split for split in read if not split.images)
    names = _split_names([split.split for split in read], target, root)
    folder = read[0].root
    count = count_images(read)
    if not count:
        raise ValueError(f"{root}: the splits {listed([split.split for split in read])} have no images")
    total = 2 * count
    scans = _read_headers(read, workers, lambda done: progress(done, total) if progress else None)
    converter = _Converter(target, scans, read)
    converted = {
        names[split.split]: split.images.changed(converter.convert) for split in read if split.split not in empty
    }
    if target == "voc":
        _refuse_two_annotations(converted, root)
    file_names = FileNames((path for split in read for path in split.images.paths()), folder)
    placed = {split: PlacedImages(images, scans, file_names) for split, images in converted.items()}
    classes = _classes(read)
    used = {name for images in converted.values() for of_image in images.class_names() for name in of_image}
    changed = converter.changed
    if target == "voc" and (unused := len(set(classes.names) - used)):
        changed[NO_NAME] = unused
    with new_folder(out) as copy:
        done = count

        def on_image() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, total), total)

        files, linked = _place_all(placed, copy, target, link=link, on_image=on_image)
        write_annotations(target, placed, classes, copy)
        _read_back(copy, placed)
    return Conversion(
        out, target, {split: len(images) for split, images in converted.items()},
        {split: sum(images.object_counts()) for split, images in converted.items()},
        changed={what: count for what, count in changed.items() if count},
        renamed=file_names.renamed,
        unions=unions,
        empty=empty,
        files=files,
        linked=linked,
    )  # fmt: skip


def _place_all(
    placed: Mapping[str, PlacedImages], copy: Path, target: str, *, link: bool, on_image: Callable[[], None]
) -> tuple[int, int]:
    """Copies or links the image files; the number of files, and of links among them."""
    files = linked = 0
    for split, images in placed.items():
        folder = copy / image_folder(target, split)
        folder.mkdir(parents=True, exist_ok=True)
        for path, name in zip(images.table.paths(), images.names(), strict=True):
            if not (folder / name).exists():
                files += 1
                linked += _place(Path(path), folder / name, link)
            on_image()
    return files, linked


def _read(root: Path, splits: Sequence[str]) -> tuple[list[SplitAnnotations], tuple[str, ...]]:
    """The splits to write, and the names of the unions that are not among them."""
    reader = find_format(root)
    known = reader.splits(root)
    for name in splits:
        if name not in known and not (name == "all" and "all" in _more_splits(reader, root)):
            raise UsageError(
                f"{root} has no split {quoted(name)}{did_you_mean(name, known)} (there are: {listed(known)})"
            )
    read = list(reader.read(root, tuple(dict.fromkeys(splits)) or known, raise_problem))
    unions = () if splits else tuple(find_unions(read))
    return [split for split in read if split.split not in unions], unions


def _more_splits(reader: object, root: Path) -> tuple[str, ...]:
    has_split = getattr(reader, "has_split", None)
    return ("all",) if has_split and has_split(root, "all") else ()


def _split_names(names: Sequence[str], target: str, root: Path) -> dict[str, str]:
    """The name of each split in the copy. YOLO knows train, val and test only, and a single split is for training."""
    if target != "yolo":
        return {name: name for name in names}
    found: dict[str, str] = {}
    for name in names:
        role = find_role(name)
        part = next(iter(role.parts)) if role and len(role.parts) == 1 else ""
        found[name] = part or ("train" if len(names) == 1 else "")
    clear = Counter(found.values())
    unclear = [name for name, part in found.items() if not part or clear[part] > 1]
    if unclear:
        raise UsageError(
            f"YOLO has the splits train, val and test, and {root} has {listed(names)}: name at most one for each with "
            "--split"
        )
    return found


def _read_headers(splits: Sequence[SplitAnnotations], workers: int | None, progress: Callable[[int], None]) -> Scans:
    """ValueError for an image that cannot be read."""
    scans = scan_splits(splits, workers, lambda done, _: progress(done), headers=True)
    for path, error in scans.errors.items():
        raise ValueError(f"{path} {error}")
    return scans


class _Converter:
    """Makes annotations such as the target can hold, and counts what it changed."""

    def __init__(self, target: str, scans: Scans, splits: Sequence[SplitAnnotations]) -> None:
        self.target, self.scans = target, scans
        self.changed: Counter[str] = Counter()
        keys = np.concatenate([split.images.keys for split in splits])
        is_shared = are_repeated(keys)
        self._shared = KeySet(keys[is_shared]) if is_shared.any() else None  # the images that several splits have
        self._converted: dict[Path, list[tuple[ImageAnnotation, ImageAnnotation]]] = {}  # as annotated, as written

    def convert(self, image: ImageAnnotation) -> ImageAnnotation:
        """The annotation in the upright image. One that several splits have counts once."""
        if self._shared is None or image.image_path not in self._shared:
            return self._convert(image)
        known = self._converted.setdefault(image.image_path, [])
        for stated, converted in known:
            if replace(stated, annotation_path=image.annotation_path) == image:
                return converted
        known.append((image, self._convert(image)))
        return known[-1][1]

    def _convert(self, image: ImageAnnotation) -> ImageAnnotation:
        scan = self.scans[image.image_path]
        size, orientation = scan.image_size, scan.orientation
        stated = image.image_size
        turned = stated is not None and means_stored_pixels(stated, size, orientation)
        self.changed[SIZE] += stated is not None and stated != size and not turned
        objects = []
        for obj in image.objects:
            if not is_valid_box(obj.box):
                self.changed[NO_BOX] += 1
                continue
            if turned and stated is not None:
                obj = replace(
                    obj, box=turn_box(obj.box, stated, orientation), mask=self._turned_mask(obj, stated, orientation)
                )
            if (fitting := self._fit(obj, size)) is not None:
                objects.append(fitting)
        return replace(image, objects=tuple(objects), image_size=size)

    def _turned_mask(self, obj: ObjectAnnotation, stored_size: tuple[int, int], orientation: int) -> object:
        if obj.mask is None or self.target != "coco":
            return obj.mask
        mask = turn_masks(RleMasks((from_coco(obj.mask, stored_size),), stored_size), orientation)
        return {"size": list(mask.size), "counts": mask.counts[0].decode("ascii")}

    def _fit(self, obj: ObjectAnnotation, size: tuple[int, int]) -> ObjectAnnotation | None:
        """The object as the target holds it; None if it does not."""
        if self.target == "coco":
            self.changed[DIFFICULT_TO_COCO] += obj.difficult
            return obj
        self.changed[MASKS] += obj.mask is not None
        if self.target == "voc":
            self.changed[CROWD_TO_VOC] += obj.crowd
            return obj
        if obj.crowd:
            self.changed[CROWD_TO_YOLO] += 1
            return None
        x1, y1, x2, y2 = obj.box
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(size[1])), min(y2, float(size[0])))
        if not is_valid_box(clipped):
            self.changed[OUTSIDE] += 1
            return None
        self.changed[DIFFICULT_TO_YOLO] += obj.difficult
        self.changed[CLIPPED] += clipped != obj.box
        return replace(obj, box=clipped)


def _refuse_two_annotations(splits: Mapping[str, ImageTable], root: Path) -> None:
    """UsageError if splits annotate an image differently: VOC has one annotation of each image for all lists."""
    is_shared = are_repeated(np.concatenate([images.keys for images in splits.values()]))
    first: dict[Path, tuple[str, ImageAnnotation]] = {}
    start = 0
    for split, images in splits.items():
        for image in images.select(is_shared[start : start + len(images)]):
            other, before = first.setdefault(image.image_path, (split, image))
            if not _are_alike(before.objects, image.objects):
                name = line(image.image_path.name, 60)
                raise UsageError(
                    f"{root}: the splits {listed([other, split])} annotate {name} differently, "
                    "and VOC has one annotation of each image: name splits that agree with --split"
                )
        start += len(images)


def _classes(splits: Sequence[SplitAnnotations]) -> Classes:
    ids: dict[str, int] = {}
    for split in splits:
        for name, category_id in zip(split.class_names, split.category_ids, strict=True):
            ids.setdefault(name, category_id)
    return Classes(tuple(ids), tuple(ids.values()))


def _place(source: Path, target: Path, link: bool) -> bool:
    """Copies the image, or links to it. Returns whether it is a link."""
    if link:
        try:
            os.link(os.path.realpath(source), target)
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return True
    shutil.copy2(source, target)
    return False


def _read_back(copy: Path, placed: Mapping[str, PlacedImages]) -> None:
    """ValueError unless the copy reads as it was meant."""
    reader = find_format(copy)
    for split in reader.read(copy, tuple(placed), raise_problem):
        names = keys_of(map(os.path.basename, split.images.paths()), len(split.images))
        order = np.argsort(names)
        for image in placed[split.split]:
            position = int(np.searchsorted(names, text_key(image.name), sorter=order))
            found = position < len(order) and names[order[position]] == text_key(image.name)
            if not found or not _are_alike(image.annotation.objects, split.images[int(order[position])].objects):
                raise ValueError(
                    f"no copy is written: {quoted(image.name)} of the split {split.split} does not read back as it was "
                    "meant; report the fault"
                )
        if more := len(split.images) - len(placed[split.split].table):
            raise ValueError(f"no copy is written: it has {counted(more, 'image')} too many; report the fault")


def _are_alike(objects: Sequence[ObjectAnnotation], others: Sequence[ObjectAnnotation]) -> bool:
    return len(objects) == len(others) and all(
        a.class_name == b.class_name and max(abs(x - y) for x, y in zip(a.box, b.box, strict=True)) <= _ROUNDING
        for a, b in zip(objects, others, strict=True)
    )
