"""What describes a YOLO dataset: a YAML file, darknet's .data file, or a file of class names alone."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vovnet import yaml_parsing
from vovnet.media.pixels import IMAGE_SUFFIXES
from vovnet.parsing import naming, read_lines, read_text
from vovnet.printing import line, quoted
from vovnet.yaml_parsing import compose_yaml

ALL = "all"  # the split of every image, where only a file of class names describes the dataset
SPLITS = ("train", "val", "test")
CLASSES = "classes.txt"
_DARKNET_LABELS = "_darknet.labels"  # of Roboflow, in the folder of each split
NAME_FILES = (CLASSES, "obj.names", "data.names", _DARKNET_LABELS)

_YAML_NAMES = ("data.yaml", "data.yml")
YAML_SUFFIXES = (".yaml", ".yml")
_LONGEST_PATH, _MOST_FOLDERS = 4096, 30  # characters of a path, and folders in it that may be those of a machine
_OTHER_KEYS = {"val": ("valid", "validation")}  # further names of a split's key, as darknet and some exports write it
_SUBSET = re.compile(r"\w[\w .-]{0,99}")
_EMPTY = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Settings:
    """What a file says about the dataset of its folder.

    folder: the data folder, in which `path` lies.
    entries: split → folders and lists of images as written; empty if a file of names describes the dataset and there
        are no lists.
    base: the folder that the entries are relative to, as written: often one of another machine.
    keypoints: numbers per object after the box (`kpt_shape`), None if the labels have no keypoints.
    """

    path: Path
    folder: Path
    class_names: tuple[str, ...]
    entries: Mapping[str, tuple[str, ...]]
    base: str = "."
    keypoints: int | None = None


def usual_yaml(root: Path) -> str:
    """The name of the YAML file that is called as most are; "" without one."""
    return next((name for name in _YAML_NAMES if (root / name).is_file()), "")


def find_settings(root: Path) -> Path | None:
    """The file that describes the dataset in a folder, or `root` itself if it is a file.

    data.yaml takes precedence, then any YAML file with names and splits, darknet's .data file, and a file of names.
    ValueError if several YAML files have names and splits.
    """
    if root.is_file():
        return root
    usual = [root / name for name in _YAML_NAMES if (root / name).is_file()]
    others = [path for path in _files(root, YAML_SUFFIXES) if path not in usual]
    described = [path for path in usual if _describes_dataset(path)][:1] or list(filter(_describes_dataset, others))
    if len(described) > 1:
        names = ", ".join(path.name for path in described)
        raise ValueError(
            f"{root} has several YAML files with names and splits ({names}): name one instead of the folder"
        )
    darknet = [path for path in _files(root, (".data",)) if "names" in _parse_darknet(path)]
    alone = [path for name in NAME_FILES for path in (root / name, root / "labels" / name) if path.is_file()]
    return next(iter((*described, *usual, *darknet, *alone, *_darknet_folders(root).values())), None)


def read_settings(root: Path) -> Settings:
    """The settings of a dataset that `find_settings` found. ValueError for a file that does not describe one."""
    path = find_settings(root)
    assert path is not None, "the format was recognised before"
    folder = root if root.is_dir() else root.parent
    if path.name in NAME_FILES:
        return Settings(path, folder, _check_names(_name_lines(path), path), _entries_beside_names(folder, path))
    if path.suffix.lower() == ".data":
        content: Mapping[str, Any] = _parse_darknet(path)
        names_path = find_inside(folder, str(content.get("names")))
        if names_path is None:
            raise ValueError(f"{path}: names = {line(str(content.get('names')))} is not a file in {folder}")
        return Settings(
            path, folder, _check_names(_name_lines(names_path), names_path), _entries(content, path, folder)
        )
    content = parse_yaml(path)
    base = content.get("path", ".")
    if not isinstance(base, str):
        raise ValueError(f"{path}: path must be a folder, got a list or dictionary")
    return Settings(
        path, folder, _yaml_names(content, path), _entries(content, path, folder), base, _keypoints(content, path)
    )


def _darknet_folders(root: Path) -> dict[str, Path]:
    """Split → the file of class names in its folder, as Roboflow exports them."""
    return {path.parent.name: path for path in sorted(root.glob(f"*/{_DARKNET_LABELS}"))}


def _entries_beside_names(folder: Path, path: Path) -> dict[str, tuple[str, ...]]:
    """The splits where a file of class names describes the dataset: its folders, or lists such as train.txt."""
    if path.name == _DARKNET_LABELS and path.parent != folder:
        files = _darknet_folders(folder)
        names = {split: _name_lines(other) for split, other in files.items()}
        differing = next((split for split in names if names[split] != _name_lines(path)), None)
        if differing is not None:
            raise ValueError(f"{files[differing]} has other class names than {path}: give both the same lines")
        return {split: (split,) for split in files}
    spellings = {split: (split, *_OTHER_KEYS.get(split, ())) for split in SPLITS}
    lists = {
        split: [name for stem in spellings[split] if is_list(folder / (name := f"{stem}.txt"))] for split in SPLITS
    }
    return {split: tuple(names[:1]) for split, names in lists.items() if names}


def is_list(path: Path) -> bool:
    """Whether a text file lists images, rather than the objects of one."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [file.readline(_LONGEST_PATH) for _ in range(20)] if path.is_file() else []
    except (OSError, ValueError):
        return False
    first = next((stated for line_of_file in lines if (stated := line_of_file.strip("\ufeff \t\r\n"))), "")
    return first.lower().endswith(IMAGE_SUFFIXES)


