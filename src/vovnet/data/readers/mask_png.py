"""Mask PNGs, as in Penn-Fudan: images/, and masks/ with one PNG per image, whose pixel values number the objects.

Layouts: images/ (or PNGImages/) and masks/ (or PedMasks/), or both with a sub-folder per split. If only images/ has
sub-folders, one folder of masks serves all splits. The mask of x.jpg is x.png or x_mask.png: one channel, with value 0
for the background and another value for each object. All objects have one class, which classes.txt may name.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vovnet.data.dataset import ImageAnnotation, ImageTable, ObjectAnnotation, OnProblem, SplitAnnotations, size_text
from vovnet.data.image_files import find_images, is_image_name
from vovnet.data.images import why_unreadable
from vovnet.data.splits.split_roles import find_role
from vovnet.files import image_content
from vovnet.limits import check_limit
from vovnet.media.image_opening import open_image
from vovnet.media.orientation import means_stored_pixels, turn_array
from vovnet.media.pixels import exif_orientation, explained_damage, read_header, strips, strips_of
from vovnet.parsing import naming, read_lines

ALL = "all"  # the split of every image, if there are no sub-folders

_IMAGE_FOLDERS = ("images", "PNGImages")
# Pillow's modes with one channel; a palette only colours the numbers.
_TYPES = {"1": np.uint8, "L": np.uint8, "P": np.uint8, "I;16": np.uint16, "I": np.int32}
_MOST_OBJECTS = 2**16


def recognises(root: Path) -> str:
    """The folders that show the format, as a clause; "" without them."""
    images, masks = _first_folder(root, _IMAGE_FOLDERS), _mask_folders(root)
    return f"{images.name}/ has masks in {masks[0].name}/" if images and any(map(_masks, masks)) else ""


def splits(root: Path) -> tuple[str, ...]:
    """The sub-folders of images/ in alphabetical order, without those that hold something else; `all` for its own."""
    return tuple(_split_folders(root))


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Every mask is decoded, because boxes and areas come from it."""
    class_name = _class_name(root)

    def read_split(split: str) -> SplitAnnotations:
        read_images = (_read_pair(*pair, class_name, on_problem) for pair in _pairs(root, split, on_problem))
        images = ImageTable.of(image for image in read_images if image is not None)
        return SplitAnnotations(root, "mask_png", split, (class_name,), (1,), images)

    return tuple(map(read_split, names))


def _class_name(root: Path) -> str:
    """The one line of classes.txt; "object" without that file."""
    path = root / "classes.txt"
    if not path.is_file():
        return "object"
    with naming(path):
        names = [line.strip() for line in read_lines(path) if line.strip()]
    if len(names) != 1:
        raise ValueError(
            f"{path} must hold one class name, got {len(names)}: masks number objects, not classes, "
            "so a dataset of several classes must be in COCO format"
        )
    return names[0]


def parse_numbers(path: Path) -> npt.NDArray[np.integer[Any]]:
    """The pixel values of a mask, (H, W), in the smallest type that holds those of its kind.

    Raises ValueError if the file is damaged or no PNG with one channel.
    """
    with open_image(path, ("PNG",)) as (mask, _):
        if mask.mode not in _TYPES:
            raise ValueError(f"{path} must have one channel of object numbers, got an image in mode {mask.mode}")
        with explained_damage(str(path)):
            mask.load()
        orientation = exif_orientation(mask)
        numbers = np.empty(mask.size[::-1], _TYPES[mask.mode])
        for rows, strip in strips_of(mask):
            numbers[rows] = np.asarray(strip)
    return turn_array(numbers, orientation)


