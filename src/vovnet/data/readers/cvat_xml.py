"""CVAT's own XML: annotations.xml and images/, as "CVAT for images 1.1" and "CVAT for video 1.1" write them.

Layouts: XML files in the folder itself, one for each task or subset; or a folder for each task, with annotations.xml.
Images are in images/SUBSET/, images/, SUBSET/ or beside the file.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from vovnet.data.dataset import (
    ImageAnnotation,
    ImageTable,
    OnProblem,
    SplitAnnotations,
    add_image,
    raise_problem,
    to_image_size,
)
from vovnet.data.image_columns import ImageColumns
from vovnet.data.image_files import find_images, ignore_problem, is_image_name, walk_images
from vovnet.data.keys import text_key
from vovnet.data.readers import coco_copy
from vovnet.data.readers.cvat_file import CvatFile, CvatImage, parse_cvat
from vovnet.data.readers.image_finder import ImageFinder
from vovnet.data.readers.tool_reading import WithoutArea, warn_about_unused
from vovnet.data.readers.unique_ids import with_unique_ids
from vovnet.errors import counted
from vovnet.printing import line

COPY_FORMAT = coco_copy.FORMAT
ALL = "all"  # the split of images without a subset
_NAME = "annotations.xml"
_HEAD = re.compile(r"<annotations[\s>].*<(version|meta|image|track)[\s>]", re.DOTALL)
_HEAD_BYTES = 2000
_MOST_FILES = 1000


def recognises(root: Path) -> str:
    """The XML file that shows the format, as a clause; "" without one."""
    return _clause(root, _own_files(root))


def recognises_tasks(root: Path) -> str:
    """The same for a folder with several tasks, each in a folder of its own."""
    return _clause(root, _task_files(root))


def annotation_files(root: Path) -> list[Path]:
    """The XML files of CVAT in a folder, or else annotations.xml in the folders below it, if several have one."""
    return _own_files(root) or _task_files(root)


def _own_files(root: Path) -> list[Path]:
    return [path for path in islice(sorted(root.glob("*.xml")), _MOST_FILES) if _is_cvat(path)]


def _task_files(root: Path) -> list[Path]:
    paths = [path for path in islice(sorted(root.glob(f"*/{_NAME}")), _MOST_FILES) if _is_cvat(path)]
    return paths if len(paths) > 1 else []


def _clause(root: Path, paths: Sequence[Path]) -> str:
    return f"{line(paths[0].relative_to(root).as_posix())} is CVAT's own XML" if paths else ""


def splits(root: Path) -> tuple[str, ...]:
    """The subsets of the images. Without them, a file is a split by its name, or by its folder's."""
    names: set[str] = set()
    for path in annotation_files(root):
        try:
            names.update(_split_of(root, path, image) for image in _all_images(path, parse_cvat(path)))
        except ValueError:  # reported when it is read
            names.add(_default_split(root, path))
    return tuple(sorted(names)) or (ALL,)


def read(root: Path, names: Sequence[str], on_problem: OnProblem) -> tuple[SplitAnnotations, ...]:
    """The splits of these names. Classes are in the order in which CVAT lists its labels.

    Lines, points and skeletons have no area: they are counted and left out, and so is an image that has nothing else.
    Tags are about whole images and are not read.
    """
    class_names: dict[str, None] = {}
    used: set[str] = set()
    listed = array("q")  # keys of images
    folders: dict[Path, None] = {}
    columns = ImageColumns()
    rows = {name: array("I") for name in names}
    without_area = WithoutArea(on_problem)
    for path in annotation_files(root):
        try:
            content = parse_cvat(path)
        except ValueError as error:
            on_problem("bad-annotation", path, str(error))
            continue
        class_names.update(dict.fromkeys(content.labels))
        entries = _all_images(path, content)
        used.update(obj.class_name for image in entries for obj in image.objects)
        reader = _Reader(root, path, entries, on_problem, without_area)
        for entry in entries:
            split = _split_of(root, path, entry)
            if split in rows and (image := reader.read(entry)) is not None:
                rows[split].append(add_image(columns, image))
        listed += reader.found
        folders[_image_folders(path)[0]] = None
    if on_problem is not raise_problem:
        for folder in folders:
            warn_about_unused(
                folder,
                partial(walk_images, folder, ignore_problem),
                np.frombuffer(listed, np.int64),
                "entry in CVAT's XML",
            )
    without_area.warn(root)
    ordered = (*class_names, *sorted(used - class_names.keys()))
    ids = tuple(range(1, len(ordered) + 1))

    def to_split(name: str) -> SplitAnnotations:
        images = with_unique_ids(root, ImageTable(columns, rows[name]))
        return SplitAnnotations(root, "cvat_xml", name, ordered, ids, images)

    return tuple(map(to_split, names))


