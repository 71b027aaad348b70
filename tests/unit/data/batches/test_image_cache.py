"""The cache of decoded images: the pixels of the files, written once, and anew whenever it is not what it should be."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vovnet.data.batches import image_cache
from vovnet.data.batches.image_cache import CachedImages, open_cache
from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation

OBJECT = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>5</ymax></bndbox></object>"
SIZES = [(9, 7), (30, 20), (12, 41), (6, 6), (25, 25)]


def write_image(path: Path, size: tuple[int, int], seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    for index, size in enumerate(SIZES):
        write_image(folder / f"{index}.png", size, index)
        (folder / f"{index}.xml").write_text(f"<annotation>{OBJECT}</annotation>")
    return open_dataset(tmp_path / "data", "train")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were decoded in this process for a cache."""
    paths: list[Path] = []

    def note(path: Path) -> torch.Tensor:
        paths.append(path)
        return read_image(path)

    monkeypatch.setattr(image_cache, "read_image", note)
    return paths


def cached_in(dataset: DetectionDataset, folder: Path, workers: int = 0) -> CachedImages:
    cached = open_cache(dataset, folder, workers=workers)
    assert cached is not None
    for index, sample in enumerate(dataset):
        assert torch.equal(cached[index], read_image(sample.image_path))
    return cached


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


@pytest.mark.parametrize("workers", [0, 2])
def test_it_has_the_pixels_of_the_files(
    tmp_path: Path, dataset: DetectionDataset, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    cached = cached_in(dataset, tmp_path / "cache", workers)
    assert "decodes 5 images once, 0.0 GiB, into " in capsys.readouterr().err
    assert files_in(tmp_path / "cache") == [cached.path]


def test_it_is_written_once(tmp_path: Path, dataset: DetectionDataset, decoded: list[Path]) -> None:
    first = cached_in(dataset, tmp_path / "cache")
    assert len(decoded) == 5
    assert cached_in(dataset, tmp_path / "cache").path == first.path
    assert len(decoded) == 5


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 4
    path.write_bytes(content)


def exchange_sides(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"[30, 20]", b"[20, 30]"))


