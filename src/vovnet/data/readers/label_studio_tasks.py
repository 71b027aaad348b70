"""Label Studio's JSON and JSON-MIN exports as images with regions, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vovnet.data.keys import are_repeated
from vovnet.data.readers.coco_fields import to_flag
from vovnet.data.readers.image_index import local_names
from vovnet.errors import listed
from vovnet.json_entries import JsonEntries, open_json
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.printing import quoted

Value = dict[str, Any]

_IMAGE_KEYS = ("image", "img", "image_url", "url")  # of a task's data, the likeliest first
_SIZES = ("original_width", "original_height")
_NO_TASK = -(2**63)


@dataclass(frozen=True)
class Region:
    """One region of an image.

    index: its position among all regions of the file.
    parts: where the file has it: several results of an annotation, if labels and shape are apart, or one.
    value: what the parts say together: x, y, … in percent of the image, and lists of labels.
    size: (height, width) of the image as stated, each of any type.
    turned: whether the image was turned when it was annotated.
    """

    index: int
    parts: tuple[int, ...]
    value: Value
    size: tuple[object, object]
    turned: bool

    def labels(self) -> list[str]:
        """The classes that were chosen, of whichever kind of labels."""
        lists = [value for key, value in self.value.items() if key.endswith("labels") and isinstance(value, list)]
        return list(dict.fromkeys(name for names in lists for name in names if isinstance(name, str) and name.strip()))

    def shape(self) -> str:
        """What was drawn; "" for what is no region, such as a text or a choice for the whole image."""
        if "points" in self.value:
            return "polygon"
        if "radiusX" in self.value:
            return "ellipse"
        if "rle" in self.value:
            return "brush"
        if "x" in self.value:
            return "rectangle" if "height" in self.value else "key point"
        return "video" if "sequence" in self.value else "vector" if "vertices" in self.value else ""


@dataclass(frozen=True)
class Entry:
    """One image of a file.

    position: in the list of tasks.
    image: its path or URL as stated; "" if there is none, or several.
    fault: why there are several, as the end of a sentence; "" otherwise.
    annotation: position of the annotation that counts; None if the task has none.
    key: the task's list of regions in JSON-MIN.
    """

    position: int
    image: str
    annotation: int | None
    regions: list[Region] = field(default_factory=list)
    key: str = ""
    fault: str = ""


@dataclass(frozen=True)
class TaskFile:
    """A file while it is open.

    superseded: positions of the tasks that do not count, because another one is a later annotation of the same task.
    """

    path: Path
    content: JsonEntries
    superseded: frozenset[int]

    def entries(self) -> Iterator[Entry]:
        """The image of each task that counts, also where nobody has annotated it."""
        count = 0
        for position, task in enumerate(self.content):
            if position in self.superseded:
                continue
            entry, results, by_task = _read_task(position, task)
            for parts in _group(results):
                region = _to_region(count, parts, results, by_task=by_task)
                if region.shape() or region.labels():
                    entry.regions.append(region)
                    count += 1
            yield entry


@contextmanager
def open_tasks(path: Path) -> Iterator[TaskFile]:
    """ValueError for a file that is not Label Studio's, or is damaged."""
    with open_json(path, "json_bytes", {"": _repeated_task}) as content:
        if not isinstance(content, JsonEntries) or not content.are_objects:
            got = quoted(content[:40], 40) if isinstance(content, JsonEntries) else "something else"
            raise ValueError(f"{path} must hold a list of tasks, got {got}")
        yield TaskFile(path, content, _superseded(content))


def _read_task(position: int, task: Value) -> tuple[Entry, Sequence[Any], bool]:
    """The image of a task without its regions, the list of these, and whether it is that of an annotation."""
    key = _annotations_key(task)
    if not key:  # JSON-MIN
        images, lists = _find_images(task), [name for name in task if _is_region_list(task[name])]
        entry = Entry(position, _only(images), 0, key=lists[0] if lists else "", fault=_fault(images))
        return entry, task[lists[0]] if lists else [], False
    data = task.get("data")
    chosen = _choose(task[key])
    images, uploaded = _find_images(data if isinstance(data, dict) else {}), task.get("file_upload")
    image = _only(images)
    if image and not _is_image(image) and isinstance(uploaded, str) and _is_image(uploaded):
        image = uploaded  # the URL does not show the file's name
    entry = Entry(position, image, chosen, fault=_fault(images))
    return entry, [] if chosen is None else task[key][chosen]["result"], True


def _annotations_key(task: Value) -> str:
    """The key of a task's annotations, which older versions call completions; "" in JSON-MIN, which has none."""
    return next((key for key in ("annotations", "completions") if isinstance(task.get(key), list)), "")


def _choose(annotations: Sequence[Any]) -> int | None:
    """The position of the annotation that is the ground truth, else of the latest; cancelled ones do not count."""
    usable = [
        index
        for index, annotation in enumerate(annotations)
        if isinstance(annotation, dict)
        and isinstance(annotation.get("result"), list)
        and not to_flag(annotation.get("was_cancelled"))
    ]
    truths = [index for index in usable if to_flag(annotations[index].get("ground_truth"))]
    return max(truths or usable, key=lambda index: (_time(annotations[index]), index), default=None)


def _time(annotation: Value) -> str:
    """When it was changed, as text that sorts."""
    stated = (annotation.get(key) for key in ("updated_at", "created_at"))
    return next((time for time in stated if isinstance(time, str)), "")


def _repeated_task(task: Value) -> tuple[int]:
    """What is kept of each task: the number of the one that it annotates, in JSON-MIN."""
    stated = task.get("id")
    counts = not _annotations_key(task) and isinstance(stated, int) and "annotation_id" in task
    return (stated if counts and isinstance(stated, int) else _NO_TASK,)