def write(root: Path, splits: Sequence[SplitAnnotations], out: Path) -> None:
    """COCO's JSON files, one for each split, in place of CVAT's."""
    coco_copy.write(splits, out)


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).replace(b"\0", b"").decode("ascii", "replace")
    except OSError:
        return False
    return bool(_HEAD.search(head))


def _default_split(root: Path, path: Path) -> str:
    """The split of images without a subset: Datumaro's file has its name, and CVAT's folder that of a task."""
    if path.name != _NAME:
        return path.stem
    return ALL if path.parent == root else path.parent.name


def _split_of(root: Path, path: Path, image: CvatImage) -> str:
    return image.subset or _default_split(root, path)


def _image_folders(path: Path) -> list[Path]:
    folder = path.parent
    return [candidate for candidate in (folder / "images", folder) if candidate.is_dir()]


def _all_images(path: Path, content: CvatFile) -> Sequence[CvatImage]:
    """The images of a file; for a video those that were extracted from it, of which some show no object."""
    if not content.is_video:
        return content.images
    frames = dict(content.frames)
    for number in _extracted_frames(path):
        if number >= content.first_frame and (content.last_frame < 0 or number <= content.last_frame):
            frames.setdefault(number, CvatImage(f"frame_{number:06d}"))
    return [frames[number] for number in sorted(frames)]


def _extracted_frames(path: Path) -> Iterator[int]:
    """Numbers of the frames that lie in the image folder."""
    for image in find_images(_image_folders(path)[0], ignore_problem):
        if found := re.fullmatch(r"frame_(\d{6,8})", image.stem):
            yield int(found[1])


@dataclass
class _Reader:
    """Turns the images of one file into annotations."""

    root: Path
    path: Path
    entries: Sequence[CvatImage]
    on_problem: OnProblem
    without_area: WithoutArea
    finders: dict[str, ImageFinder] = field(default_factory=dict)
    frames: dict[str, Path] | None = None
    found: array[int] = field(default_factory=lambda: array("q"))  # keys of the images
    seen: set[int] = field(default_factory=set)  # keys of subsets and images

    def read(self, entry: CvatImage) -> ImageAnnotation | None:
        image_path = self._find(entry)
        if image_path is None:
            return None
        key = text_key(f"{entry.subset}/{image_path}")
        if key in self.seen:
            self.on_problem("listed-twice", self.path, f"lists {line(entry.name)} twice")
            return None
        self.seen.add(key)
        self.found.append(text_key(image_path))
        if entry.unusable:
            shapes = counted(entry.unusable, "shape")
            self.on_problem("bad-annotation", self.path, f"{line(entry.name)} has {shapes} without a label")
        self.without_area.add(self.path, entry.without_area, line(entry.name, 60))
        unusable = entry.unusable + entry.without_area.total()
        if unusable and not entry.objects and self.on_problem is raise_problem:
            return None  # it would teach that nothing is there
        size = to_image_size(*entry.size)
        return ImageAnnotation(image_path, self.path, image_path.stem, tuple(entry.objects), size, unusable)

    def _find(self, entry: CvatImage) -> Path | None:
        """The image. CVAT names the frames of a video without a suffix."""
        if not is_image_name(Path(entry.name)):
            return self._find_frame(entry)
        if entry.subset not in self.finders:
            names = (other.name for other in self.entries if other.subset == entry.subset)
            bases = _image_folders(self.path)
            folders = [*(base / entry.subset for base in bases if entry.subset), *bases]
            folders = [folder for folder in folders if folder.is_dir()]
            self.finders[entry.subset] = ImageFinder(folders, names, self.path, self.on_problem)
        return self.finders[entry.subset].find(entry.name)

    def _find_frame(self, entry: CvatImage) -> Path | None:
        """The frame in the folder of its subset, or in the image folder, or else the only one of its name."""
        if self.frames is None:
            folder = _image_folders(self.path)[0]
            paths = find_images(folder, ignore_problem)
            counts = Counter(path.stem for path in paths)
            self.frames = {path.stem: path for path in paths if counts[path.stem] == 1}
            self.frames |= {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(paths)}
        name = entry.name
        found = self.frames.get(f"{entry.subset}/{name}") or self.frames.get(name)
        if found is None:
            detail = f"names the frame {line(name, 60)}, and there is no image {line(name, 60)}.png (or .jpg, …)"
            self.on_problem("missing-image", self.path, f"{detail}: extract the frames into images/")
        return found
