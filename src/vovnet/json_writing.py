"""Writes a large JSON object with one entry after the other in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO


def write_members(file: TextIO, members: Mapping[str, Iterable[str]]) -> None:
    """Writes an object. Each of its values is JSON in pieces."""
    file.write("{")
    for number, (key, pieces) in enumerate(members.items()):
        file.write(f"{', ' if number else ''}{json.dumps(key)}: ")
        file.writelines(pieces)
    file.write("}\n")


def list_pieces(entries: Iterable[Any], to_json: Callable[[Any], str] = json.dumps) -> Iterator[str]:
    """The JSON of a list."""
    yield "["
    for number, entry in enumerate(entries):
        yield f"{', ' if number else ''}{to_json(entry)}"
    yield "]"
