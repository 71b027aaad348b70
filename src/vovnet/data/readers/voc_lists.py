"""Pascal VOC's lists of images: one name a line, which a flag may follow."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from vovnet.data.keys import are_repeated, keys_of
from vovnet.data.text_table import TextTable
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.parsing import each_line

_MOST_FOLDERS = 30  # of a path, whose ends may name an annotation
_MOST_NUMBERS = 30  # after a name in a list
_NUMBER = re.compile(r"-?\d+")
_FLAGS = ("-1", "0", "1")
_ABOUT = re.compile(r"(read[ _-]?me|licen[cs]e|copying|notice)(\W|$)", re.IGNORECASE)
_LONGEST_PATH = 4096  # characters; no file system has longer ones


def find_lists(folder: Path) -> dict[str, Path]:
    """Name → list of a folder."""
    return {path.stem: path for path in sorted(folder.glob("*.txt")) if is_list(path)}


def is_list(path: Path) -> bool:
    """Whether a text file beside lists is one, and no text about the dataset."""
    return not _ABOUT.match(path.stem)


class NameFinder:
    """Finds which annotation a line of a list means, by what exists.

    names: of the annotations: path in their folder, without suffix. Whether a name is among them is looked up often.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._by_stem, self._by_form = TextTable(), TextTable()  # of nested names; of such in another form of Unicode
        if any(_normalise(name) != name for name in names):
            self._by_form = TextTable((form, name) for name in names if (form := _normalise(name)) != name)
        if any("/" in name for name in names):
            shares_stem = are_repeated(keys_of(map(_stem, names), len(names)))
            self._by_stem = TextTable(
                (_normalise(_stem(name)), name)
                for name, shares in zip(names, shares_stem.tolist(), strict=True)
                if "/" in name and not shares
            )

    def _named(self, text: str) -> str | None:
        return text if text in self._names else self._by_form.get(text)

    def find(self, line: str, *, flagged: bool) -> str | None:
        """The name, or None if there is no such annotation.

        flagged: the list is for one class, so `photo 1` is more likely `photo` with a flag than the name `photo 1`.
        """
        if len(line) > _LONGEST_PATH:
            return None
        name = _without_flag(line)
        without_flag = [name.strip(), name.rstrip(), name] if name else []
        readings = [*without_flag, line, line.strip()] if flagged else [line, line.strip(), *without_flag]
        return next((name for reading in readings for name in self._spellings(reading)), None)

    def _spellings(self, text: str) -> Iterator[str]:
        """The annotations that a text may name: without suffix, in a longer path, or by the stem alone."""
        text = _normalise(text)
        for spelling in dict.fromkeys((text, _without_suffix(text), _without_suffix(text.replace("\\", "/")))):
            parts = spelling.split("/")
            starts = (0, *range(max(1, len(parts) - _MOST_FOLDERS), len(parts)))
            tails = ("/".join(parts[start:]) for start in starts)
            yield from filter(None, map(self._named, tails))
            if (name := self._by_stem.get(spelling)) is not None:
                yield name


def read_list(path: Path) -> Iterator[str]:
    """The lines that are not blank. ValueError, without the path, for a file that is not UTF-8 text."""
    return (line for line in each_line(path, "list_bytes") if line.strip())


def is_for_one_class(name: str, names: Collection[str]) -> bool:
    """Whether a list is like `cat_train` beside `train`."""
    last = name.rpartition("_")[2]
    return last != name and last in names


def filter_lines(lines: Iterable[str], kept: Collection[str], finder: NameFinder, *, flagged: bool) -> list[str]:
    """The lines of the kept names, each name once."""
    found: dict[str, str] = {}
    for line in lines:
        name = finder.find(line, flagged=flagged)
        if name is not None and name in kept:
            found.setdefault(name, line)
    return list(found.values())


def drop_lines(lines: Iterable[str], names: Collection[str], finder: NameFinder) -> list[str]:
    """The lines but those of these names, which numbers may follow, as in the lists of actions."""

    def find(line: str) -> str | None:
        for _ in range(_MOST_NUMBERS):
            name = finder.find(line, flagged=False)
            *before, number = line[-_LONGEST_PATH:].rsplit(maxsplit=1) or [""]
            if name is not None or not before or not _NUMBER.fullmatch(number):
                return name
            line = before[0]
        return None

    return [line for line in lines if find(line) not in names]


def _without_flag(line: str) -> str:
    """What precedes a flag and a space before it; "" if the line has no such end."""
    line = line.rstrip()
    flag = next((flag for flag in _FLAGS if line.endswith(flag)), "")
    name = line.removesuffix(flag)
    return name[:-1] if flag and name[-1:].isspace() and name.strip() else ""


def _normalise(text: str) -> str:
    return unicodedata.normalize("NFC", text)  # macOS writes é as e and an accent


def _stem(name: str) -> str:
    return name.rpartition("/")[2]


def _without_suffix(text: str) -> str:
    suffixes = (*IMAGE_SUFFIXES, ".xml")
    return next((text[: -len(suffix)] for suffix in suffixes if text.lower().endswith(suffix)), text)
