"""What commands print: tables and sentences for people, JSON for programs, progress and errors on stderr."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.console import complain as complain
from vovnet.files import json_text, try_folder, write_json
from vovnet.printing import CELL, PARAGRAPH, line, printable

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDEST_TABLE = 100_000


class Output:
    """Prints to stdout, or to stderr if the JSON goes to stdout.

    What it prints may hold names that strangers chose: each text is one line, and each cell of a table too.
    """

    def __init__(self, json_file: str | None = None) -> None:
        self.json_file = json_file
        self.stream = sys.stderr if json_file == "-" else sys.stdout

    def say(self, text: str = "") -> None:
        """Print a line, by default a blank one."""
        print(line(text, PARAGRAPH), file=self.stream, flush=True)

    def command(self, text: str) -> None:
        """Print a line with a command to be pasted: spaces stay as they are, for names of files with several."""
        print(printable(text.replace("\n", " ")), file=self.stream, flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for title, *cells in zip(header, *rows, strict=True):
            numeric = bool(cells) and all(re.fullmatch(r"[\d.,–]*", cell) for cell in cells)
            table.add_column(line(title, CELL), justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(line(cell, CELL) for cell in row))
        # The width is that of the content: a narrow terminal wraps lines, but no number is cut. Markup is off because
        # a class may be called [red].
        console = Console(file=self.stream, width=_WIDEST_TABLE, markup=False, emoji=False, highlight=False)
        console.print(table, "")

    def json(self, content: object) -> None:
        if self.json_file == "-":
            print(json_text(content))
        elif self.json_file is not None:
            write_json(self.json_file, content)


def make_folder(output: Path) -> None:
    try_folder(output, "choose another --output")


def name_of(root: Path) -> str:
    """The name of a data folder, or of the file that stands for one, without its suffix."""
    path = root.resolve()
    return path.stem if path.is_file() else path.name


def free_folder(folder: Path, suffix: str) -> Path:
    """A name for a folder beside this one that is not there."""
    start = folder.resolve() if folder.name in ("", "..") else folder
    endings = (suffix, *(f"{suffix}-{number}" for number in range(2, 1000)))
    return next(path for ending in endings if not (path := Path(f"{start}{ending}")).exists())


def is_main() -> bool:
    """Whether this process reports: the only one, or rank 0 under torchrun."""
    return os.environ.get("RANK", "0") == "0"


def metric(value: float | None) -> str:
    """Three digits after the point, or a dash for no value."""
    return "–" if value is None else f"{value:.3f}"


def show_progress() -> Progress:
    """A progress bar on stderr; none unless stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    console.quiet = not console.is_terminal  # a disabled bar of rich before 14.3 leaves a blank line
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def need(*packages: str) -> None:
    """Import the packages of an extra now, so that a missing one is an error before the work and not after it."""
    import importlib

    for package in packages:
        importlib.import_module(package)
