"""Finds the faults of a data set before an hour is spent on it, and writes a copy without them."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from vovnet.data import formats, mask_png, voc, yolo
from vovnet.data.images import read_image
from vovnet.data.raw import Box, Complain, RawImage, RawObject, RawSplit, is_proper
from vovnet.data.statistics import Statistics, compute_statistics
from vovnet.masks import RleMasks, from_coco

_LOG = logging.getLogger("vovnet")

# Kind of fault → what it is, what the cleaned copy does about it.
KINDS: dict[str, tuple[str, str]] = {
    "unreadable-image": ("an image is no image, damaged or cut short", "image left out"),
    "missing-image": ("an annotation or list names an image that is not there", "annotation left out"),
    "missing-annotation": ("a list names an image without annotation file", "image left out"),
    "annotation-without-image": ("objects belong to an image that is not listed or not there", "annotation left out"),
    "bad-annotation": ("an annotation cannot be understood", "annotation left out"),
    "listed-twice": ("a split lists one image twice", "the first is kept"),
    "size-mismatch": ("the annotation states another image size", "true size written"),
    "unknown-class": ("an object's class is not among the class names", "object left out"),
    "not-a-number": ("a corner of a box is missing or no finite number", "object left out"),
    "inverted-box": ("a box ends before it begins", "object left out"),
    "empty-box": ("a box has no width or no height", "object left out"),
    "box-outside": ("less than a pixel of a box's width or height is in the image", "object left out"),
    "box-partly-outside": ("a box reaches over the image's edge", "box clipped"),
    "missing-mask": ("an object has no mask, though most of its split have one", "object left out"),
    "bad-mask": ("a mask cannot be understood", "object left out"),
    "mask-size": ("a mask has another size than its image", "object left out; the image, if the mask is a PNG"),
    "empty-mask": ("a mask covers no pixel", "object left out"),
    "mask-elsewhere": ("a mask does not meet its object's box", "object left out"),
    "mask-box-mismatch": ("an object's box is not that of its mask", "the mask's box written"),
    "duplicate-box": ("two objects have the same class and box, and the same mask if any", "the first is kept"),
    "duplicate-image": ("two images of a split have the same pixels", "the first is kept"),
    "split-leak": ("two splits have an image of the same pixels", "kept in the test, else the val split only"),
}

_TOLERANCE = 0.5  # pixels over the edge that are rounding
# How far a side of a box may be from its mask's, in pixels or as a part of the box's width or height: where polygons
# are thinner than a pixel, their masks end early, so that COCO's own boxes are up to 6 pixels or 10 % too long.
_MASK_TOLERANCE = (6.0, 0.1)
_UNLISTED = "unlisted"  # VOC annotation files that no list names


@dataclass(frozen=True)
class Fault:
    """kind: a key of KINDS. split: "" where the fault is of a file as such. image: path within the data folder."""

    kind: str
    split: str
    image: str
    detail: str


@dataclass(frozen=True)
class Report:
    """clean: the splits as `fix_dataset` would write them.

    masks_unchecked: why masks were not looked at, "" if they were or if there are none.
    """

    root: Path
    format: str
    class_names: tuple[str, ...]
    faults: tuple[Fault, ...]
    statistics: Statistics
    masks_unchecked: str
    clean: tuple[RawSplit, ...] = field(repr=False)

    def count_by_kind(self) -> dict[str, int]:
        """In the order of KINDS, without the kinds that were not found."""
        counts = Counter(fault.kind for fault in self.faults)
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def to_dict(self) -> dict[str, Any]:
        """Everything but `clean`, ready for JSON."""
        return {
            "root": str(self.root),
            "format": self.format,
            "class_names": list(self.class_names),
            "fault_count": len(self.faults),
            "faults_by_kind": self.count_by_kind(),
            "masks_unchecked": self.masks_unchecked,
            "faults": [asdict(fault) for fault in self.faults],
            "statistics": asdict(self.statistics),
        }


@dataclass(frozen=True)
class _Picture:
    """What decoding an image told: its size and digests, or what is wrong with it."""

    size: tuple[int, int] = (0, 0)
    file_digest: bytes = b""
    pixel_digest: bytes = b""
    error: str = ""


def check_dataset(
    root: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Reads every annotation, mask and image of all splits.

    Masks need the extra "eval"; without it all else is checked, and a warning and the report say so.

    class_names: the classes that are known, where the data's own are not to be trusted.
    workers: threads that decode; None takes one a core.
    progress: called with (images decoded, images in all).
    """
    root = Path(root)
    module = formats.recognise(root)
    faults: list[Fault] = []

    def complain(kind: str, path: Path, detail: str) -> None:
        faults.append(Fault(kind, "", path.relative_to(root).as_posix(), detail))

    splits = _read_all(root, module, complain)
    for path in _annotations_without_image(root, module, splits):
        complain("annotation-without-image", path, "there is no image of this name")
    faults = list(dict.fromkeys(faults))  # one file may serve two splits

    pictures = _look_at_all({image.image_path for split in splits for image in split.images}, workers, progress)
    known = None if class_names is None else set(class_names)
    unions = _unions(splits)
    masked = {split.split for split in splits if _has_masks(split)}
    unreadable = _why_masks_are_unreadable() if masked else ""
    if unreadable:
        _LOG.warning("%s: masks were not checked: %s", root, unreadable)
        masked = set()
    cleaned: dict[str, RawSplit] = {}
    for split in splits:
        kept = []
        for image in split.images:
            found, clean = _judge_image(image, pictures[image.image_path], known, split.split in masked)
            if split.split not in unions:
                name = image.image_path.relative_to(root).as_posix()
                faults += [Fault(kind, split.split, name, detail) for kind, detail in found]
            if clean is not None:
                kept.append(clean)
        cleaned[split.split] = replace(split, images=tuple(kept))
    faults += _separate(root, cleaned, unions, pictures)

    sizes = {path: picture.size for path, picture in pictures.items() if not picture.error}
    names = tuple(dict.fromkeys(name for split in splits for name in split.class_names))
    order = {kind: place for place, kind in enumerate(KINDS)}
    faults.sort(key=lambda fault: (order[fault.kind], fault.split, fault.image, fault.detail))
    statistics = compute_statistics(splits, sizes)
    return Report(root, splits[0].format, names, tuple(faults), statistics, unreadable, tuple(cleaned.values()))


