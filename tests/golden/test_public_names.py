"""What people type is a promise: commands and their options, keys of configs, names of models, files of reports."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

import vovnet.runtime
from vovnet.adapters import fiftyone, timm, torchvision
from vovnet.cli.main import app
from vovnet.engine.config import TrainConfig
from vovnet.names import DETECTORS
from vovnet.runtime.command import make_parser
from vovnet.zoo import BACKBONES

GOLDEN = Path(__file__).with_name("public_names.txt")


def commands(group=app, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name in sorted(group):
        if name.startswith("-"):
            continue
        command = group[name]
        if command.default_command is None:
            yield from commands(command, (*path, name))
        else:
            arguments = command.assemble_argument_collection(parse_docstring=False)
            options = {option for argument in arguments for option in (*argument.names, *argument.negatives)} - {"*"}
            yield " ".join(["vovnet", *path, name, *sorted(options)])


def runner_commands() -> Iterator[str]:
    (choice,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in sorted(choice.choices.items()):
        options = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
        yield " ".join(["vovnet-runtime", name, *sorted(options - {"--help"})])


def keys(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in schema.model_fields.items():
        yield f"config {prefix}{name}"
        kind = field.annotation
        while kind is not None and not hasattr(kind, "model_fields") and get_args(kind):
            kind = get_args(kind)[0]
        if hasattr(kind, "model_fields"):
            yield from keys(kind, f"{prefix}{name}.")


def adapters() -> Iterator[str]:
    """What people import from `vovnet.adapters`, and what detections have."""
    for module in (fiftyone, timm, torchvision):
        own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
        yield from (f"python {module.__name__}.{name}" for name in sorted(own) if not name.startswith("_"))
    yield from (f"python vovnet.Detections.{name}" for name in dir(vovnet.Detections) if not name.startswith("_"))


def public_names() -> str:
    lines = [*commands(), *runner_commands(), *keys(TrainConfig)]
    lines += [f"python vovnet.{name}" for name in vovnet.__all__]
    lines += [f"python vovnet.runtime.{name}" for name in vovnet.runtime.__all__]
    lines += adapters()
    lines += [f"backbone {name}" for name in sorted(BACKBONES)]
    lines += [f"detector {name}" for name in sorted(DETECTORS)]
    return "\n".join(lines) + "\n"


def test_what_people_type_stays() -> None:
    new = public_names()
    assert new == GOLDEN.read_text(encoding="utf-8"), (
        "a public name changed; if that is meant, tell it in CHANGELOG.md and run "
        "python -c 'from tests.golden import test_public_names as t; t.GOLDEN.write_text(t.public_names())'"
    )
