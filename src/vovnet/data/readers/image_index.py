"""Finds images by what the files of labelling tools call them."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from vovnet.data.dataset import OnProblem
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.printing import line

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")


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
            self._alike[plain_name(relative)].append(path)
            self._named[plain_name(path.name)].append(path)
            self._stems[plain_name(path.stem)].append(path)

    def at(self, folder: Path, stated: str) -> Path | None:
        """The image at a path that is relative to a folder of the dataset."""
        joined = posixpath.normpath(posixpath.join(folder.relative_to(self.root).as_posix(), stated))
        return self._paths.get(joined) or _only(self._alike.get(plain_name(joined), []))

    def named(self, name: str) -> Path | None:
        """The only image of this name in any folder."""
        return _only(self._named.get(plain_name(name), []))

    def beside(self, path: Path) -> list[Path]:
        """The images in the folder of a file that have its stem, in the order of IMAGE_SUFFIXES."""
        found = [image for image in self._stems.get(plain_name(path.stem), []) if image.parent == path.parent]
        exact = [image for image in found if image.stem == path.stem]
        return sorted(exact or found, key=lambda image: IMAGE_SUFFIXES.index(image.suffix.lower()))

    def with_stem(self, stem: str) -> Path | None:
        """The only image of this stem in any folder."""
        return _only(self._stems.get(plain_name(stem), []))

    @property
    def images(self) -> Iterable[Path]:
        return self._paths.values()


class UploadFinder:
    """Finds the images that the entries of labelling tools name, file after file: an upload may have renamed them."""

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self.root, self.index = root, ImageIndex(root, images)
        self._folders: list[Path] = []
        self._counts = Counter[str]()
        self._path = root
        # What a program adds to the name of a file that is uploaded to it, the file may or may not have here.
        self._uploaded: defaultdict[str, list[Path]] = defaultdict(list)
        for image in self.index.images:
            if (name := _without_upload(image.name)) != image.name:
                self._uploaded[plain_name(name)].append(image)

    def start(self, path: Path, split: str, stated: Iterable[str]) -> None:
        """Begin with a file of a split, and all names in it."""
        root = self.root
        folders = (path.parent, path.parent / "images", root / "images" / split, root / split, root / "images", root)
        self._path, self._folders = path, list(dict.fromkeys(folders))
        self._counts = Counter(posixpath.basename(name.replace("\\", "/")) for name in set(stated))

    def find(self, stated: str, on_problem: OnProblem) -> Path | None:
        """The image, or None after a problem was reported.

        It is looked for at its path in the folders where images may be. If none has it, the file's own name finds it,
        unless the file names several images so.
        """
        names = local_names(stated)
        at_path = (self.index.at(folder, name) for name in names for folder in self._folders)
        found = next(filter(None, at_path), None)
        if found is None and names and self._counts[posixpath.basename(names[0])] <= 1:
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
            or _only(self._uploaded.get(plain_name(name), []))
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


def _only(paths: list[Path]) -> Path | None:
    return paths[0] if len(paths) == 1 else None


def plain_name(name: str) -> str:
    """The same for names that differ in case or Unicode form only, as names on Windows and macOS may."""
    return unicodedata.normalize("NFC", name).lower()