def fix_dataset(report: Report, out: str | Path) -> None:
    """Writes the data set without the faults of `report` to a new folder, in its own format; KINDS says how.

    Images, and annotation files without faults, are copied byte for byte. The original is only read.
    """
    out, root = Path(out), report.root
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists and is not an empty folder: name a new one for the cleaned copy")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies inside the data folder {root}: name a folder outside for the cleaned copy")
    out.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if path.is_file():  # licence, notes; the format's own files are written over
            shutil.copy2(path, out / path.name)
    formats.recognise(root).write(root, report.clean, out)
    for path in {image.image_path for split in report.clean for image in split.images}:
        copy = out / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def _read_all(root: Path, module: ModuleType, complain: Complain) -> tuple[RawSplit, ...]:
    """Every split, and for VOC what no list names."""
    names = module.splits(root)
    if module is not voc or voc.ALL in names:
        splits: tuple[RawSplit, ...] = module.read(root, names, complain)
        return splits
    *listed, everything = voc.read(root, (*names, voc.ALL), complain)
    paths = {image.annotation_path for split in listed for image in split.images}
    rest = tuple(image for image in everything.images if image.annotation_path not in paths)
    return (*listed, replace(everything, split=_UNLISTED, images=rest)) if rest else tuple(listed)


def _annotations_without_image(root: Path, module: ModuleType, splits: Sequence[RawSplit]) -> list[Path]:
    if module is yolo:
        return yolo.labels_without_image(root, splits)
    return mask_png.masks_without_image(root) if module is mask_png else []


