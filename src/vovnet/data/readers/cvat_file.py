"""One XML file of CVAT's own format: "CVAT for images 1.1", or "CVAT for video 1.1", whose tracks name frames."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload
from xml.parsers import expat

from vovnet.data.dataset import ObjectAnnotation, to_number
from vovnet.data.readers.cvat_shapes import NO_AREA, SHAPES, Attributes, shape_box, state
from vovnet.data.readers.voc_xml import read_xml_text, xml_parts
from vovnet.data.spooled import Texts
from vovnet.limits import limits, too_much
from vovnet.printing import line, quoted

_MAX_DEPTH = 50
_MOST_FRAMES = 10_000_000  # of a video; a day has 2,592,000
_LABEL = ("labels", "label")
_STEP = re.compile(r"\s*step\s*=\s*(\d{1,6})\s*")


@dataclass
class CvatImage:
    """One <image>, or the frame of a video that has its number as the name.

    size: height and width as the file states them.
    without_area: kind of shape that has no area → number of them.
    unusable: number of shapes without a label.
    """

    name: str
    subset: str = ""
    size: tuple[str | None, str | None] = (None, None)
    objects: list[ObjectAnnotation] = field(default_factory=list)
    without_area: Counter[str] = field(default_factory=Counter)
    unusable: int = 0

    def add(self, tag: str, label: str, attributes: Attributes) -> None:
        """Adds a shape. ValueError for more than an image may have."""
        index = len(self.objects) + self.unusable + sum(self.without_area.values())
        if index >= limits().image_objects:
            raise too_much("image_objects", f"the image {line(self.name)}")
        if tag in NO_AREA:
            self.without_area[tag] += 1
        elif not label:
            self.unusable += 1
        else:
            box = shape_box(tag, attributes)
            stated = state(tag, attributes) if any(map(math.isnan, box)) else ""
            self.objects.append(ObjectAnnotation(index, label, box, stated=stated))


class CvatImages(Sequence[CvatImage]):
    """Images that are kept in a file, and made again when they are asked for."""

    def __init__(self) -> None:
        self._texts = Texts()

    def add(self, image: CvatImage) -> None:
        objects = [(obj.index, obj.class_name, obj.box, obj.stated) for obj in image.objects]
        fields = (image.name, image.subset, image.size, objects, image.without_area, image.unusable)
        self._texts.add(json.dumps(fields))

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, position: int) -> CvatImage: ...
    @overload
    def __getitem__(self, position: slice) -> list[CvatImage]: ...
    def __getitem__(self, position: int | slice) -> CvatImage | list[CvatImage]:
        if isinstance(position, slice):
            return [self[index] for index in range(len(self))[position]]
        name, subset, size, objects, without_area, unusable = json.loads(self._texts[position])
        made = [ObjectAnnotation(index, label, tuple(box), stated=stated) for index, label, box, stated in objects]
        return CvatImage(name, subset, tuple(size), made, Counter(without_area), unusable)


@dataclass
class CvatFile:
    """What one file says.

    labels: the classes that it lists for boxes, in its order.
    images: those of a task of images.
    frames: number of each frame in which a track has a shape → that frame.
    is_video: the file has tracks, and names frames by their numbers.
    last_frame: the number of the last frame of the task, if it is stated; -1 otherwise.
    first_frame: that of the first one.
    """

    labels: list[str] = field(default_factory=list)
    images: CvatImages = field(default_factory=CvatImages)
    frames: dict[int, CvatImage] = field(default_factory=dict)
    is_video: bool = False
    first_frame: int = 0
    last_frame: int = -1


def parse_cvat(path: Path) -> CvatFile:
    """The content of a file. ValueError, without the path, for what is not safe, well-formed or CVAT's."""
    reader = _Reader()
    try:
        reader.parse(xml_parts(path, "json_bytes"))
    except expat.ExpatError as error:
        read_xml_text(path, "json_bytes")  # which says it if the encoding is at fault
        raise ValueError(f"is not well-formed XML ({error})") from error
    return reader.finish()


