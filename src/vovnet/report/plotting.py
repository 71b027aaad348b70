"""What all plots share: colours, figures, and files in which the values show on hover.

An SVG keeps its text as text, has a `<title>` for what a reader can point at, and is the same bytes for the same plot.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from vovnet.files import write_bytes
from vovnet.media.fonts import draws, font_file_for, load_font, readable
from vovnet.printing import line, printable, tell_apart

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from PIL.ImageFont import FreeTypeFont

# Okabe and Ito's colours, which most colour-blind people can tell apart, without the yellow that is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#c0c0c0"  # of curves that are not labelled
MARKERS = "os^DvPX*"  # as many as is coprime to the number of colours: 56 pairs before one repeats
LINE_STYLES = ("-", "--", ":")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")
COLUMN_INCH, PAGE_INCH = 3.5, 7.0  # width of a column and of the text of a printed page
SMALL, MEDIUM = 7, 8  # font sizes in points

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF, _GROUP = f"{{{_XLINK}}}href", f"{{{_SVG}}}g"
_WITH_TEXT = tuple(f"{{{_SVG}}}{tag}" for tag in ("text", "title", "style", "tspan"))
_SHAPES = (f"{{{_SVG}}}path", f"{{{_SVG}}}use")
_FONT = "font-family: 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Plot:
    """A matplotlib figure and its hover texts, by the gid of the artist that shows them."""

    figure: Figure
    titles: dict[str, Sequence[str]] = field(default_factory=dict)

    def add_titles(self, artist: Artist, *titles: str) -> None:
        """Show a text on hover: one for the whole artist, or one for each dot of a collection, in order."""
        gid = f"titled-{len(self.titles)}"
        artist.set_gid(gid)
        self.titles[gid] = titles

    def png(self) -> bytes:
        return figure_content(self.figure, "png")

    def svg(self) -> bytes:
        return finish_svg(figure_content(self.figure, "svg"), self.titles)


def make_figure(width_inch: float, height_inch: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inch, height_inch), dpi=130, layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure in the format of the suffix, completely or not at all."""
    write_bytes(path, figure_content(figure, path.suffix.removeprefix(".")))


def figure_content(figure: Figure, format: str) -> bytes:
    """The figure as a file. SVGs hold no date and no random ids."""
    from matplotlib import rc_context

    choose_fonts(figure)
    file = io.BytesIO()
    metadata = {"Date": None} if format == "svg" else None
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vovnet", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(file, format=format, metadata=metadata)
    return file.getvalue()


def model_style(index: int) -> dict[str, str]:
    """Marker and colour of the model at this position of a report, the same in every plot."""
    return {"marker": MARKERS[index % len(MARKERS)], "color": COLOURS[index % len(COLOURS)]}


def marker_svg(index: int) -> str:
    """The marker of the model at this position of a report, to stand beside its name."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    style = model_style(index)
    marker = MarkerStyle(style["marker"])
    upside_down = marker.get_transform() + Affine2D().scale(100, -100)  # y goes down in an SVG
    (outline,) = marker.get_path().transformed(upside_down).to_polygons()
    points = " ".join(f"{x:.0f},{y:.0f}" for x, y in np.asarray(outline))
    shape = f'<polygon points="{points}" fill="{style["color"]}" stroke="black" stroke-width="6"/>'
    return f'<svg class="marker" viewBox="-75 -75 150 150" width="15" height="15" aria-hidden="true">{shape}</svg>'


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, small ticks and a faint grid."""
    axes.set_xlabel(plain_text(x_label, 100), fontsize=MEDIUM)
    axes.set_ylabel(plain_text(y_label, 100), fontsize=MEDIUM)
    axes.tick_params(labelsize=SMALL)
    axes.grid(alpha=0.25)