def _has_masks(split: RawSplit) -> bool:
    """Whether most objects have one: some tools give a few objects of a data set of boxes a polygon."""
    found = [obj.mask is not None for image in split.images for obj in image.objects]
    return 2 * sum(found) > len(found)


def _why_masks_are_unreadable() -> str:
    try:
        RleMasks((b"1",), (1, 1)).areas()
    except ModuleNotFoundError as error:
        return str(error)
    return ""


def _look_at_all(
    paths: set[Path], workers: int | None, progress: Callable[[int, int], None] | None
) -> dict[Path, _Picture]:
    ordered = sorted(paths)
    pictures: dict[Path, _Picture] = {}
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        for path, picture in zip(ordered, pool.map(_look_at, ordered), strict=True):
            pictures[path] = picture
            if progress is not None:
                progress(len(pictures), len(ordered))
    finally:
        pool.shutdown(cancel_futures=True)  # an interruption does not wait for the images still to come
    return pictures


def _look_at(path: Path) -> _Picture:
    try:
        data = path.read_bytes()
        image = read_image(data)
    except (ValueError, OSError) as error:
        return _Picture(error=str(error))
    shape = str(tuple(image.shape)).encode()
    pixels = hashlib.blake2b(image.contiguous().numpy().data, digest_size=16, key=shape).digest()
    return _Picture((image.shape[1], image.shape[2]), hashlib.blake2b(data, digest_size=16).digest(), pixels)


def _judge_image(
    image: RawImage, picture: _Picture, known: set[str] | None, masked: bool
) -> tuple[list[tuple[str, str]], RawImage | None]:
    """The faults (kind, detail) of one image by itself, and what remains of it; masked: its objects need masks."""
    if picture.error:
        return [("unreadable-image", picture.error)], None
    faults = []
    if image.image_size not in (None, picture.size):
        assert image.image_size is not None
        stated, true = (f"{width} × {height}" for height, width in (image.image_size, picture.size))
        faults.append(("size-mismatch", f"stated {stated} pixels (width × height), the image has {true}"))
    kept: list[RawObject] = []
    seen: set[tuple[str, bool, Box, bytes]] = set()
    for obj in image.objects:
        kind, box = _judge_box(obj.box, picture.size)
        detail = f"object {obj.index + 1} ({obj.class_name}): x1 y1 x2 y2 = " + " ".join(f"{v:g}" for v in obj.box)
        if known is not None and obj.class_name not in known:
            nearest = get_close_matches(obj.class_name, known, n=1, cutoff=0)
            hint = f", nearest: {nearest[0]!r}" if nearest else ""
            faults.append(("unknown-class", f"object {obj.index + 1}: {obj.class_name!r} is not known{hint}"))
            continue
        if kind:
            faults.append((kind, detail))
        if kind not in ("", "box-partly-outside"):
            continue
        code = b""
        if masked:
            kind, reason, box, code = _judge_mask(obj.mask, box, picture.size)
            if kind:
                faults.append((kind, f"object {obj.index + 1} ({obj.class_name}): {reason}"))
            if kind not in ("", "mask-box-mismatch"):
                continue
        key = (obj.class_name, obj.crowd, _rounded(box), code)
        if key in seen:
            faults.append(("duplicate-box", detail))
            continue
        seen.add(key)
        kept.append(replace(obj, box=box))
    size = None if image.image_size is None else picture.size
    return faults, replace(image, objects=tuple(kept), image_size=size)


def _judge_box(box: Box, image_size: tuple[int, int]) -> tuple[str, Box]:
    """Kind of fault, "" for none, and the box clipped if it needs it."""
    x1, y1, x2, y2 = box
    height, width = image_size
    if any(v != v or abs(v) == float("inf") for v in box):
        return "not-a-number", box
    if not is_proper(box):
        return ("inverted-box" if x2 < x1 or y2 < y1 else "empty-box"), box
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    over = max(-x1, -y1, x2 - width, y2 - height)
    if over <= _TOLERANCE:
        return "", box
    if clipped[2] - clipped[0] < 1 or clipped[3] - clipped[1] < 1:
        return "box-outside", box
    return "box-partly-outside", clipped


