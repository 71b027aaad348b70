"""A folder that another run has, for tests of what a second run does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vovnet.folder_lock import folder_lock


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[None]:
    """The lock of the folder, held by another thread: one thread may take it twice."""
    lock = folder_lock(folder)
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.__enter__).result()
        try:
            yield
        finally:
            other.submit(lock.__exit__, None, None, None).result()