def find_inside(folder: Path, entry: str, bases: Iterable[Path] = ()) -> Path | None:
    """What an entry means, as a path in the data folder; None if that does not exist or lies outside.

    Entries often come from another machine, with its folders and separators, and some tools write `../train/images` for
    a folder beside the YAML file. So the entry is tried as it is, then without more and more of its leading folders.
    The name `images` alone is too common to tell a split.
    """
    if len(entry) > _LONGEST_PATH:
        return None
    inside = folder.resolve()
    spelled = entry.replace("\\", "/").strip()
    parts = [part for part in spelled.split("/") if part not in ("", ".", "..")]
    if any(part.endswith(":") for part in parts[:1]):  # C:/…
        parts = parts[1:]
    tails = ["/".join(parts[start:]) for start in range(max(0, len(parts) - _MOST_FOLDERS), len(parts))]
    if len(tails) > 1 and tails[-1].lower() == "images":
        tails.pop()
    bases = (*bases, folder)
    for candidate in (
        *(base / name for base in bases for name in (entry, spelled)),
        *(folder / tail for tail in tails),
    ):
        try:
            if candidate.exists() and candidate.resolve().is_relative_to(inside):
                named = Path(os.path.normpath(candidate))
                if named.exists() and named.is_relative_to(os.path.normpath(folder)):
                    relative = named.relative_to(os.path.normpath(folder))
                    if "images" in relative.parts:  # labels/ is beside this name, wherever it leads
                        return folder / relative
                return folder / candidate.resolve().relative_to(inside)
        except (OSError, ValueError, RuntimeError):  # too long, with a NUL, or a loop of links: no path
            continue
    return None


