"""Problems of a file's entries in the order of the entries, in whichever order they are found."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

from vovnet.data.dataset import OnProblem, raise_problem


class OrderedProblems:
    """Collects problems, and reports them when all are found; where the first one ends the reading, at once.

    position: of the entry that the next one is about.
    """

    def __init__(self, on_problem: OnProblem) -> None:
        self.position = 0
        self._on_problem = on_problem
        self._found: list[tuple[int, str, Path, str]] = []

    def add(self, kind: str, path: Path, detail: str) -> None:
        """Is an `OnProblem`."""
        if self._on_problem is raise_problem:
            raise_problem(kind, path, detail)
        self._found.append((self.position, kind, path, detail))

    def report(self) -> None:
        found, self._found = sorted(self._found, key=itemgetter(0)), []
        for _, kind, path, detail in found:
            self._on_problem(kind, path, detail)
