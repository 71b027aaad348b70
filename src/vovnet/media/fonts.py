"""Text in any script: with the fonts of this system where the usual one lacks a letter, else written in another way.

Pillow and matplotlib draw a box for a letter that a font lacks. Class names and file names come in all scripts.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from PIL import ImageDraw, ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
Run: TypeAlias = tuple[Font, str]
PREFERRED = ("dejavusans", "notosans", "sourcehan", "wqy", "pingfang", "hiragino", "yahei", "yugoth", "malgun", "arial")
UNUSUAL = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "cond", "heavy", "medium")
NO_LETTER = "\U0010ffff"  # never assigned, so that every font draws what it draws for a letter that it lacks
UNASSIGNED = "\u0378"  # only a font of last resort draws it, and a placeholder for every other letter too
PROBE_SIZE = 20

load_default = lru_cache(maxsize=32)(ImageFont.load_default)
load_font = lru_cache(maxsize=64)(ImageFont.truetype)


def font_folders() -> Iterator[Path]:
    """Where this system keeps its fonts; and matplotlib its own, if it is installed."""
    home = Path.home()
    if sys.platform == "darwin":
        yield from (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    elif sys.platform == "win32":
        yield Path(os.environ.get("LOCALAPPDATA", home), "Microsoft/Windows/Fonts")
        yield Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts")
    else:
        yield Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share", "fonts")
        yield home / ".fonts"
        for folder in (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":"):
            yield Path(folder, "fonts")
    matplotlib = find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin is not None:
        yield Path(matplotlib.origin).parent / "mpl-data/fonts/ttf"


@cache
def _system_fonts() -> tuple[tuple[Path, ImageFont.FreeTypeFont], ...]:
    """The fonts with outlines, the most usual first; without those of last resort, such as matplotlib's."""
    files = {file for folder in font_folders() for file in folder.rglob("*") if file.suffix in (".ttf", ".otf", ".ttc")}

    def rank(file: Path) -> tuple[bool, int, str]:
        name = file.stem.lower()
        unusual = any(word in name for word in UNUSUAL)
        known = (place for place, start in enumerate(PREFERRED) if name.replace("-", "").startswith(start))
        return unusual, next(known, len(PREFERRED)), str(file)

    fonts = []
    for file in sorted(files, key=rank):
        try:
            font = ImageFont.truetype(str(file), PROBE_SIZE)
        except (OSError, ValueError):  # damaged, or of coloured bitmaps
            continue
        if not draws(font, UNASSIGNED):
            fonts.append((file, font))
    return tuple(fonts)


def draws(font: Font, letter: str) -> bool:
    """Whether the font has a letter. One that takes no room, such as a space, is had by all."""
    if letter.isspace():
        return True
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    # A mark that joins the letter before it is laid out on a dotted circle.
    lacking = (NO_LETTER, f"\N{DOTTED CIRCLE}{NO_LETTER}")
    try:
        drawn, *others = (_ink(font, text) for text in (letter, *lacking))
    except ValueError:  # the layout of a letter that only joins others
        return False
    return drawn is not None and drawn not in others


def _ink(font: ImageFont.FreeTypeFont, text: str) -> tuple[tuple[int, int], bytes] | None:
    """Size and pixels of what is drawn, without its margins; None if that is nothing."""
    mask = font.getmask(text, mode="L")
    box = mask.getbbox()
    if box is None:
        return None
    ink = mask.crop(box)
    return ink.size, bytes(ink)


@lru_cache(maxsize=4096)
def font_file_for(letter: str) -> Path | None:
    """The font of this system that has a letter."""
    return next((file for file, font in _system_fonts() if draws(font, letter)), None)


@lru_cache(maxsize=4096)
def _base_draws(letter: str, base: Font) -> bool:
    return draws(base, letter)


@lru_cache(maxsize=4096)
def _is_drawn(letter: str, base: Font) -> bool:
    return _base_draws(letter, base) or font_file_for(letter) is not None


def readable(text: str, base: Font) -> str:
    """The text in one line, with every letter that neither `base` nor a font of this system has in another form.

    That is without its accent where that helps ("e" for "é"), else its number ("\\u732b").
    """
    return "".join(_drawable(letter, base) for letter in unicodedata.normalize("NFC", text))


def _drawable(letter: str, base: Font) -> str:
    if letter.isspace():
        return letter if letter in " \u00a0\u3000" else " "
    if _is_drawn(letter, base):
        return letter
    if unicodedata.category(letter) == "Cf" or unicodedata.name(letter, "").startswith("VARIATION SELECTOR"):
        return ""  # they join or choose forms of their neighbours
    plain = [part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)]
    if plain != [letter] and plain and all(_is_drawn(part, base) for part in plain):
        return "".join(plain)
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def text_runs(text: str, base: Font) -> list[Run]:
    """The readable text in pieces, each with the font that draws it: `base` where that has the letters."""
    if text.isascii() and text.isprintable():
        return [(base, text)] if text else []
    size = base.size if isinstance(base, ImageFont.FreeTypeFont) else PROBE_SIZE

    def font_of(letter: str) -> Path | None:
        return None if _base_draws(letter, base) else font_file_for(letter)

    runs = groupby(readable(text, base), font_of)
    return [(base if file is None else load_font(str(file), size), "".join(letters)) for file, letters in runs]


def runs_box(draw: ImageDraw.ImageDraw, runs: Sequence[Run]) -> tuple[float, float, float, float]:
    """The box of the pieces in one line: x1 y1 x2 y2 from the start of the line at its baseline."""
    boxes, x = [], 0.0
    for font, text in runs:
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="ls")
        boxes.append((x + left, top, x + right, bottom))
        x += font.getlength(text)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True) if boxes else ((0,), (0,), (0,), (0,))
    return min(lefts), min(tops), max(rights), max(bottoms)


def draw_runs(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], runs: Sequence[Run], fill: tuple[int, int, int]
) -> None:
    """Draw the pieces in one line. start: on its baseline."""
    x, y = start
    for font, text in runs:
        draw.text((x, y), text, fill=fill, font=font, anchor="ls")
        x += font.getlength(text)
