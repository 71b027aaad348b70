"""What the image files of a converted dataset are called: there they are in one folder, and lists and XML name them."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from vovnet.data.dataset import inside
from vovnet.data.keys import text_key
from vovnet.files import encodable, file_name
from vovnet.printing import printable


def _relative(path: str, folder: Path) -> str:
    return encodable(inside(folder, path) if Path(path).is_relative_to(folder) else os.path.basename(path))


class FileNames:
    """The name of each image in one folder for all. Stems differ, whatever the case and Unicode form.

    Of images with the same stem, all but the first get the folders of their path before the name, or else a number.

    renamed: path in the data folder → name in the copy, where the two names differ.
    """

    def __init__(self, paths: Iterable[str], folder: Path) -> None:
        self.renamed: dict[str, str] = {}
        self._names: dict[int, str] = {}  # of the renamed ones, by their keys
        taken: set[int] = set()
        different = {text_key(path): path for path in paths}
        for path in sorted(different.values(), key=lambda path: path.split(os.sep)):
            name = os.path.basename(path)
            stem, suffix = os.path.splitext(name)
            with_folders = _plain(re.sub(r"[/\\]", "_", os.path.splitext(_relative(path, folder))[0]))
            numbered = (f"{with_folders}_{number}" for number in range(2, len(different) + 2))
            candidates = itertools.chain((_plain(stem), with_folders), numbered)
            chosen = next(candidate for candidate in candidates if text_key(_key(candidate)) not in taken)
            taken.add(text_key(_key(chosen)))
            chosen = file_name(chosen, suffix.lower() if suffix.isascii() else ".jpg")
            if chosen != name:
                self.renamed[_relative(path, folder)] = self._names[text_key(path)] = chosen

    def __call__(self, path: str) -> str:
        return self._names.get(text_key(path)) or os.path.basename(path)


def _plain(text: str) -> str:
    """A name that lists and XML can hold."""
    return re.sub(r"[\N{REPLACEMENT CHARACTER}\s]", lambda found: " " if found[0] == " " else "_", printable(text))


def _key(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