def to_objects(numbers: npt.NDArray[np.integer[Any]], class_name: str) -> tuple[ObjectAnnotation, ...]:
    """The objects of a mask (H, W) in the order of their numbers, each with the box, area and runs of its pixels.

    Raises ValueError for more runs than the limit, or more objects than 16 bits number.
    """
    height, width = numbers.shape
    starts, number_of_run = _find_runs(numbers)
    ends = np.append(starts[1:], numbers.size)
    order = np.argsort(number_of_run, kind="stable")
    object_numbers, firsts = np.unique(number_of_run[order], return_index=True)
    if len(object_numbers) > _MOST_OBJECTS:
        raise ValueError(f"has {len(object_numbers):,} different numbers, and objects are at most {_MOST_OBJECTS:,}")
    runs_of_objects = np.split(order, firsts[1:])

    def to_object(number: int, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> ObjectAnnotation:
        """starts, ends: the positions, column by column, at which the object's runs start and before which they end."""
        (left, top), (right, bottom) = (np.divmod(positions, height) for positions in (starts, ends - 1))
        full_height = (left < right).any()  # a run that continues in the next column touches the upper and lower edge
        y1, y2 = (0, height) if full_height else (int(top.min()), int(bottom.max()) + 1)
        box = (float(left.min()), float(y1), float(right.max()) + 1, float(y2))
        edges = np.column_stack((starts, ends)).ravel()
        runs = np.diff(edges, prepend=0, append=height * width)
        mask = {"size": [height, width], "counts": (runs if runs[-1] else runs[:-1]).tolist()}
        return ObjectAnnotation(number - 1, class_name, box, area=float((ends - starts).sum()), mask=mask)

    return tuple(
        to_object(int(number), starts[runs], ends[runs])
        for number, runs in zip(object_numbers, runs_of_objects, strict=True)
        if number
    )


def _find_runs(numbers: npt.NDArray[np.integer[Any]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.integer[Any]]]:
    """Where runs of equal pixels start, column by column as COCO counts them, and the number of each."""
    height, _ = numbers.shape
    starts, number_of_run = [np.zeros(1, np.int64)], [numbers[:1, 0]]
    last, found = numbers[0, 0], 1
    for columns in strips(numbers.shape[::-1]):
        pixels = numbers[:, columns].T.ravel()
        changes = np.flatnonzero(np.append(pixels[0] != last, pixels[1:] != pixels[:-1]))
        last, found = pixels[-1], found + len(changes)
        check_limit("mask_runs", found, "", "simplify its outlines")
        starts.append(changes + columns.start * height)
        number_of_run.append(pixels[changes])
    return np.concatenate(starts), np.concatenate(number_of_run)


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _mask_folders(root: Path) -> list[Path]:
    """The folder of masks and its sub-folders."""
    top = _first_folder(root, ("masks", "PedMasks"))
    return [] if top is None else [top, *_sub_folders(top)]


def _split_folders(root: Path) -> dict[str, Path]:
    """Split → its folder of images."""
    top = _first_folder(root, _IMAGE_FOLDERS)
    assert top is not None, "recognises(root) was called before"
    folders = [path for path in _sub_folders(top) if find_role(path.name) or _images(path)]
    return {path.name: path for path in folders} | ({ALL: top} if not folders or _images(top) else {})


def _masks(folder: Path) -> dict[str, Path]:
    """Stem of the image → mask."""
    paths = _mask_files(folder)
    return {path.stem.removesuffix("_mask"): path for path in paths} | {path.stem: path for path in paths}


def _pairs(root: Path, split: str, on_problem: OnProblem) -> list[tuple[Path, Path]]:
    """The images of a split with their masks, in alphabetical order."""
    top, *folders = _mask_folders(root)
    masks = _masks(next((folder for folder in folders if folder.name == split), top))
    pairs: dict[str, tuple[Path, Path]] = {}
    for path in find_images(_split_folders(root)[split], on_problem, below=False):
        if path.stem in pairs:
            on_problem("listed-twice", path, f"another image of this folder has the name {path.stem}")
        elif path.stem not in masks:
            on_problem("missing-annotation", path, f"there is no mask {path.stem}.png or {path.stem}_mask.png")
        else:
            pairs[path.stem] = (path, masks[path.stem])
    return list(pairs.values())


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image_name(path) and not path.is_dir())


def _mask_files(folder: Path) -> list[Path]:
    return [path for path in _images(folder) if path.suffix.lower() == ".png"]


def _read_pair(image_path: Path, mask_path: Path, class_name: str, on_problem: OnProblem) -> ImageAnnotation | None:
    try:
        size, orientation = read_header(image_path)
    except (ValueError, OSError) as error:
        on_problem("unreadable-image", image_path, why_unreadable(image_path, error))
        return None
    try:
        numbers = parse_numbers(mask_path)
        objects = to_objects(numbers, class_name)
    except (ValueError, OSError) as error:
        on_problem("bad-annotation", mask_path, why_unreadable(mask_path, error))
        return None
    if numbers.shape != size and not means_stored_pixels(numbers.shape, size, orientation):
        stated, true = size_text(numbers.shape), size_text(size)
        on_problem("mask-size", mask_path, f"has {stated} pixels (width × height), {image_path.name} has {true}")
        return None
    return ImageAnnotation(image_path, mask_path, image_path.stem, objects, numbers.shape)


def files(root: Path) -> list[Path]:
    """The images and masks of all splits, whether they belong together or not."""
    images = [path for folder in _split_folders(root).values() for path in _images(folder)]
    return images + [path for folder in _mask_folders(root) for path in _mask_files(folder)]


def masks_without_image(root: Path) -> list[Path]:
    """Masks that belong to no image of any split."""
    stems = {path.stem for folder in _split_folders(root).values() for path in _images(folder)}
    masks = (path for folder in _mask_folders(root) for path in _mask_files(folder))
    return [path for path in masks if not {path.stem, path.stem.removesuffix("_mask")} & stems]


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """The masks of these images; the pixels of objects that were left out become background."""
    for image in (image for split in splits for image in split.images):
        path = out / image.annotation_path.relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = parse_numbers(image.annotation_path)
        kept = [0, *(obj.index + 1 for obj in image.objects)]
        changed = False
        for rows in strips(numbers.shape):
            left_out = ~np.isin(numbers[rows], kept)
            numbers[rows][left_out] = 0
            changed |= bool(left_out.any())
        if changed:
            mask = Image.fromarray(numbers.astype(np.uint16 if numbers.max() > 255 else np.uint8))
            path.write_bytes(image_content(path, mask))
        else:
            shutil.copy2(image.annotation_path, path)
