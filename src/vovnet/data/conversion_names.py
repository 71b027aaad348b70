"""What the image files of a converted dataset are called: there they are in one folder, and lists and XML name them."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from vovnet.data.dataset import inside
from vovnet.data.keys import KeySet, are_repeated, keys_of, text_key
from vovnet.data.spooled import Texts, in_order
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
        # Of two folders, the one whose name begins the other's comes first.
        ordered = in_order(path.replace(os.sep, "\0") for path in paths)
        different = Texts(path.replace("\0", os.sep) for path, _ in groupby(ordered))
        stems = keys_of((_key(_stem(path)) for path in different), len(different))
        taken = KeySet(stems)  # each by the first image that has it
        given: set[str] = set()
        for path, is_shared in zip(different, are_repeated(stems).tobytes(), strict=True):
            chosen = _stem(path)
            if is_shared:
                if _key(chosen) in given:
                    with_folders = _plain(re.sub(r"[/\\]", "_", os.path.splitext(_relative(path, folder))[0]))
                    numbered = (f"{with_folders}_{number}" for number in range(2, len(different) + 2))
                    candidates = itertools.chain((with_folders,), numbered)
                    chosen = next(c for c in candidates if _key(c) not in taken and _key(c) not in given)
                given.add(_key(chosen))
            self._name(path, chosen, folder)

    def _name(self, path: str, stem: str, folder: Path) -> None:
        name = os.path.basename(path)
        suffix = os.path.splitext(name)[1]
        chosen = file_name(stem, suffix.lower() if suffix.isascii() else ".jpg")
        if chosen != name:
            self.renamed[_relative(path, folder)] = self._names[text_key(path)] = chosen

    def __call__(self, path: str) -> str:
        return self._names.get(text_key(path)) or os.path.basename(path)


def _stem(path: str) -> str:
    return _plain(os.path.splitext(os.path.basename(path))[0])


def _plain(text: str) -> str:
    """A name that lists and XML can hold."""
    return re.sub(r"[\N{REPLACEMENT CHARACTER}\s]", lambda found: " " if found[0] == " " else "_", printable(text))


def _key(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
