"""Reads the files of torch.save, see `vovnet.weights.program`.

Every error here is a ValueError whose text goes on after the name of the file.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import UntypedStorage

from vovnet.limits import check_limit, limits, too_much
from vovnet.printing import line
from vovnet.weights.archive import damage, opened_archive
from vovnet.weights.program import Reader, RefusedError, Storage

MAGIC = 0x1950A86A20F9469CFC6C  # of the files before torch 1.6
_MOST_SHARED = 8  # bytes of all tensors in sizes of the file, if they share values


def read_pickled(path: Path, *, complete: bool = False) -> Any:
    """The content of a file of torch.save. ValueError if it is damaged or too large, `RefusedError` for other objects.

    A tensor that is sparse, quantised, or repeats its values becomes one without values, on the device "meta".

    complete: refuse such tensors.
    """
    check_limit("weights_bytes", path.stat().st_size, "")
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"
    try:
        content, reader = _read_zip(path) if zipped else _read_old(path)
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises half a dozen types
        raise damage(error) from error
    if complete and reader.incomplete:
        raise ValueError("holds a tensor without values of its own (sparse, quantised or expanded)")
    return content


def _checked(reader: Reader, path: Path) -> Reader:
    """Before the values are read."""
    if reader.refused:
        raise RefusedError(reader.refused)
    check_limit("weights_bytes", reader.tensor_bytes, "with all its tensors")
    if reader.tensor_bytes > _MOST_SHARED * path.stat().st_size + 2**20:
        raise ValueError(f"holds tensors of {_MOST_SHARED} times its size, which share their values: save them apart")
    return reader


def _read_zip(path: Path) -> tuple[Any, Reader]:
    with opened_archive(path) as archive, path.open("rb") as file:
        members = {member.filename: member for member in archive.infolist()}
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("is compressed, which torch.save never does: save it again with torch")
        if sum(member.file_size for member in members.values()) > path.stat().st_size:
            raise ValueError("is damaged (its parts overlap)")
        root = next((name.partition("/")[0] for name in members if re.fullmatch(r"[^/]*/data\.pkl", name)), None)
        if root is None or f"{root}/constants.pkl" in members:
            raise ValueError("is no file of torch.save" + (", but of torch.jit.save" if root else ""))

        def part(name: str) -> zipfile.ZipInfo:
            if (member := members.get(f"{root}/{name}")) is None:
                raise ValueError(f"is damaged (it lacks the part {line(name)})")
            return member

        def storage_of(key: str, dtype: torch.dtype, numel: int) -> UntypedStorage:
            stated, there = numel * dtype.itemsize, part(f"data/{key}").file_size
            if stated > there:
                raise ValueError(f"is damaged (a storage of {stated} bytes has {there} in the file)")
            return UntypedStorage(stated)

        program = part("data.pkl")
        check_limit("header_bytes", program.file_size, "without its tensors")
        reader = Reader(storage_of)
        file.seek(_start(file, program))
        content = reader.run(io.BytesIO(file.read(program.file_size)))
        big = False
        if f"{root}/byteorder" in members:
            file.seek(_start(file, part("byteorder")))
            big = file.read(3) == b"big"
        for key, storage in _checked(reader, path).storages.items():
            file.seek(_start(file, part(f"data/{key}")))
            _fill(storage, file, swapped=big)
    return content, reader


def _start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where the values of a part begin; its own header may have another length than the directory says."""
    file.seek(member.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError("is damaged (a part of it is missing)")
    name, extra = struct.unpack("<HH", header[26:30])
    return member.header_offset + 30 + name + extra


def _read_old(path: Path) -> tuple[Any, Reader]:
    """As torch before 1.6 wrote it: pickles, then each storage with its number of elements before it."""
    size, most = path.stat().st_size, limits().header_bytes
    reserved = 0

    def storage_of(key: str, dtype: torch.dtype, numel: int) -> UntypedStorage:
        nonlocal reserved
        reserved += numel * dtype.itemsize
        if reserved > size:
            raise ValueError(f"is damaged (it states storages of {reserved} bytes and has {size})")
        return UntypedStorage(numel * dtype.itemsize)

    reader = Reader(storage_of)
    with path.open("rb") as file:
        start = io.BytesIO(file.read(most))
        if reader.run(start) != MAGIC:
            reader.run(io.BytesIO(start.getvalue()))  # a plain pickle, to name its types
            _checked(reader, path)
            raise ValueError("is no file of torch.save")
        try:
            _, system, content, keys = (reader.run(start) for _ in range(4))
        except ValueError:
            if start.tell() == most < size:
                raise too_much("header_bytes", "without its tensors") from None
            raise
        _checked(reader, path)
        file.seek(start.tell())
        for key in keys:
            storage = reader.storages[key]
            (numel,) = struct.unpack("<q", file.read(8))
            if numel * storage.dtype.itemsize != storage.memory.nbytes():
                raise ValueError("is damaged (a storage has another size than its tensors)")
            _fill(storage, file, swapped=isinstance(system, dict) and system.get("little_endian") is False)
        if len(set(keys)) < len(reader.storages):
            raise ValueError("is damaged (it lacks the values of tensors)")
    return content, reader


def _fill(storage: Storage, file: BinaryIO, *, swapped: bool) -> None:
    if not storage.memory.nbytes():
        return
    values = torch.empty(0, dtype=torch.uint8).set_(storage.memory)
    if file.readinto(values.numpy()) < storage.memory.nbytes():  # type: ignore[attr-defined]
        raise ValueError("is damaged (it is cut short)")
    if swapped:
        storage.memory.byteswap(storage.dtype)
