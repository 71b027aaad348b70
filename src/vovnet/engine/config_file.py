"""Reads the YAML file of a config, or the published config of a name, with `key=value` arguments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vovnet.engine.config_keys import explain
from vovnet.errors import UsageError, did_you_mean, nearest_beside
from vovnet.names import published_configs
from vovnet.parsing import read_text
from vovnet.printing import line, quoted
from vovnet.yaml_parsing import ConfigLoader, parse_yaml

Schema = TypeVar("Schema", bound=BaseModel)
_DEEPEST_KEY = 20


def read_config(schema: type[Schema], path: str | Path, overrides: Sequence[str] = ()) -> Schema:
    """Read a YAML file and apply `key=value` arguments, with dots for sections: optimizer.learning_rate=1e-3.

    path: a file, or the name of a published config. `output` defaults to runs/NAME_OF_THE_FILE.

    Raises FileNotFoundError, or UsageError that names all wrong keys, each with the nearest right one, and all wrong
    values.
    """
    path = find_config(path)
    values = read_values(path)
    values.setdefault("output", f"runs/{path.stem}")
    override(values, overrides)
    return validated(schema, values, str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, whatever they are. UsageError if it holds something else."""
    try:
        text = read_text(path, "yaml_bytes")
    except ValueError as error:
        raise UsageError(f"{line(str(path), 80)} {error}") from None
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        raise UsageError(f"{line(str(path), 80)} must hold keys and values, got {type(values).__name__}")
    return values


def override(values: dict[str, Any], settings: Sequence[str]) -> None:
    """Set the keys of `key=value` arguments, in `values` itself."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.split(".")) or key.count(".") > _DEEPEST_KEY:
            raise UsageError(f"expected key=value, got {quoted(setting)}")
        section = values
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise UsageError(f"{quoted(parent)} in {quoted(key)} is a value, not a section")
        section[last] = _parse(text, setting)


def validated(schema: type[Schema], values: dict[str, Any], where: str) -> Schema:
    """The config of these values; UsageError that says `where` they come from and what is wrong with them."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{line(where, 80)}: {explain(schema, error)}") from None


def find_config(source: str | Path) -> Path:
    """The file `source`, or the published config of that name, with or without "configs/" and ".yaml"."""
    path, published = Path(source), published_configs()
    with suppress(OSError):  # a name that is too long
        if path.is_file():
            return path
    name = path.name.removesuffix(".yaml")
    if name in published and path in (Path(name), Path(f"{name}.yaml"), Path("configs") / f"{name}.yaml"):
        return published[name]
    remedy = nearest_beside(path) or did_you_mean(name, published) or "; `vovnet list` names the published ones"
    raise FileNotFoundError(f"no config file {line(str(source))}{remedy}")


def _parse(text: str, where: str) -> Any:
    try:
        return parse_yaml(text, ConfigLoader)
    except ValueError as error:
        raise UsageError(f"{line(where, 80)} {error}") from None
