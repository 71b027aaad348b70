"""What is spooled comes back as it went in: from the file, after a failure, in other threads and other processes."""

from __future__ import annotations

import copy
import errno
import gc
import multiprocessing
import os
import pickle
import random
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from vovnet.data import spooled
from vovnet.data.spooled import Records, Spool, SpooledBytes, Texts, in_order

TEXTS = [f"text {number} \udcff\u00e9"[: 4 + number % 12] for number in range(500)]
needs_descriptors = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "PART", 256)
    monkeypatch.setattr(spooled, "PAGE", 64)


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class _Broken:
    """In place of a temporary file: one of a disk that is full after some bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.file = tempfile.TemporaryFile(buffering=0)

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "no space left")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("unit", [1, 7, 64, 300])
def test_bytes_are_read_where_they_were_put(unit: int) -> None:
    stored, expected = SpooledBytes(Spool(), unit), bytearray()
    numbers = random.Random(unit)
    for _ in range(200):
        data = numbers.randbytes(unit * numbers.randrange(1, 30))
        assert stored.append(data) == len(expected)
        expected += data
        start = numbers.randrange(len(expected))
        end = min(len(expected), start + numbers.randrange(700))
        assert stored.read(start, end) == expected[start:end]
    assert stored.read(0, stored.end) == expected


def test_what_is_not_there() -> None:
    records = Records(Spool(), "<i")
    assert list(records.between(0, 0)) == []
    with pytest.raises(IndexError):
        records[0]
    records.add(5)
    with pytest.raises(IndexError):
        records[1]


def test_texts_are_a_sequence() -> None:
    texts = Texts(TEXTS)
    assert len(texts) == 500
    assert list(texts) == TEXTS
    assert texts == TEXTS
    assert texts != TEXTS[1:]
    assert (texts[0], texts[-1], texts[7]) == (TEXTS[0], TEXTS[-1], TEXTS[7])
    assert texts[10:20] == TEXTS[10:20]
    with pytest.raises(IndexError):
        texts[500]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 500])
def test_sorting(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(spooled, "SORTED_AT_ONCE", 100)
    mixed = random.Random(0).sample(TEXTS, count)
    assert list(in_order(mixed)) == sorted(mixed)


@needs_descriptors
def test_one_file_for_all_columns_which_is_closed_with_them() -> None:
    before = open_files()
    spool = Spool()
    short = Records(spool, "<q")
    for number in range(20):
        short.add(number)
    assert open_files() == before, "what is short touches no disk"
    columns = [Records(spool, "<q") for _ in range(5)]
    for number in range(300):
        for column in columns:
            column.add(number)
    assert open_files() == before + 1
    assert [column[17] for column in columns] == [(17,)] * 5
    del spool, columns, column, short
    assert open_files() == before


@pytest.mark.parametrize("room", [0, 100, 256, 1000])
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    made = _Broken(room)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: made)
    assert Texts(TEXTS) == TEXTS
    assert made.room == 0, "the file was used until the disk was full"


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch, error: type[OSError]) -> None:
    tries: list[int] = []

    def refuse(**_: object) -> None:
        tries.append(1)
        raise error("no temporary folder")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert Texts(TEXTS) == TEXTS
    assert len(tries) == 1, "it is not tried for each part"


def test_a_file_that_someone_else_shortens() -> None:
    texts = Texts(TEXTS)
    place = texts._data._parts[0]
    assert isinstance(place, tuple)
    place[0]._file.truncate(0)
    with pytest.raises(OSError, match="shorter"):
        list(texts)


def test_without_pread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    texts = Texts(TEXTS)
    assert texts == TEXTS
    texts.add("more")
    assert texts[-1] == "more"
    assert texts[3] == TEXTS[3]


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda texts: pickle.loads(pickle.dumps(texts))])
def test_copies(remake: Any) -> None:
    texts = Texts(TEXTS)
    again = remake(texts)
    assert again == TEXTS
    assert texts == TEXTS


def test_what_is_pickled_together_shares_a_file() -> None:
    spool = Spool()
    columns = [Texts(TEXTS, spool), Texts(TEXTS, spool)]
    again = pickle.loads(pickle.dumps(columns))
    assert again == columns
    assert again[0]._data._spool is again[1]._data._spool is not spool


@needs_descriptors
def test_many_spools_share_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "MOST_FILES", 3)
    monkeypatch.setattr(spooled, "_FILES", [])
    before = open_files()
    many = [Texts() for _ in range(20)]
    for text in TEXTS:
        for number, texts in enumerate(many):
            texts.add(f"{number} {text}")
    assert open_files() == before + 3
    for number, texts in enumerate(many):
        assert texts == [f"{number} {text}" for text in TEXTS]
    del texts, many[1:]
    assert open_files() == before + 1
    assert many[0][5] == f"0 {TEXTS[5]}"
    more = [Texts(TEXTS) for _ in range(5)]
    assert open_files() == before + 3, "those that are closed make room"
    assert more == [TEXTS] * 5


def test_threads_read_while_one_appends() -> None:
    texts = Texts(TEXTS)

    def read(seed: int) -> int:
        numbers = random.Random(seed)
        positions = [numbers.randrange(len(TEXTS)) for _ in range(2000)]
        return sum(texts[position] == TEXTS[position] for position in positions)

    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(read, seed) for seed in range(4)]
        for _ in range(3):
            for text in TEXTS:
                texts.add(text)
    assert [future.result() for future in found] == [2000] * 4
    assert texts == TEXTS * 4


def _read_and_add(texts: Texts, answer: Any) -> None:
    before = list(texts)
    for text in reversed(TEXTS):
        texts.add(text)
    answer.send((before, list(texts)))


@pytest.mark.parametrize(
    "method", [name for name in ("fork", "spawn") if name in multiprocessing.get_all_start_methods()]
)
def test_another_process_reads_and_adds_for_itself(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    texts, (received, answer) = Texts(TEXTS), context.Pipe(duplex=False)
    process = context.Process(target=_read_and_add, args=(texts, answer))
    process.start()
    answer.close()  # what waits below ends if the other process does
    for text in TEXTS:
        texts.add(text)
    assert received.poll(600)
    before, after = received.recv()
    process.join()
    assert process.exitcode == 0
    assert before == TEXTS
    assert after == TEXTS + TEXTS[::-1]
    assert texts == TEXTS * 2, "what the other process added is its own"


def test_texts_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "PART", 4096)

    def taken(count: int) -> int:
        tracemalloc.start()
        texts = Texts(f"/data/images/image_{number:07}.jpg" for number in range(count))
        for number, _ in enumerate(texts):
            assert number < count
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return used

    taken(500)
    assert taken(4000) - taken(500) < 3500 * 5, "some bytes for each part"
