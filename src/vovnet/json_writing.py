"""Writes a large JSON object with one entry after the other in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def member_pieces(members: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """The JSON of an object. Each of its values is JSON in pieces."""
    yield "{"
    for number, (key, pieces) in enumerate(members.items()):
        yield f"{', ' if number else ''}{json.dumps(key)}: "
        yield from pieces
    yield "}\n"


def object_pieces(members: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """The JSON of an object of these keys and values."""
    yield "{"
    for number, (key, value) in enumerate(members):
        yield f"{', ' if number else ''}{json.dumps(key)}: {json.dumps(value)}"
    yield "}"


def list_pieces(entries: Iterable[Any], to_json: Callable[[Any], str] = json.dumps) -> Iterator[str]:
    """The JSON of a list."""
    yield "["
    for number, entry in enumerate(entries):
        yield f"{', ' if number else ''}{to_json(entry)}"
    yield "]"