def _judge_mask(mask: object, box: Box, image_size: tuple[int, int]) -> tuple[str, str, Box, bytes]:
    """Kind of fault, "" for none, its detail, the mask's box if the given one is not it, and the mask's code."""
    if mask is None:
        return "missing-mask", "there is no mask", box, b""
    try:
        code = from_coco(mask, image_size)
    except ValueError as error:
        other_size = isinstance(mask, dict) and isinstance(mask.get("size"), list) and mask["size"] != list(image_size)
        return ("mask-size" if other_size else "bad-mask"), str(error), box, b""
    x1, y1, x2, y2 = RleMasks((code,), image_size).boxes()[0].tolist()
    if x2 <= x1:
        return "empty-mask", "the mask covers no pixel of the image", box, code
    left, top, right, bottom = box
    detail = f"box x1 y1 x2 y2 = {left:g} {top:g} {right:g} {bottom:g}, its mask's = {x1:g} {y1:g} {x2:g} {y2:g}"
    if x1 >= right or y1 >= bottom or x2 <= left or y2 <= top:
        return "mask-elsewhere", detail, box, code
    pixels, part = _MASK_TOLERANCE
    wide = max(abs(x1 - left), abs(x2 - right)) > max(pixels, part * (right - left))
    high = max(abs(y1 - top), abs(y2 - bottom)) > max(pixels, part * (bottom - top))
    return ("mask-box-mismatch", detail, (x1, y1, x2, y2), code) if wide or high else ("", "", box, code)


def _rounded(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2)


def _separate(
    root: Path, splits: dict[str, RawSplit], unions: dict[str, list[str]], pictures: dict[Path, _Picture]
) -> list[Fault]:
    """Takes images out of `splits` until no two have the same pixels, within a split or in two; says which.

    A split that joins others (VOC's trainval) is no leak; it becomes what remains of those.
    """
    faults = []
    groups: dict[bytes, list[tuple[str, RawImage]]] = defaultdict(list)
    for name in sorted((name for name in splits if name not in unions), key=_rank):
        for image in splits[name].images:
            groups[pictures[image.image_path].pixel_digest].append((name, image))
    remaining: dict[str, set[tuple[int | str, Path]]] = defaultdict(set)
    for (first_name, first), *others in groups.values():
        remaining[first_name].add((first.image_id, first.image_path))
        for name, image in others:
            alike = pictures[image.image_path].file_digest == pictures[first.image_path].file_digest
            where = "here" if name == first_name else f"in {first_name}"
            same = "the file is" if alike else "the pixels are"
            detail = f"{same} {first.image_path.relative_to(root).as_posix()} {where} too"
            kind = "duplicate-image" if name == first_name else "split-leak"
            faults.append(Fault(kind, name, image.image_path.relative_to(root).as_posix(), detail))
    for name, members in unions.items():
        remaining[name] = set().union(*(remaining[member] for member in members))
    for name, split in splits.items():
        kept = tuple(image for image in split.images if (image.image_id, image.image_path) in remaining[name])
        splits[name] = replace(split, images=kept)
    return faults


def _unions(splits: Sequence[RawSplit]) -> dict[str, list[str]]:
    """Split → the two or more others that it is made of."""
    paths = {split.split: {image.image_path for image in split.images} for split in splits}
    unions = {}
    for name, whole in paths.items():
        parts = [other for other in paths if paths[other] and paths[other] < whole]
        if len(parts) >= 2 and set().union(*(paths[part] for part in parts)) == whole:
            unions[name] = parts
    return unions


def _rank(split: str) -> tuple[int, str]:
    """Where an image that two splits share stays: test, then val, then train, then others."""
    order = ("test", "val", "train")
    return next((place for place, prefix in enumerate(order) if split.startswith(prefix)), len(order)), split
