"""Reads the JSON records of runs: the content, or one sentence that names the file and the place in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vovnet.parsing import naming, read_json
from vovnet.printing import line, quoted

LONGEST_TEXT = 5_000  # of a name or sentence in a record


class RecordPart(BaseModel):
    """A part of a record. Keys that it does not name may hold anything that is not read."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, str_max_length=LONGEST_TEXT, extra="ignore")


def read_record(path: Path, kind: type[RecordPart], what: str) -> Any:
    """The content of a record as it stands in the file, which fits the model `kind`. ValueError if it does not.

    what: the record's name in the message, such as "a record of `vovnet measure`".
    """
    with naming(path):
        content = read_json(path)
        try:
            kind.model_validate(content)
        except ValidationError as error:
            raise ValueError(f"is not {what}: {first_fault(error)}") from None
    return content


def first_fault(error: ValidationError) -> str:
    """Place, rule and value of the first fault."""
    first = error.errors(include_url=False)[0]
    place, limits = ".".join(map(str, first["loc"])) or "the file", first.get("ctx", {})
    rule = first["msg"].removeprefix("Value error, ")
    for key, words in (("ge", "at least"), ("le", "at most")):
        if key in limits:  # pydantic writes 1e-30 with 30 digits
            rule = f"must be {words} {limits[key]:g}"
    names_value = first["type"] == "value_error" or not isinstance(first["input"], (int, float, str))
    fault = f"{line(place, 120)}: {line(rule, 160)}"
    return fault if names_value else f"{fault}, got {quoted(first['input'], 40)}"
