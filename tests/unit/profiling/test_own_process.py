"""Recognising this process among those that NVML lists on a simulated board."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vovnet.profiling.own_process import PROBE_BYTES, Listed, OwnProcess, find_own_process, own_numbers

MIB = 2**20


class Board:
    """A board on which this process has the number 900 of its host, and has memory only while it holds some.

    context: bytes that this process holds already; None if it is not on the board yet.
    """

    def __init__(self, *, context: int | None, reports_bytes: bool = True, others: tuple[int, ...] = ()) -> None:
        self.context, self.reports_bytes = context, reports_bytes
        self.bytes = dict.fromkeys(others, 100 * MIB)
        self.arrives: int | None = None  # another process that comes while this one takes memory

    def listed(self) -> Listed:
        rows: dict[int, int | None] = dict(self.bytes)
        if self.context is not None:
            rows[900] = self.context
        return rows if self.reports_bytes else dict.fromkeys(rows)

    @contextmanager
    def hold(self) -> Iterator[None]:
        self.context = (self.context or 300 * MIB) + PROBE_BYTES
        if self.arrives is not None:
            self.bytes[self.arrives] = 50 * MIB
        yield
        self.context -= PROBE_BYTES


def test_a_process_knows_its_numbers_and_those_of_its_threads() -> None:
    assert os.getpid() in own_numbers()
    assert threading.get_native_id() in own_numbers()


def test_the_numbers_of_all_namespaces_are_known(tmp_path: Path) -> None:
    (tmp_path / "self/task/17").mkdir(parents=True)
    (tmp_path / "self/status").write_text("Name:\tpython\nNSpid:\t4711\t12\nThreads:\t1\n")
    assert own_numbers(tmp_path) == {os.getpid(), 4711, 12, 17}
    assert own_numbers(tmp_path / "absent") == {os.getpid()}


@pytest.mark.parametrize("context", [None, 500 * MIB])
@pytest.mark.parametrize("others", [(), (901,), (901, 902)])
def test_what_moves_with_the_memory_of_this_process_is_this_process(
    context: int | None, others: tuple[int, ...]
) -> None:
    board = Board(context=context, others=others)
    own = find_own_process(board.listed, board.hold, frozenset({12}))
    assert own == OwnProcess(frozenset({12, 900}), on_board=True)
    assert own.others(board.listed()) == others
    assert own.bytes_of(board.listed()) == (context or 300 * MIB)


def test_a_driver_that_tells_no_bytes_still_shows_who_came() -> None:
    board = Board(context=None, reports_bytes=False, others=(901,))
    own = find_own_process(board.listed, board.hold, frozenset({12}))
    assert own.others(board.listed()) == (901,)
    assert own.bytes_of(board.listed()) is None


def test_without_bytes_a_process_that_is_there_already_cannot_be_told_apart() -> None:
    board = Board(context=500 * MIB, reports_bytes=False, others=(901,))
    own = find_own_process(board.listed, board.hold, frozenset({12}))
    assert own == OwnProcess(frozenset({12}), on_board=True)
    assert own.others(board.listed()) is None
    assert own.bytes_of(board.listed()) is None


def test_two_that_come_at_once_cannot_be_told_apart() -> None:
    board = Board(context=None)
    board.arrives = 903
    assert find_own_process(board.listed, board.hold, frozenset({12})).others(board.listed()) is None


def test_a_process_that_is_listed_by_its_own_number_is_taken_by_it() -> None:
    board = Board(context=500 * MIB, others=(901,))
    board.arrives = 901
    assert find_own_process(board.listed, board.hold, frozenset({900})) == OwnProcess(frozenset({900}), on_board=True)


def test_without_a_list_or_without_memory_nothing_is_claimed() -> None:
    board = Board(context=500 * MIB)
    assert find_own_process(lambda: None, board.hold, frozenset({12})) == OwnProcess(frozenset({12}), on_board=True)

    @contextmanager
    def full() -> Iterator[None]:
        raise RuntimeError("out of memory")
        yield

    assert find_own_process(board.listed, full, frozenset({12})) == OwnProcess(frozenset({12}))