def _superseded(content: JsonEntries) -> frozenset[int]:
    """In JSON-MIN, each annotation of a task stands by itself: the positions of all but the latest of each task."""
    numbers = content.take_noted(0)
    latest: dict[int, tuple[str, int]] = {}
    repeated = np.flatnonzero(are_repeated(numbers) & (numbers != _NO_TASK)).tolist()
    for position in repeated:
        number = int(numbers[position])
        latest[number] = max(latest.get(number, ("", -1)), (_time(content[position]), position))
    return frozenset(repeated) - {position for _, position in latest.values()}


def _is_region_list(value: object) -> bool:
    is_list = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    return bool(is_list) and any(key in item for item in value for key in _SIZES)  # type: ignore[attr-defined]


def _find_images(data: Mapping[str, Any]) -> list[str]:
    """The values of a task's data that name its images: one, unless images are compared or a document has pages."""
    texts: dict[str, list[str]] = {}
    for key, value in data.items():
        stated = value if isinstance(value, list) else [value]
        texts[key] = [text for text in stated if isinstance(text, str) and text.strip()]
    images = list(dict.fromkeys(text for of_key in texts.values() for text in of_key if _is_image(text)))
    likely = next((texts[key] for key in _IMAGE_KEYS if texts.get(key)), [])
    return images if not likely or (len(images) == 1 and not any(map(_is_image, likely))) else likely


def _only(images: Sequence[str]) -> str:
    return images[0] if len(images) == 1 else ""


def _fault(images: Sequence[str]) -> str:
    if len(images) < 2:
        return ""
    return f"has the images {listed(images, 3)}, and nothing says in which of them its regions are: give each a task"


def _is_image(stated: str) -> bool:
    return len(stated) < 4000 and any(PurePosixPath(n).suffix.lower() in IMAGE_SUFFIXES for n in local_names(stated))


def _group(results: Sequence[Any]) -> list[list[int]]:
    """The positions of the results of each region: shape, labels and texts may be apart, under one id."""
    groups: dict[object, list[int]] = {}
    for position, result in enumerate(results):
        stated = result.get("id") if isinstance(result, dict) else None
        groups.setdefault(stated if isinstance(stated, str) and stated else position, []).append(position)
    return list(groups.values())


def _to_region(index: int, parts: Sequence[int], results: Sequence[Any], *, by_task: bool) -> Region:
    dicts = [results[part] if isinstance(results[part], dict) else {} for part in parts]
    value: Value = {}
    for result in reversed(dicts):
        stated = result.get("value") if by_task else result
        value |= stated if isinstance(stated, dict) else {}
    first = next((result for result in dicts if _SIZES[0] in result), dicts[0])
    turned = any(to_flag(result.get("image_rotation")) for result in dicts)
    return Region(index, tuple(parts), value, (first.get("original_height"), first.get("original_width")), turned)


Change = tuple[Mapping[int, Value | None], tuple[int, int] | None]
"""Index of each region that stays → its shape in percent, or None for that which it has; (height, width) to state."""


def corrected(file: TaskFile, change: Callable[[Entry], Change | None]) -> Iterator[Value]:
    """The tasks with only some images and regions. change: gives what becomes of an image; None if it goes."""
    entries = file.entries()
    entry = next(entries, None)
    for position, task in enumerate(file.content):
        if entry is None or entry.position != position:  # it does not count
            yield task
            continue
        current, entry = entry, next(entries, None)
        changed = change(current) if current.annotation is not None else None
        if current.annotation is None:
            yield task
        elif changed is not None:
            yield _corrected_task(task, current, *changed)


def _corrected_task(task: Value, entry: Entry, kept: Mapping[int, Value | None], size: tuple[int, int] | None) -> Value:
    key = _annotations_key(task)
    results = task[key][entry.annotation]["result"] if key else task.get(entry.key, [])
    new = _corrected_results(results, entry, kept, size, by_task=bool(key))
    if not key:
        return task | {entry.key: new} if entry.key else task
    annotations = list(task[key])
    annotations[entry.annotation or 0] = annotations[entry.annotation or 0] | {"result": new}
    return task | {key: annotations}


def _corrected_results(
    results: Sequence[Any],
    entry: Entry,
    kept: Mapping[int, Value | None],
    size: tuple[int, int] | None,
    *,
    by_task: bool,
) -> list[Any]:
    gone = {part for region in entry.regions if region.index not in kept for part in region.parts}
    shapes = {part: kept[region.index] for region in entry.regions if region.index in kept for part in region.parts}
    new = []
    for position, result in enumerate(results):
        if position in gone:
            continue
        if isinstance(result, dict) and size is not None and _SIZES[0] in result:
            result = result | {"original_height": size[0], "original_width": size[1]}
        shape = shapes.get(position)
        new.append(result if shape is None else _with_shape(result, shape, by_task=by_task))
    return new


_GEOMETRY = ("x", "y", "width", "height", "rotation", "points", "closed", "radiusX", "radiusY")


def _with_shape(result: Value, shape: Value, *, by_task: bool) -> Value:
    """The result in another shape, with its labels under the name that belongs to this."""
    old = result.get("value") if by_task else result
    if not isinstance(old, dict) or not set(_GEOMETRY) & old.keys():
        return result
    kind = "polygonlabels" if "points" in shape else "rectanglelabels"
    renamed = {key: kind for key in ("ellipselabels", "rectanglelabels", "polygonlabels")}
    value = {renamed.get(key, key): item for key, item in old.items() if key not in _GEOMETRY} | shape
    if not by_task:
        return value
    return result | {"value": value, "type": renamed.get(str(result.get("type")), result.get("type"))}