def with_index(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Another index, whose length and checksum are right."""
    content = path.read_bytes()
    start = content.rindex(b'{"sizes"')
    index = change(content[start : -image_cache._END])
    end = len(index).to_bytes(8, "little") + zlib.crc32(index).to_bytes(4, "little") + image_cache._MAGIC
    path.write_bytes(content[:start] + index + end)


def spoil_the_index(path: Path) -> None:
    with_index(path, lambda index: index.replace(b"sizes", b"seizs"))


def state_three_sides(path: Path) -> None:
    with_index(path, lambda index: index.replace(b"[30, 20]", b"[20, 30, 1]"))


def state_huge_sizes(path: Path) -> None:
    with_index(path, lambda index: index.replace(b"[30, 20]", b"[" + b"9" * 30 + b", 20]"))


def state_no_object(path: Path) -> None:
    with_index(path, lambda index: b"[1]")


def state_a_huge_index(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-image_cache._END : -image_cache._END + 8] = b"\xff" * 8
    path.write_bytes(content)


DAMAGES = [
    cut_short, empty, turn_a_bit, exchange_sides, spoil_the_index, state_three_sides, state_huge_sizes, state_no_object,
    state_a_huge_index,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_written_anew(
    tmp_path: Path, dataset: DetectionDataset, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = cached_in(dataset, tmp_path / "cache").path
    damage(path)
    assert cached_in(dataset, tmp_path / "cache").path == path
    assert "are damaged: they are decoded again" in caplog.text
    caplog.clear()
    cached_in(dataset, tmp_path / "cache")
    assert not caplog.records


def another_image(dataset: DetectionDataset) -> None:
    write_image(dataset[2].image_path, (50, 3), 7)


def the_same_size_later(dataset: DetectionDataset) -> None:
    path = dataset[0].image_path
    status = path.stat()
    write_image(path, SIZES[0], 77)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [another_image, the_same_size_later])
def test_a_stale_one_is_replaced(
    tmp_path: Path, dataset: DetectionDataset, change: Callable[[DetectionDataset], None]
) -> None:
    old = cached_in(dataset, tmp_path / "cache")
    before = old[1].clone()
    change(dataset)
    new = cached_in(dataset, tmp_path / "cache")
    assert files_in(tmp_path / "cache") == [new.path]
    assert new.path != old.path
    assert torch.equal(new[1], before)


def test_another_decoder_is_another_cache(
    tmp_path: Path, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch, decoded: list[Path]
) -> None:
    cached_in(dataset, tmp_path / "cache")
    monkeypatch.setattr(image_cache.metadata, "version", lambda package: "0.0.1")
    cached_in(dataset, tmp_path / "cache")
    assert len(decoded) == 10


def test_two_datasets_keep_their_own(tmp_path: Path, dataset: DetectionDataset, decoded: list[Path]) -> None:
    half = DetectionDataset(**{**vars(dataset), "samples": dataset.samples[:2]})
    for _ in range(2):
        cached_in(dataset, tmp_path / "cache")
        cached_in(half, tmp_path / "cache")
    assert len(decoded) == 7
    assert len(files_in(tmp_path / "cache")) == 2


def test_what_a_killed_process_left_is_removed(tmp_path: Path, dataset: DetectionDataset) -> None:
    path = cached_in(dataset, tmp_path / "cache").path
    left = path.with_name(".0123456789ab.cdef0123.part.images")
    left.write_bytes(b"half")
    empty(path)
    cached_in(dataset, tmp_path / "cache")
    assert files_in(tmp_path / "cache") == [path]


def test_one_that_does_not_fit_is_not_written(
    tmp_path: Path, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30 + 100))
    assert open_cache(dataset, tmp_path / "cache", workers=0) is None
    assert "decoded they take 0.0 GiB, and " in caplog.text
    assert "has 1.0 GiB free; data.cache=FOLDER" in caplog.text
    assert files_in(tmp_path / "cache") == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_disk_that_fills_up(
    tmp_path: Path,
    dataset: DetectionDataset,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def seek(self, _: int) -> None: ...

        def write(self, _: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    original = Path.open

    def open_full(path: Path, mode: str = "r", **options: object) -> object:
        return Full() if mode == "r+b" else original(path, mode, **options)

    monkeypatch.setattr(Path, "open", open_full)
    assert open_cache(dataset, tmp_path / "cache", workers=workers) is None
    assert re.search(r"images are not cached: could not write .*free some disk space", caplog.text)
    assert files_in(tmp_path / "cache") == []


def test_a_folder_that_takes_no_files(
    tmp_path: Path, dataset: DetectionDataset, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert open_cache(dataset, tmp_path / "file", workers=0) is None
    assert "images are not cached: " in caplog.text


def test_a_damaged_image_is_an_error_and_leaves_nothing(tmp_path: Path, dataset: DetectionDataset) -> None:
    path = dataset[3].image_path
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"3\.png is damaged or cut short"):
        open_cache(dataset, tmp_path / "cache", workers=0)
    assert files_in(tmp_path / "cache") == []


def _open_in_process(root: Path, folder: Path, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    cached_in(open_dataset(root, "train"), folder)


@pytest.mark.parametrize("locks", [True, False])
def test_processes_that_want_it_at_once(
    tmp_path: Path,
    dataset: DetectionDataset,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    locks: bool,
) -> None:
    """One writes, the others wait. Without locks several write, each a file of its own, and a whole one remains."""
    if not locks:
        monkeypatch.setattr(image_cache, "fcntl", None)
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3, timeout=60)
    arguments = (dataset.root, tmp_path / "cache", start)
    processes = [context.Process(target=_open_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    if locks:
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert capfd.readouterr().err.count("decodes 5 images once") == 1
    assert len(files_in(tmp_path / "cache")) == 1
    cached_in(dataset, tmp_path / "cache")


def test_processes_check_it_at_the_same_time(
    tmp_path: Path, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one takes minutes, and one process after the other would let the first wait for too long."""
    cached_in(dataset, tmp_path / "cache")
    context = multiprocessing.get_context("fork")
    start, checking = context.Barrier(3, timeout=60), context.Barrier(3, timeout=60)
    read = image_cache._read

    def read_with_others(path: Path, count: int) -> CachedImages | None:
        checking.wait()  # broken unless all come
        return read(path, count)

    monkeypatch.setattr(image_cache, "_read", read_with_others)
    arguments = (dataset.root, tmp_path / "cache", start)
    processes = [context.Process(target=_open_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_a_reader_keeps_what_another_run_replaces(tmp_path: Path, dataset: DetectionDataset) -> None:
    cached = cached_in(dataset, tmp_path / "cache")
    expected = [cached[index].clone() for index in range(5)]
    shutil.rmtree(tmp_path / "cache")
    assert all(torch.equal(cached[index], expected[index]) for index in range(5))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_same_batches(tmp_path: Path, dataset: DetectionDataset, workers: int) -> None:
    stream = BatchStream(len(dataset), batch_size=4, micro_batch_size=2, steps=3)
    augment = SSDAugmentation((32, 32), (123.0, 117.0, 104.0))
    cached = cached_in(dataset, tmp_path / "cache")
    options = {"workers": workers, "pin_memory": False}
    plain, from_cache = (
        list(training_batches(dataset, augment, stream, **options, cached=images)) for images in (None, cached)
    )
    assert len(plain) == 6
    for batch, expected in zip(from_cache, plain, strict=True):
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.packed_objects, expected.packed_objects)
    assert torch.equal(cached[0], read_image(dataset[0].image_path))  # nobody has written to it
