"""What commands share: what they print for people and for programs, and the kinds of their options."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from rich.progress import Progress


def _file_or_dash(_: object, value: str | None) -> None:
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f'expected a file or "-", got {value}')


Json = Annotated[str | None, Parameter(name="--json", allow_leading_hyphen=True, validator=_file_or_dash)]
Classes = Annotated[list[str] | None, Parameter(negative="")]
Fraction = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=Number(gte=0))]
Positive = Annotated[int, Parameter(validator=Number(gte=1))]


class Output:
    """What a command prints for people, on stdout unless the JSON goes there, and the JSON for programs."""

    def __init__(self, json_file: str | None = None) -> None:
        self.json_file = json_file
        self.stream = sys.stderr if json_file == "-" else sys.stdout

    def say(self, text: str) -> None:
        print(printable(text), file=self.stream, flush=True)

    def table(self, header: list[str], rows: list[list[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for title, *cells in zip(header, *rows, strict=True):
            numbers = bool(cells) and all(re.fullmatch(r"[\d.,–]*", cell) for cell in cells)
            table.add_column(title, justify="right" if numbers else "left")
        for row in rows:
            table.add_row(*map(printable, row))
        # As wide as it needs to be: where the window is narrow a line breaks, but no number is cut. And a class may be
        # called [red].
        Console(file=self.stream, width=1000, markup=False, emoji=False, highlight=False).print(table, "")

    def json(self, content: object) -> None:
        if self.json_file == "-":
            print(json.dumps(content))
        elif self.json_file is not None:
            from vovnet.files import replacing

            with replacing(self.json_file) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")


def make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write into {output} ({error.strerror}); choose another --output") from None


def is_main() -> bool:
    """Whether this is the process that reports, of those that torchrun may have started."""
    return os.environ.get("RANK", "0") == "0"


def printable(text: str) -> str:
    """Without the control characters by which a name in a stranger's file could steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def complain(text: str) -> None:
    print(f"vovnet: {printable(text)}", file=sys.stderr, flush=True)


def show_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def one_line(text: str) -> str:
    return " ".join(text.split())