def exists(path: Path) -> bool:
    """Whether there is a file or folder, for a path that a file states: it may be none at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def parse_yaml(path: Path) -> Mapping[str, Any]:
    """The top level of a YAML file, with all scalars as text: `yes` and `1.0` are class names like others.

    Aliases are refused and no tag is followed, so a small file stays small.
    """
    with naming(path):
        content = _parse(read_text(path, "yaml_bytes"))
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else "text" if content else "nothing"
        raise ValueError(f"{path} must hold the keys train, val and names, got {kind}")
    return content


@lru_cache(maxsize=2)
def _parse(text: str) -> Any:
    """The content of a YAML text, which is needed several times and takes long for thousands of names."""
    return yaml_parsing.parse_yaml(text)


def write_yaml(path: Path, out: Path, entries: Mapping[str, str]) -> None:
    """The YAML file with these entries and without `path`; everything else stays as it is."""
    with naming(path):
        node: Any = compose_yaml(path)
    replaced = {"path", *entries, *(key for split in entries for key in _OTHER_KEYS.get(split, ()))}
    kept = [
        (key, value) for key, value in node.value if key.value not in replaced and key.value.lower() not in replaced
    ]
    text = "tag:yaml.org,2002:str"
    added = [(yaml.ScalarNode(text, key), yaml.ScalarNode(text, value)) for key, value in entries.items()]
    node.value = added + kept
    out.write_text(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True), encoding="utf-8")


def _files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.suffix.lower() in suffixes and path.is_file())


def _describes_dataset(path: Path) -> bool:
    try:
        content = parse_yaml(path)
    except ValueError:
        return False
    return "names" in content and any(_entry(content, split) for split in SPLITS)


def _entry(content: Mapping[str, Any], split: str) -> Any:
    """What the file says about a split; None for nothing."""
    spelled = (split, *_OTHER_KEYS.get(split, ()))
    keys = (*spelled, *(key for key in content if key.lower() in spelled))  # CVAT's subsets are called Train
    values = (content.get(key) for key in keys)
    return next((value for value in values if value is not None and value not in _EMPTY), None)


def _entries(content: Mapping[str, Any], path: Path, folder: Path) -> dict[str, tuple[str, ...]]:
    """Split → its folders and lists: train, val and test, and further keys whose value is a list of images."""
    entries = {}
    for split in SPLITS:
        value = _entry(content, split)
        listed = [value] if isinstance(value, str) else value or []
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise ValueError(f"{path}: {split} must be a folder or list of images, or several of them")
        stated = tuple(entry for entry in listed if entry not in _EMPTY)
        if stated:
            entries[split] = stated
    usual = {*SPLITS, *(key for keys in _OTHER_KEYS.values() for key in keys)}
    for key, value in content.items():
        if key.lower() not in usual and _SUBSET.fullmatch(key) and isinstance(value, str) and value.endswith(".txt"):
            found = find_inside(folder, value)
            if found is not None and is_list(found):
                entries[key] = (value,)
    if not entries:
        raise ValueError(f"{path} must name a folder or list of images under train, val or test")
    return entries


def _yaml_names(content: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """`names`: a list, or a dictionary with the keys 0, 1, 2, …"""
    names = content.get("names")
    expected = f"{path}: names must be a list of class names, or a dictionary with the keys 0, 1, 2, …"
    if isinstance(names, dict):
        wrong = next((key for key in names if not _is_small_number(key)), None)
        if wrong is not None:
            raise ValueError(f"{expected}, got the key {quoted(wrong, 40)}")
        by_index = {int(key): name for key, name in names.items()}
        if len(by_index) < len(names):
            raise ValueError(f"{expected}, but two keys are the same number")
        gap = next((index for index in range(len(names)) if index not in by_index), None)
        if gap is not None:
            raise ValueError(f"{expected}, but {gap} is missing: give it a name, too")
        names = [by_index[index] for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        got = (
            f"the text {quoted(names, 40)}"
            if isinstance(names, str)
            else "something else in it"
            if names
            else "nothing"
        )
        raise ValueError(f"{expected}, got {got}")
    count = content.get("nc", str(len(names)))
    if not isinstance(count, str) or count.strip() != str(len(names)):
        stated = line(count, 40) if isinstance(count, str) else "no number"
        raise ValueError(f"{path}: nc is {stated}, but names has {len(names)} entries: make them agree")
    return _check_names(names, path)


def _check_names(names: list[str], path: Path) -> tuple[str, ...]:
    if not names:
        raise ValueError(f"{path} must hold a class name on each line, got an empty file")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: class names must differ from each other, but {quoted(twice, 40)} is there twice")
    return tuple(names)


def _name_lines(path: Path) -> list[str]:
    """One class name a line; blank lines may only follow the last one, because the number of a line counts."""
    with naming(path):
        lines = [line.strip() for line in "\n".join(read_lines(path, "yaml_bytes")).rstrip().split("\n")]
    if lines != [""] and "" in lines:
        raise ValueError(
            f"{path}: line {lines.index('') + 1} is blank: give the class a name, because its number counts"
        )
    return [] if lines == [""] else lines


def _keypoints(content: Mapping[str, Any], path: Path) -> int | None:
    shape = content.get("kpt_shape")
    if shape is None or shape in _EMPTY:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(_is_small_number, shape)):
        raise ValueError(f"{path}: kpt_shape must be [number of keypoints, 2 or 3], such as [17, 3]")
    count, dimensions = map(int, shape)
    if dimensions not in (2, 3) or not 0 < count <= 10_000:
        raise ValueError(f"{path}: kpt_shape must be [number of keypoints, 2 or 3], got [{shape[0]}, {shape[1]}]")
    return count * dimensions


def _is_small_number(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 7


def _parse_darknet(path: Path) -> dict[str, str]:
    """The lines `key = value` of a .data file; {} for a file of another kind."""
    try:
        pairs = (line.partition("=") for line in read_lines(path, "yaml_bytes"))
    except ValueError:
        return {}
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}
