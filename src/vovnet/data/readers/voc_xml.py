"""One annotation file of Pascal VOC: decode it, parse it, read the boxes of its objects, and write a corrected copy."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from vovnet.data.dataset import Box, ImageAnnotation, box_around_turned, is_valid_box, to_image_size, to_number
from vovnet.limits import limits, too_much
from vovnet.parsing import byte_parts, read_bounded, regular_file
from vovnet.printing import line

_MAX_DEPTH = 50
_FORBIDDEN = (b"<!DOCTYPE", b"<!ENTITY")
_ENTITIES = "declares a document type or entities, which an annotation does not need: remove them"
_HEAD_BYTES = 1000  # that show the encoding
_MOST_TAGS = 1_000_000  # of which Python makes 300 MB
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_MARKS = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_DECLARATION = re.compile(rb"""\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
_NO_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"))
# Writers on Windows declare the standard and write the code page that extends it.
_EXTENSIONS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "cp950"}


def read_xml_text(path: Path, limit: str = "text_bytes") -> str:
    """The text of an XML file without entities. ValueError, without the path, for anything else.

    An annotation needs no entities, and nested ones can fill the memory.
    """
    text = _decode(read_bounded(path, limit))
    if any(start.decode() in text for start in _FORBIDDEN):
        raise ValueError(_ENTITIES)
    return text


def xml_parts(path: Path, limit: str) -> Iterator[bytes | str]:
    """An XML file for expat, in parts. It is held only where it is in another encoding than UTF-8.

    ValueError as from `read_xml_text`, but what is no UTF-8 is left to expat.
    """
    with regular_file(path, limit) as file:
        head = file.read(_HEAD_BYTES)
        declaration = _DECLARATION.match(head)
        declared = declaration[1].lower() if declaration else b"utf-8"
        marked = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "utf-8-sig")
        if marked != "utf-8-sig" or declared not in (b"utf-8", b"utf8"):
            yield read_xml_text(path, limit)
            return
        last = b""
        for part in byte_parts(file, limit):
            if any(start in last + part for start in _FORBIDDEN):
                raise ValueError(_ENTITIES)
            last = part[-len(_FORBIDDEN[0]) :]
            yield part


def parse_xml(path: Path) -> ElementTree.Element:
    """The root element. ValueError, without the path, for a file that is no safe, well-formed XML."""
    text = read_xml_text(path)
    if text.count("<") + text.count("=") > _MOST_TAGS:  # an element or attribute takes thirty times its text
        raise ValueError(f"has more than {_MOST_TAGS:,} tags and attributes, which no annotation does")
    try:
        tree = ElementTree.fromstring(text)  # of a str, expat ignores the declared encoding
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"is not well-formed XML ({error})") from error
    if len(tree) > limits().image_objects:  # objects are the children of the root
        raise too_much("image_objects")
    level = list(tree)
    depth = 0
    while level and depth < _MAX_DEPTH:
        level = [child for element in level for child in element]
        depth += 1
    if level:
        raise ValueError(f"nests elements more than {_MAX_DEPTH} deep, which no annotation does")
    return tree


def _decode(data: bytes) -> str:
    """The text, by the byte order mark, the declared encoding, or UTF-8. Expat itself knows few encodings."""
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    declaration = None if marked else _DECLARATION.match(data)
    encoding = marked or (declaration[1].decode("ascii") if declaration else "utf-8")
    try:
        name = codecs.lookup(encoding).name
        if name.replace("_", "-") in _NO_CHARSETS:
            raise LookupError
        try:
            text = data.decode(name)  # LookupError for a codec that is not one of text, such as zip
        except UnicodeDecodeError:
            text = data.decode(_EXTENSIONS.get(name, name))
    except LookupError:
        raise ValueError(f"declares the encoding {encoding!r}, which is not known: save it as UTF-8") from None
    except UnicodeError as error:
        why = "its byte order mark says so" if marked else "it declares that" if declaration else "it declares no other"
        raise ValueError(f"is not {encoding} text, although {why} ({error}): declare its true encoding") from error
    if declaration and not text.startswith(declaration[0].decode("ascii")):
        raise ValueError(f"declares the encoding {encoding!r}, but its own declaration is in another: correct it")
    return text