def add_legend(place: Axes | Figure, shown: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A legend of these names. Of labels that artists have, matplotlib leaves out those that begin with "_"."""
    place.legend(list(shown), list(names), frameon=False, **options)


def plain_text(text: str, longest: int = 64) -> str:
    """Text that matplotlib shows: no formula between dollars, no control code that breaks an SVG, no missing letter.

    longest: letters, or half as many wide ones, beyond which the middle is left out to leave room for the plot.
    """
    text = line(readable(line(text, longest), _base_font()), longest) or "(no name)"
    text = line(text, min(longest, longest * len(text) // columns(text)))
    return text.replace("$", r"\$")


def columns(text: str) -> int:
    """How many letters have room where the text has; emoji and those of Chinese, Japanese and Korean are wide."""
    return len(text) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def plain_names(names: Sequence[str], longest: int = 64) -> list[str]:
    """`plain_text` of each, with its number where that is the same for several."""
    return tell_apart([plain_text(name, longest) for name in names])


@cache
def _base_font() -> FreeTypeFont:
    """The font of all figures, which comes with matplotlib."""
    from matplotlib import get_data_path

    return load_font(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), 20)


def choose_fonts(figure: Figure) -> None:
    """`set_fonts` of all texts of a figure. Call it before anything is drawn or measured."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # which are made when they are first asked for
    set_fonts([text for text in figure.findobj(Text) if isinstance(text, Text)])


def set_fonts(texts: Sequence[Text]) -> None:
    """Let the texts use the fonts of this system for letters that the usual font lacks."""
    from matplotlib import font_manager

    letters = {letter for text in texts for letter in text.get_text()}
    files = {font_file_for(letter) for letter in letters if not draws(_base_font(), letter)} - {None}
    if not files:
        return
    families = ["DejaVu Sans"]
    for file in sorted(map(str, files)):
        if not any(entry.fname == file for entry in font_manager.fontManager.ttflist):
            font_manager.fontManager.addfont(file)
        families.append(font_manager.get_font(file).family_name)
    for text in texts:
        text.set_fontfamily(families)


def finish_svg(content: bytes, titles: Mapping[str, Sequence[str]] = MappingProxyType({})) -> bytes:
    """An SVG for a page: with the titles, without what is not needed, and with ids of its own."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(content)
    root.set("style", _FONT)
    prefix = "v" + hashlib.sha256(content).hexdigest()[:8]
    ids: dict[str, str] = {}
    for gid in re.findall(r'(?:url\(|href=")#([\w-]+)', content.decode()):
        ids.setdefault(gid, f"{prefix}-{len(ids)}")
    for element in list(root.iter()):
        if (gid := element.attrib.pop("id", "")) in titles:
            _insert_titles(element, titles[gid])
        if gid in ids:
            element.set("id", ids[gid])
    for element in root.iter():
        for child in element.findall(f"{{{_SVG}}}metadata"):
            element.remove(child)
        for name in ("clip-path", "style", _HREF):
            if value := element.get(name):  # in a style there are colours like #0072b2 too
                element.set(name, re.sub(r"(?<=#)[\w-]+", lambda match: ids.get(match[0], match[0]), value))
        _shorten(element)
    _share_styles(root, prefix)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _original(text: str) -> str:
    """A viewer has fonts of its own: the letters themselves instead of the numbers that `readable` gives them."""

    def letter(match: re.Match[str]) -> str:
        written = chr(int(match[0][2:], 16))
        return match[0] if printable(written) != written or draws(_base_font(), written) else written

    return re.sub(r"\\u[0-9a-f]{4}|\\U000[0-9a-f]{5}|\\U0010[0-9a-f]{4}", letter, text)


def _insert_titles(element: ElementTree.Element, titles: Sequence[str]) -> None:
    drawn = [child for parent in element.iter() if parent.tag != f"{{{_SVG}}}defs" for child in parent]
    dots = [child for child in drawn if child.tag in _SHAPES] if len(titles) > 1 else [element]
    for dot, text in zip(dots, titles, strict=True):
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = printable(text)
        dot.insert(0, title)
    for name in ("style", "clip-path"):  # written once if it is the same for all dots
        values = {dot.get(name) for dot in dots}
        if len(dots) > 1 and len(values) == 1 and (value := values.pop()):
            element.set(name, value)
            for dot in dots:
                del dot.attrib[name]


def _shorten(element: ElementTree.Element) -> None:
    """Drop indentation, empty groups, groups of one element, the common font, and more than two decimals."""
    if element.tag not in _WITH_TEXT:
        element.text = None
    elif element.text and element.tag != f"{{{_SVG}}}title":
        element.text = _original(element.text)
    element.tail = None
    for index in range(len(element) - 1, -1, -1):
        while element[index].tag == _GROUP and not element[index].attrib and len(element[index]) == 1:
            element[index] = element[index][0]
        if element[index].tag == _GROUP and len(element[index]) == 0:
            del element[index]
    for name in ("d", "x", "y", "transform"):
        if value := element.get(name):
            value = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), value)
            element.set(name, " ".join(value.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag == f"{{{_SVG}}}text":
        element.set("style", element.attrib["style"].replace(f"{_FONT}; ", ""))


def _share_styles(root: ElementTree.Element, prefix: str) -> None:
    """Replace styles that occur more than twice by classes."""
    counts = Counter(element.get("style", "") for element in root.iter())
    classes = {style: f"{prefix}s{i}" for i, (style, count) in enumerate(counts.items()) if style and count > 2}
    for element in root.iter():
        if (style := element.get("style", "")) in classes:
            del element.attrib["style"]
            element.set("class", classes[style])
    rules = root.find(f".//{{{_SVG}}}style")
    assert rules is not None, "matplotlib writes a style element"
    rules.text = (rules.text or "") + "".join(f" .{name} {{{style}}}" for style, name in classes.items())