class _Reader:
    """Gets the elements one by one: a tree of those of all images would take thirty times the size of the file."""

    def __init__(self) -> None:
        self._file = CvatFile()
        self._path: list[str] = []
        self._text: list[str] = []
        self._label: dict[str, str] = {}
        self._image: CvatImage | None = None
        self._track: Attributes | None = None
        self._last: tuple[int, bool] | None = None  # frame of the track, and whether the object is seen there
        self._meta: dict[str, str] = {}

    def parse(self, parts: Iterable[bytes | str]) -> None:
        parser = expat.ParserCreate("utf-8")  # as the parts are, whatever a declaration in them says
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._add_text
        for part in parts:
            parser.Parse(part)
        parser.Parse("", True)

    def finish(self) -> CvatFile:
        self._file.is_video |= self._meta.get("mode") == "interpolation" and not self._file.images
        return self._file

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > _MAX_DEPTH:
            raise ValueError(f"nests elements more than {_MAX_DEPTH} deep, which no annotation does")
        if len(self._path) == 1 and tag != "annotations":
            raise ValueError(f"starts with <{line(tag, 40)}>, CVAT's files with <annotations>")
        self._text = []
        if len(self._path) == 2 and tag == "image":
            size, subset = (attributes.get("height"), attributes.get("width")), attributes.get("subset", "")
            if not subset.isprintable() or {"/", "\\"} & set(subset) or subset in (".", "..") or len(subset) > 100:
                raise ValueError(
                    f"has the subset {quoted(subset, 40)}, which cannot be the name of a folder: rename it"
                )
            self._image = CvatImage(attributes.get("name", ""), subset, size)
        elif len(self._path) == 2 and tag == "track":
            self._file.is_video, self._track, self._last = True, attributes, None
        elif len(self._path) == 3 and tag in SHAPES:
            if self._image is not None:
                self._image.add(tag, attributes.get("label", "").strip(), attributes)
            elif self._track is not None:
                self._add_to_frame(tag, self._track.get("label", "").strip(), attributes)

    def _end(self, tag: str) -> None:
        text = "".join(self._text).strip()
        parents = tuple(self._path[-3:-1])
        if parents == _LABEL and self._path[1:2] == ["meta"]:
            self._label[tag] = text
        elif tag == "label" and self._path[1:2] == ["meta"]:
            name, shape = self._label.get("name", ""), self._label.get("type", "any")
            is_part = "parent" in self._label  # of a skeleton
            if name and not is_part and shape not in (*NO_AREA, "tag") and name not in self._file.labels:
                self._file.labels.append(name)
            self._label = {}
        elif self._path[1:2] == ["meta"] and len(self._path) == 4:
            self._meta[tag] = text
        elif tag == "meta" and len(self._path) == 2:
            self._read_meta()
        elif len(self._path) == 2:
            if self._image is not None:
                self._file.images.add(self._image)
            self._image = self._track = None
        self._text = []
        self._path.pop()

    def _add_text(self, text: str) -> None:
        if self._path[1:2] == ["meta"]:
            self._text.append(text)

    def _read_meta(self) -> None:
        """What <task> or <job> says about the frames."""
        first, last = (_to_frame(self._meta.get(name)) for name in ("start_frame", "stop_frame"))
        self._file.first_frame = 0 if first is None else first
        self._file.last_frame = -1 if last is None else last

    def _add_to_frame(self, tag: str, label: str, attributes: Attributes) -> None:
        """Adds a shape of a track to its frame. CVAT writes one for each frame in which the object is seen."""
        number = _to_frame(attributes.get("frame"))
        if number is None:
            raise ValueError(f"has a track with the frame {quoted(attributes.get('frame'), 40)}, which is no number")
        is_seen = attributes.get("outside", "0") != "1"
        step = _STEP.fullmatch(self._meta.get("frame_filter", ""))
        if self._last and self._last[1] and number > self._last[0] + int(step[1] if step else 1):
            track = line(self._track.get("id", "?") if self._track else "?", 20)
            raise ValueError(
                f"has the track {track} in frame {self._last[0]} and again in {number}, but not between them: "
                'export it again from CVAT, as "CVAT for images 1.1" or with all frames'
            )
        self._last = (number, is_seen)
        if is_seen:
            frame = self._file.frames.setdefault(number, CvatImage(f"frame_{number:06d}"))
            frame.add(tag, label, attributes)


def _to_frame(text: str | None) -> int | None:
    number = to_number(text)
    return int(number) if number.is_integer() and 0 <= number < _MOST_FRAMES else None