def read_box(element: ElementTree.Element, first_pixel: int = 1) -> tuple[Box, str]:
    """The box of an <object>, and what the file says instead if a corner of it is no number.

    The box is that of <bndbox>; else the one around roLabelImg's <robndbox> or around a <polygon>. In <bndbox> VOC
    counts pixels from 1 and includes the last one; the other two hold points, which are taken as they are. If that of
    them which comes first is no valid box, a later one stands in, and the text is that of the first.

    first_pixel: the number of the first column and row in <bndbox>, see `Layout`.
    """

    def read_bndbox(shape: ElementTree.Element) -> Box:
        x1, y1, x2, y2 = _numbers(shape, _SIDES)
        return x1 - first_pixel, y1 - first_pixel, x2, y2

    boxes = [
        (shape, read(shape))
        for tag, read in (("bndbox", read_bndbox), ("robndbox", _read_robndbox), ("polygon", _read_polygon))
        if (shape := element.find(tag)) is not None
    ]
    if not boxes:
        return (math.nan,) * 4, "there is no <bndbox>"
    first, box = boxes[0]
    if is_valid_box(box):
        return box, ""
    if valid := [other for _, other in boxes[1:] if is_valid_box(other)]:
        return valid[0], _state(first)
    return box, "" if all(map(math.isfinite, box)) else _state(first)


def stands_in(box: Box, stated: str) -> bool:
    """Whether the box that `read_box` gave stands in for one that is not valid."""
    return stated != "" and is_valid_box(box)


def _read_robndbox(shape: ElementTree.Element) -> Box:
    cx, cy, width, height, radians = _numbers(shape, ("cx", "cy", "w", "h", "angle"))
    if not math.isfinite(radians):
        return (math.nan,) * 4
    return box_around_turned((cx, cy), (width, height), math.degrees(radians))


def _read_polygon(shape: ElementTree.Element) -> Box:
    """The points are <x1>, <y1>, <x2>, … as CVAT and Roboflow write them, or LabelMe's <pt>s with <x> and <y>."""
    children = [*shape, *(child for point in shape.findall("pt") for child in point)]
    xs, ys = ([to_number(c.text) for c in children if re.fullmatch(rf"{axis}\d*", str(c.tag))] for axis in "xy")
    if len(xs) < 3 or len(xs) != len(ys) or not all(map(math.isfinite, xs + ys)):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def _numbers(shape: ElementTree.Element, names: Sequence[str]) -> list[float]:
    return [to_number(shape.findtext(name)) for name in names]


def _state(shape: ElementTree.Element) -> str:
    """The element as `tag: name value, name value`, shortened."""
    leaves = [leaf for leaf in shape.iter() if leaf is not shape and not len(leaf)]
    stated = ", ".join(f"{leaf.tag} {(leaf.text or '').strip() or '(empty)'}" for leaf in leaves[:12])
    missing = ", ".join(f"{side} (missing)" for side in _SIDES if shape.tag == "bndbox" and shape.find(side) is None)
    return line(f"{shape.tag}: {', '.join(filter(None, (stated, missing))) or 'empty'}", 200)


def stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    return to_image_size(tree.findtext("size/height"), tree.findtext("size/width"))


def corrected_xml(path: Path, image: ImageAnnotation, first_pixel: int = 1) -> bytes:
    """The annotation file as it is, or rewritten in UTF-8 where `image` differs from it."""
    tree = parse_xml(path)
    changed = stated_size(tree) != image.image_size
    if changed and image.image_size is not None:
        for side, length in zip(("height", "width"), image.image_size, strict=True):
            _set_number(tree, f"size/{side}", length)
    boxes = {obj.index: obj.box for obj in image.objects}
    for index, element in enumerate(tree.findall("object")):
        box, stated = read_box(element, first_pixel)
        if index not in boxes:
            tree.remove(element)
            changed = True
        elif box != boxes[index] or stands_in(box, stated):
            x1, y1, x2, y2 = boxes[index]
            for side, value in zip(_SIDES, (x1 + first_pixel, y1 + first_pixel, x2, y2), strict=True):
                _set_number(element, f"bndbox/{side}", value)
            changed = True
    return ElementTree.tostring(tree, encoding="utf-8") if changed else path.read_bytes()


def _set_number(element: ElementTree.Element, path: str, value: float) -> None:
    """Writes the number, with the elements of the path that are missing: a polygon's box gets a <bndbox>."""
    for tag in path.split("/"):
        child = element.find(tag)
        element = ElementTree.SubElement(element, tag) if child is None else child
    element.text = str(int(value)) if value == int(value) else f"{value:.3f}"
