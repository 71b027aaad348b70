"""What somebody may have meant by an option that a command does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import CycloptsError, UnknownOptionError

from vovnet.errors import listed, nearest

if TYPE_CHECKING:
    from pydantic import BaseModel

# Options of other programs → the option here, of the commands that have it.
_OTHER_NAMES = {
    "--conf": "--score-threshold",
    "--confidence": "--score-threshold",
    "--threshold": "--score-threshold",
    "--max-det": "--top-k",
    "--model": "--weights",
    "--imgsz": "--input-size",
    "--save-dir": "--output",
    "--project": "--output",
    "--from-weights": "--from",
}
_NEAR = 0.7  # cyclopts would take --json for --conf


def explain_words(error: CycloptsError) -> str:
    """What is wrong with the words of a command line, and what was meant by an unknown option if something is alike."""
    if not isinstance(error, UnknownOptionError):
        return str(error)
    option = (error.token.keyword or error.token.value).partition("=")[0]
    if not option.startswith("--"):
        return str(error)
    options = [name for argument in error.argument_collection for name in argument.names]
    other = _OTHER_NAMES.get(option)
    near = other if other in options else nearest(option, options, _NEAR)
    if near is not None:
        return f"Unknown option: {option}. Did you mean {near}?"
    schema = _schema_of_settings(tuple(error.command_chain or ()))
    return f"Unknown option: {option}" + ("." if schema is None else _setting(schema, option[2:].replace("-", "_")))


def _schema_of_settings(command: tuple[str, ...]) -> type[BaseModel] | None:
    """What the words KEY=VALUE of a command set, None if it takes none."""
    if command in (("train",), ("init",), ("config", "show")):
        from vovnet.engine.config import TrainConfig

        return TrainConfig
    if command == ("study", "aggregation"):
        from vovnet.paper.aggregation.config import AggregationConfig

        return AggregationConfig
    return None


def _setting(schema: type[BaseModel], key: str) -> str:
    from vovnet.engine.config_keys import hint, keys_of

    written = "; settings are written KEY=VALUE"
    *parents, last = key.split(".")
    if section := keys_of(schema, [*parents, last]):
        return f"{written}, such as {listed((f'{key}.{name}=…' for name in section), length=60)}."
    if last in keys_of(schema, parents):
        return f"{written}: {key}=…"
    meant = hint(schema, key, _NEAR)
    if meant.startswith(" ("):  # all known keys, since none is alike
        return "."
    return f"{meant}." if meant.startswith(":") else f"{written}{meant}"
