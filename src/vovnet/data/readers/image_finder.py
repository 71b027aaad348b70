"""Finds the image files that the entries of COCO, CVAT and CSV files name, in the folders where these have them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from vovnet.data.dataset import OnProblem
from vovnet.data.keys import KeySet, are_repeated, keys_of
from vovnet.data.readers.image_index import plain_name
from vovnet.printing import line, quoted


class ImageFinder:
    """Finds images in a split's folders.

    folders: the first one that has a file of the name is used.
    file_names: those of all images of the split, as its file states them.
    """

    def __init__(
        self, folders: Sequence[Path], file_names: Iterable[object], path: Path, on_problem: OnProblem
    ) -> None:
        self.folders, self.path, self.on_problem = folders, path, on_problem
        keys = keys_of(_to_path(name).name for name in file_names if isinstance(name, str))
        self._repeated = KeySet(keys[are_repeated(keys)])  # what several images are called
        self._names: dict[Path, dict[str, str]] = {}  # folder → names of its files by their lower case

    def find(self, file_name: object) -> Path | None:
        """The image of this name, or None after a problem was reported.

        Programs that ran elsewhere state a path that only they know, such as that of an upload. Then the file's own
        name finds it, if no other image of the split has it.
        """
        if not isinstance(file_name, str) or not file_name:
            self.on_problem("bad-annotation", self.path, f"an image must have a file_name, got {quoted(file_name, 40)}")
            return None
        relative = _to_path(file_name)
        inside = relative.parts and not (relative.is_absolute() or ".." in relative.parts or ":" in relative.parts[0])
        found = self._find(relative) if inside else None
        if found is None and relative.name and relative.name not in self._repeated:
            found = self._find(PurePosixPath(relative.name))
        if found is None and not inside:
            detail = f"file_name must stay inside the data folder, got {quoted(file_name, 40)}"
            self.on_problem("bad-annotation", self.path, detail)
        elif found is None:
            names = ", ".join(line(folder.name, 40) for folder in self.folders)
            name = file_name if file_name.isprintable() and len(file_name) < 200 else quoted(file_name, 40)
            detail = f"lists {name}, which is in none of the folders {names}"
            self.on_problem("missing-image", self.path, detail)
        return found

    def _find(self, relative: PurePosixPath) -> Path | None:
        paths = [folder / relative for folder in self.folders]
        try:
            exact = next((path for path in paths if path.is_file()), None)
            return exact or next(filter(None, map(self._find_alike, paths)), None)
        except OSError:  # a name too long for the file system
            return None

    def _find_alike(self, path: Path) -> Path | None:
        """The file whose name differs in case or Unicode form only, as names on Windows and macOS may."""
        folder = path.parent
        if folder not in self._names:
            names = os.listdir(folder) if folder.is_dir() else []
            counts = Counter(map(plain_name, names))
            self._names[folder] = {plain_name(name): name for name in names if counts[plain_name(name)] == 1}
        name = self._names[folder].get(plain_name(path.name))
        return folder / name if name is not None and (folder / name).is_file() else None


def _to_path(file_name: str) -> PurePosixPath:
    return PurePosixPath(file_name.replace("\\", "/"))
