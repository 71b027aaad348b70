"""One answer of the hub for each name, for as long as a command or a call runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_ANSWERS: ContextVar[dict[str, Path] | None] = ContextVar("answers", default=None)


@contextmanager
def asked_once() -> Iterator[None]:
    """In the block, or the function that it decorates, a name on the hub is looked up once and stays the same file.

    Else two steps could read two revisions, if a newer one is pushed in between. A block within a block shares its
    answers.
    """
    if _ANSWERS.get() is not None:
        yield
        return
    token = _ANSWERS.set({})
    try:
        yield
    finally:
        _ANSWERS.reset(token)


def answer(name: str, ask: Callable[[str], Path]) -> Path:
    """The file of a name: what `ask` gave before in this block, if it is still there."""
    answers = _ANSWERS.get()
    known = None if answers is None else answers.get(name)
    if known is not None and known.exists():
        return known
    path = ask(name)
    if answers is not None:
        answers[name] = path
    return path
