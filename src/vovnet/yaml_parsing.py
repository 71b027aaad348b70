"""Reads YAML that strangers wrote, as `vovnet.parsing` reads JSON: its content, or a ValueError of one sentence."""

from __future__ import annotations

import re
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vovnet.parsing import MOST_DIGITS, read_text, too_long
from vovnet.printing import line, quoted

_DEEPEST = 50
_MOST_NODES = 50_000  # of a YAML file, for which the parser takes seconds: names for 25,000 classes


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
        if len(text) > MOST_DIGITS:
            raise _Refused(too_long(text))
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


def parse_yaml(text: str, loader: _Loader = TextLoader) -> Any:
    """The value of a YAML text. ValueError if it is no YAML or holds aliases."""
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
