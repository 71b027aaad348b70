"""Configs as YAML that reads back as the same config, with or without the meaning of each key as a comment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vovnet.engine.config import TrainConfig
from vovnet.engine.config_keys import section_in
from vovnet.yaml_parsing import ConfigLoader, parse_yaml

_PLAIN = re.compile(r"[A-Za-z_./][\w./~-]*")
_WIDTH = 110


def config_yaml(values: Mapping[str, Any] | TrainConfig) -> str:
    """A config, or some of its keys, as YAML."""
    return "\n".join(_lines(_plain(values), None)) + "\n"


def commented_yaml(values: Mapping[str, Any], schema: type[BaseModel] = TrainConfig) -> str:
    """All keys of a config, each below its meaning, which is that of the docstring of its class.

    values: those that differ from the defaults; the required ones must be among them.
    """
    return "\n".join(_lines(_with_defaults(schema, values), schema)) + "\n"


def meanings(schema: type[BaseModel]) -> dict[str, str]:
    """Key → what the docstring of its class says about it."""
    found: dict[str, str] = {}
    key = ""
    for text in (getdoc(schema) or "").splitlines():
        begun = re.match(r"(\w+): (.*)", text)
        if begun and begun[1] in schema.model_fields:
            key = begun[1]
            found[key] = begun[2]
        elif key and text.startswith("    "):
            found[key] += f" {text.strip()}"
        else:
            key = ""
    return found


def _with_defaults(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            filled[name] = _with_defaults(section, values.get(name, {}))
        else:
            default = None if field.is_required() else field.default
            filled[name] = _plain(values.get(name, default))
    return filled


def _lines(values: Mapping[str, Any], schema: type[BaseModel] | None, indent: str = "") -> Iterator[str]:
    explained = {} if schema is None else meanings(schema)
    for name, value in values.items():
        field = None if schema is None else schema.model_fields[name]
        section = None if field is None else _section(field.annotation)
        if field is not None:
            yield from ([""] if section is not None and not indent else [])
            yield from _comment(explained.get(name, ""), indent)
            yield from _comments_of_items(field.annotation, section, indent)
        key = _scalar(name)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, section, f"{indent}  ")
        elif isinstance(value, list) and any(isinstance(item, list | Mapping) for item in value):
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_flow(item)}" for item in value)
        else:
            yield f"{indent}{key}: {_flow(value)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    yield from (f"{indent}# {line}" for line in textwrap.wrap(text[:1].upper() + text[1:], _WIDTH - len(indent)))


def _comments_of_items(annotation: Any, section: type[BaseModel] | None, indent: str) -> Iterator[str]:
    """The keys of the sections that a list may hold."""
    item = section_in(annotation) if section is None else None
    if item is not None:
        for name, meaning in meanings(item).items():
            yield from (f"{indent}#   {line}" for line in textwrap.wrap(f"{name}: {meaning}", _WIDTH - 2 - len(indent)))


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _plain(value: Any) -> Any:
    """Sections as dictionaries, tuples as lists, paths as text."""
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and parse_yaml(text, ConfigLoader) == text:
        return text
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(letter: str) -> str:
    """A letter of a quoted text. JSON would write letters above U+FFFF as two halves, which YAML does not join."""
    if " " <= letter <= "~":
        return f"\\{letter}" if letter in '"\\' else letter
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
