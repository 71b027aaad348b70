"""Finds images by what the files of labelling tools call them."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from vovnet.data.dataset import OnProblem, inside
from vovnet.data.keys import KeySet, are_repeated, keys_of, text_key
from vovnet.data.spooled import Texts
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.printing import line

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")


class ImageIndex:
    """The images of a data folder. No name finds one outside it.

    A name may differ from that of the file in case and Unicode form, as names on Windows and macOS do, if only one file
    has such a name.
    """

    def __init__(self, root: Path, images: Iterable[str]) -> None:
        """images: the paths, each once."""
        self.root, self.paths = root, Texts()
        self._exact, self._alike, self._named, self._stems = (Places() for _ in range(4))
        for number, path in enumerate(images):
            self.paths.add(path)
            relative = inside(root, path)
            name = plain_name(posixpath.basename(relative))
            self._exact.add(relative, number)
            self._alike.add(plain_name(relative), number)
            self._named.add(name, number)
            self._stems.add(plain_name(os.path.splitext(posixpath.basename(relative))[0]), number)

    def at(self, folder: Path, stated: str) -> Path | None:
        """The image at a path that is relative to a folder of the dataset."""
        joined = posixpath.normpath(posixpath.join(folder.relative_to(self.root).as_posix(), stated))
        return self.only(self._exact.of(joined)) or self.only(self._alike.of(plain_name(joined)))

    def named(self, name: str) -> Path | None:
        """The only image of this name in any folder."""
        return self.only(self._named.of(plain_name(name)))

    def beside(self, path: Path) -> list[Path]:
        """The images in the folder of a file that have its stem, in the order of IMAGE_SUFFIXES."""
        with_stem = (Path(self.paths[number]) for number in self._stems.of(plain_name(path.stem)))
        found = [image for image in with_stem if image.parent == path.parent]
        exact = [image for image in found if image.stem == path.stem]
        return sorted(exact or found, key=lambda image: IMAGE_SUFFIXES.index(image.suffix.lower()))

    def with_stem(self, stem: str) -> Path | None:
        """The only image of this stem in any folder."""
        return self.only(self._stems.of(plain_name(stem)))

    def only(self, numbers: Sequence[int]) -> Path | None:
        """The image of these numbers, if it is one."""
        return Path(self.paths[numbers[0]]) if len(numbers) == 1 else None


class Places:
    """Numbers by texts, of which only the keys are kept. All are added before any is asked for."""

    def __init__(self) -> None:
        self._keys, self._numbers = array("q"), array("I")
        self._is_sorted = True

    def add(self, text: str, number: int) -> None:
        self._keys.append(text_key(text))
        self._numbers.append(number)
        self._is_sorted = False

    def of(self, text: str) -> Sequence[int]:
        """The numbers of a text, in the order in which they were added."""
        if not self._is_sorted:
            order = np.argsort(np.frombuffer(self._keys, np.int64), kind="stable")
            self._keys = array("q", np.frombuffer(self._keys, np.int64)[order].tobytes())
            self._numbers = array("I", np.frombuffer(self._numbers, np.uint32)[order].tobytes())
            self._is_sorted = True
        key = text_key(text)
        start = bisect_left(self._keys, key)
        return self._numbers[start : bisect_right(self._keys, key, start)]


class UploadFinder:
    """Finds the images that the entries of labelling tools name, file after file: an upload may have renamed them."""

    def __init__(self, root: Path, images: Iterable[str]) -> None:
        self.root, self.index = root, ImageIndex(root, images)
        self._folders: list[Path] = []
        self._repeated = KeySet(keys_of(()))  # names that several of the stated paths end in
        self._path = root
        # What a program adds to the name of a file that is uploaded to it, the file may or may not have here.
        self._uploaded = Places()
        for number, path in enumerate(self.index.paths):
            image = os.path.basename(path)
            if (name := _without_upload(image)) != image:
                self._uploaded.add(plain_name(name), number)

    def start(self, path: Path, split: str, stated: Iterable[str]) -> None:
        """Begin with a file of a split, and all names in it."""
        root = self.root
        folders = (path.parent, path.parent / "images", root / "images" / split, root / split, root / "images", root)
        self._path, self._folders = path, list(dict.fromkeys(folders))
        whole, last = array("q"), array("q")
        for name in stated:
            whole.append(text_key(name))
            last.append(text_key(posixpath.basename(name.replace("\\", "/"))))
        _, first = np.unique(np.frombuffer(whole, np.int64), return_index=True)
        keys = np.frombuffer(last, np.int64)[first]
        self._repeated = KeySet(keys[are_repeated(keys)])

    def find(self, stated: str, on_problem: OnProblem) -> Path | None:
        """The image, or None after a problem was reported.

        It is looked for at its path in the folders where images may be. If none has it, the file's own name finds it,
        unless the file names several images so.
        """
        names = local_names(stated)
        at_path = (self.index.at(folder, name) for name in names for folder in self._folders)
        found = next(filter(None, at_path), None)
        if found is None and names and posixpath.basename(names[0]) not in self._repeated:
            found = next(filter(None, (self._named(posixpath.basename(name)) for name in names)), None)
        if found is None:
            missing = f"names {line(stated)}, and no image is called so" if stated else "has an entry without a name"
            on_problem("missing-image" if stated else "bad-annotation", self._path, missing)
        return found

    def _named(self, name: str) -> Path | None:
        bare = _without_upload(name)
        return (
            self.index.named(name)
            or (self.index.named(bare) if bare != name else None)
            or self.index.only(self._uploaded.of(plain_name(name)))
        )


def _without_upload(name: str) -> str:
    """The name without the eight digits that Label Studio puts before those of uploaded files."""
    return _UPLOAD.sub("", name)


def local_names(stated: str) -> list[str]:
    """What a path or URL of another machine may be called here, the likeliest first; with / between folders.

    A URL loses its host, and its query unless that names the file, as in Label Studio's /data/local-files/?d=a/b.jpg.
    """
    names = [stated.replace("\\", "/")]
    try:
        parts = urlsplit(names[0])
        queried = parse_qs(parts.query).get("d", [])
    except ValueError:  # brackets where a host is expected, or too many fields
        return names
    names += [query.replace("\\", "/") for query in queried[:1]]
    if parts.query or parts.scheme or parts.fragment:
        names.append(parts.path)
    names += [unquote(name) for name in names]
    return [name for name in dict.fromkeys(names) if posixpath.basename(name)]


def plain_name(name: str) -> str:
    """The same for names that differ in case or Unicode form only, as names on Windows and macOS may."""
    return unicodedata.normalize("NFC", name).lower()
