"""Finds images by what the files of labelling tools call them."""

from __future__ import annotations

import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from vovnet.media.pixels import IMAGE_SUFFIXES


class ImageIndex:
    """The images of a data folder. No name finds one outside it.

    A name may differ from that of the file in case and Unicode form, as names on Windows and macOS do, if only one file
    has such a name.
    """

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self.root = root
        self._paths: dict[str, Path] = {}
        self._alike: defaultdict[str, list[Path]] = defaultdict(list)  # by path
        self._named: defaultdict[str, list[Path]] = defaultdict(list)
        self._stems: defaultdict[str, list[Path]] = defaultdict(list)
        for path in images:
            relative = path.relative_to(root).as_posix()
            self._paths[relative] = path
            self._alike[_plain(relative)].append(path)
            self._named[_plain(path.name)].append(path)
            self._stems[_plain(path.stem)].append(path)

    def at(self, folder: Path, stated: str) -> Path | None:
        """The image at a path that is relative to a folder of the dataset."""
        joined = posixpath.normpath(posixpath.join(folder.relative_to(self.root).as_posix(), stated))
        return self._paths.get(joined) or _only(self._alike.get(_plain(joined), []))

    def named(self, name: str) -> Path | None:
        """The only image of this name in any folder."""
        return _only(self._named.get(_plain(name), []))

    def beside(self, path: Path) -> list[Path]:
        """The images in the folder of a file that have its stem, in the order of IMAGE_SUFFIXES."""
        found = [image for image in self._stems.get(_plain(path.stem), []) if image.parent == path.parent]
        exact = [image for image in found if image.stem == path.stem]
        return sorted(exact or found, key=lambda image: IMAGE_SUFFIXES.index(image.suffix.lower()))

    def with_stem(self, stem: str) -> Path | None:
        """The only image of this stem in any folder."""
        return _only(self._stems.get(_plain(stem), []))

    @property
    def images(self) -> Iterable[Path]:
        return self._paths.values()


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


def _only(paths: list[Path]) -> Path | None:
    return paths[0] if len(paths) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()
