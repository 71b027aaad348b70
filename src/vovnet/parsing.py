"""Reads text, JSON and YAML that strangers wrote. Whatever a file holds, the outcome is its content or one sentence.

Every error here is a ValueError whose text goes on after the name of the file, "is not UTF-8 text", so that a caller
can report file and reason apart; `naming` joins them.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vovnet.limits import limits, too_much
from vovnet.printing import line, quoted

_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST_DIGITS = 18  # so that a number fits in 64 bits
_DEEPEST = 50
_MOST_NODES = 50_000  # of a YAML file, for which the parser takes seconds: names for 25,000 classes


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the path before the messages of this module."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read_bounded(path: Path, limit: str = "text_bytes") -> bytes:
    """The content of a regular file. ValueError if it cannot be read or is larger than this one of `Limits`.

    A named pipe would wait for ever, so only regular files are opened.
    """
    most = getattr(limits(), limit)
    try:
        if not path.is_file():
            raise ValueError(_why_no_file(path))
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, most) + 1)  # which reserves that much
            if len(data) > size:  # it has grown, or states no size, as those in /proc
                data += file.read(most + 1 - len(data)) if len(data) <= most else b""
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if len(data) > most:
        raise too_much(limit)
    return data


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder, not a file"
    if path.is_symlink() and not path.exists():
        return "is a broken link"
    return "is a special file, such as a pipe or a device" if path.exists() else "does not exist"


def read_text(path: Path, limit: str = "text_bytes") -> str:
    """The text of a UTF-8 file, with or without byte order mark. ValueError for anything else."""
    return decode(read_bounded(path, limit))


def decode(data: bytes) -> str:
    """The text of UTF-8 data, as of a file."""
    if data.startswith(_WIDE_MARKS):
        raise ValueError("is UTF-16 or UTF-32 text, expected UTF-8: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{data[error.start]:02x} at position {error.start}"
        raise ValueError(f"is not UTF-8 text ({byte}): save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("holds NUL bytes, so it is not text: save it as UTF-8")
    return text


def read_lines(path: Path, limit: str = "text_bytes") -> list[str]:
    """The lines of `read_text`, split only where a line ends: file names may hold the other separators of Unicode."""
    return read_text(path, limit).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_json(path: Path, limit: str = "record_bytes") -> Any:
    """The content of a JSON file. ValueError if it is no JSON, or holds a whole number of more than 18 digits."""
    return parse_json(read_bounded(path, limit))


def parse_json(data: bytes | str, *, long_numbers: bool = False) -> Any:
    """The value of a JSON text, as `read_json`.

    long_numbers: take whole numbers of any length. A look at each takes long where millions are, as in COCO's files;
        the caller checks those that it uses.
    """
    parse_int = None if long_numbers else _bounded_int
    try:
        return json.loads(decode(data) if isinstance(data, bytes) else data, parse_int=parse_int)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON ({error}): it is damaged or cut short") from error
    except RecursionError:
        raise ValueError("is not valid JSON for this purpose (it is nested too deeply)") from None
    except ValueError as error:
        if not long_numbers or isinstance(error, UnicodeError):
            raise
        raise ValueError("holds a whole number of thousands of digits") from None


def _bounded_int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(_too_long(text))
    return int(text)


def _too_long(number: str) -> str:
    return f"holds the number {line(number, 30)} of {len(number)} digits, and 64 bits hold {_MOST_DIGITS}"


class _Refused(yaml.YAMLError):
    """Valid YAML that is not read here; the text goes on after the name of the file."""


class _Bounded:
    """Without aliases, which let a few lines stand for gigabytes, and repeated keys; with bounded depth and length."""

    _depth = _nodes = 0

    def compose_node(self: Any, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _Refused(
                f"repeats a part by the alias *{line(event.anchor, 40)} in line {event.start_mark.line + 1}: "
                "write the part out, because aliases are not read"
            )
        self._depth += 1
        self._nodes += 1
        if self._depth > _DEEPEST:
            raise _Refused(f"is nested more than {_DEEPEST} levels deep")
        if self._nodes > _MOST_NODES:
            raise _Refused(f"has more than {_MOST_NODES:,} entries")
        node = super().compose_node(parent, index)  # type: ignore[misc]
        self._depth -= 1
        return node

    def compose_mapping_node(self: Any, anchor: Any) -> yaml.MappingNode:
        """Of two equal keys the last one would win, and nobody would notice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[misc]
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            number = key.start_mark.line + 1
            if (first := lines.get(key.value)) is not None:
                where = f"line {number}" if number == first else f"lines {first} and {number}"
                raise _Refused(f"states {quoted(key.value, 40)} twice, in {where}: leave one out")
            lines[key.value] = number
        return node


class _AsWritten(_Bounded, yaml.SafeLoader):
    """Tells which scalars stand without quotes, as YAML's writer must know to leave them so."""


class TextLoader(_Bounded, yaml.BaseLoader):
    """All scalars as text, because `no`, `012`, `1_000` and `12:30` are names like others. Tags are not followed."""


class ConfigLoader(_Bounded, yaml.SafeLoader):
    """Plain scalars by the core rules of YAML 1.2: null, true, 12, 0x1f, 1e-4, .inf; all others are text, as `no`,
    `012`, `1_000` and `12:30`. Keys are always text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(f"has a list or section as a key in line {key.start_mark.line + 1}, expected text")
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}

    def construct_yaml_map(self, node: yaml.MappingNode) -> Generator[dict[Any, Any], None, None]:
        yield self.construct_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > _MOST_DIGITS:
            raise _Refused(_too_long(text))
        return int(text, 16 if "0x" in text else 10)


ConfigLoader.yaml_implicit_resolvers = {}  # those of YAML 1.1 go
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))"
        r"|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    ConfigLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)
ConfigLoader.add_constructor("tag:yaml.org,2002:map", ConfigLoader.construct_yaml_map)
ConfigLoader.add_constructor("tag:yaml.org,2002:int", ConfigLoader.construct_yaml_int)

_Loader = type[TextLoader | ConfigLoader]


def read_yaml(path: Path, loader: _Loader = TextLoader) -> Any:
    """The content of a YAML file. ValueError if it is no YAML or holds aliases."""
    return parse_yaml(read_text(path, "yaml_bytes"), loader)


def parse_yaml(text: str, loader: _Loader = TextLoader) -> Any:
    """The value of a YAML text, as `read_yaml`."""
    with _sentences():
        return yaml.load(text, Loader=loader)


def compose_yaml(path: Path) -> yaml.Node | None:
    """The nodes of a YAML file, within the same bounds, to write it again; None for an empty file."""
    text = read_text(path, "yaml_bytes")
    with _sentences():
        return yaml.compose(text, Loader=_AsWritten)


@contextmanager
def _sentences() -> Iterator[None]:
    """Every error of the YAML library as a ValueError of one sentence."""
    try:
        yield
    except _Refused as error:
        raise ValueError(str(error)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        raise ValueError(
            f"is not valid YAML ({where}{line(getattr(error, 'problem', '') or str(error), 200)})"
        ) from error
    except RecursionError:
        raise ValueError("is not valid YAML for this purpose (it is nested too deeply)") from None
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError("is not valid YAML (a value does not fit its tag, such as !!int or !!timestamp)") from error
