"""Reads what torch.save wrote: nothing in it runs, and what it takes is known before it is taken.

A pickle is a program. torch's own reader runs one that is restricted to tensors and plain values, but these may still
fill the memory from a few bytes: compressed parts, a text that is copied a million times, a tensor that repeats one
value. Here the program can make dicts, lists, tuples, numbers, texts and tensors whose values are in the file. Other
harmless values, which no weights need, become None.

Every error here is a ValueError whose text goes on after the name of the file.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, UntypedStorage

from vovnet.limits import check_limit, limits, too_much
from vovnet.printing import line, quoted
from vovnet.weights.archive import damage, opened_archive

_MAGIC = 0x1950A86A20F9469CFC6C  # of the files before torch 1.6
_MOST_TENSORS = 200_000
_MOST_SHARED = 8  # bytes of all tensors in sizes of the file, if they share values
_MOST_STEPS = 1_000_000  # of the program; a tensor takes about 25
_MOST_PAIRS = 1_000_000
_MOST_BITS = 1024  # of a whole number

_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    **{"Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128},
    **{"QInt8": torch.int8, "QUInt8": torch.uint8, "QInt32": torch.int32, "Untyped": torch.uint8},
}
_STORAGE = re.compile(rf"torch\.(?:cuda\.|storage\.)?({'|'.join(_STORAGES)})Storage")
_NO_CODE = re.compile(
    r"""collections\.Counter | _codecs\.encode | (builtins|__builtin__)\.(bytearray|set|complex) | torch\.device
    | torch\.serialization\._get_layout | torch\.nn\.parameter\.(Parameter|Buffer) | torch\.(cuda\.)?\w*Tensor
    | torch\.per_(tensor|channel)_\w+""",
    re.VERBOSE,
)


class RefusedError(ValueError):
    """The file holds objects of other types than values and tensors. types: their names."""

    def __init__(self, types: Iterable[str]) -> None:
        super().__init__("holds more than tensors")
        self.types = sorted(types)


@dataclass(frozen=True)
class _Name:
    """A class or function that the pickle names; it is never looked up."""

    text: str


@dataclass(frozen=True)
class _Storage:
    memory: UntypedStorage
    dtype: torch.dtype


@dataclass
class _Reader:
    """Runs the opcodes of a pickle on its own values.

    storage_of: reserves the memory of a storage (key, number format, number of elements); its values come later.
    """

    storage_of: Callable[[str, torch.dtype, int], UntypedStorage]
    storages: dict[str, _Storage] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    tensors: int = 0
    tensor_bytes: int = 0
    pairs: int = 0
    incomplete: bool = False  # whether a tensor states more values than the file has

    def run(self, stream: BinaryIO) -> Any:
        """The value of the next pickle of the stream."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        arg: Any
        for opcode, arg in _opcodes(stream):
            match opcode.name:
                case "BINGET" | "LONG_BINGET" | "GET":
                    stack.append(memo[arg])
                case "BINPUT" | "LONG_BINPUT" | "PUT":
                    memo[arg] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BININT1" | "BININT" | "BININT2" | "INT" | "LONG1" | "LONG4" | "LONG" | "BINFLOAT" | "FLOAT" if (
                    not isinstance(arg, int) or arg.bit_length() <= _MOST_BITS
                ):
                    stack.append(arg)
                case "BINUNICODE" | "SHORT_BINUNICODE" | "UNICODE" | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES":
                    stack.append(arg)
                case "BINSTRING" | "SHORT_BINSTRING" | "STRING":  # of Python 2, decoded as Latin-1 by pickletools
                    stack.append(arg.encode("latin-1").decode("utf-8"))
                case "MARK":
                    marks.append(len(stack))
                case "TUPLE" | "LIST":
                    parts = _since(marks, stack)
                    stack.append(tuple(parts) if opcode.name == "TUPLE" else parts)
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(opcode.name[-1])
                    stack[-count:] = [tuple(stack[-count:])]
                case "EMPTY_TUPLE":
                    stack.append(())
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_DICT":
                    stack.append({})
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(opcode.name == "NEWTRUE")
                case "APPEND" | "APPENDS":
                    added = [stack.pop()] if opcode.name == "APPEND" else _since(marks, stack)
                    if isinstance(stack[-1], list):
                        stack[-1].extend(added)
                case "SETITEM" | "SETITEMS":
                    added = [stack.pop(-2), stack.pop()] if opcode.name == "SETITEM" else _since(marks, stack)
                    if isinstance(stack[-1], dict):
                        _set_items(stack[-1], added)
                case "GLOBAL":
                    stack.append(self._name(arg.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(self._name(f"{line(module)}.{line(name)}"))
                case "REDUCE" | "NEWOBJ":
                    args, called = stack.pop(), stack.pop()
                    stack.append(self._call(called, args))
                case "BUILD":  # the attributes of an object
                    stack.pop()
                case "BINPERSID":
                    stack.append(self._storage(stack.pop()))
                case "POP":
                    stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    return stack.pop()
                case other:
                    raise ValueError(f"is damaged (it holds {other}, which torch.save does not write)")
        raise ValueError("is damaged (it is cut short)")

    def _name(self, text: str) -> _Name | torch.dtype:
        if text in _DTYPES:
            return _DTYPES[text]
        known = text in _FUNCTIONS or _NO_CODE.fullmatch(text) or _STORAGE.fullmatch(text)
        if not known and len(self.refused) < 1000:
            self.refused.add(text)
        return _Name(text)

    def _call(self, called: Any, args: Any) -> Any:
        if not isinstance(args, tuple) or len(args) > 12:
            raise ValueError("is damaged (it holds a call without arguments)")
        function = _FUNCTIONS.get(called.text) if isinstance(called, _Name) else None
        return function(self, *args) if function else None

    def _storage(self, stated: Any) -> _Storage | None:
        if not isinstance(stated, tuple) or len(stated) < 5 or stated[0] != "storage":
            return None  # a module, whose source code old files name
        _, kind, key, _, numel, *view = stated
        dtype = _STORAGES[match[1]] if isinstance(kind, _Name) and (match := _STORAGE.fullmatch(kind.text)) else None
        if dtype is None or not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
            raise ValueError(f"is damaged (it states no storage of tensors, but {quoted(stated)})")
        if any(view):
            raise ValueError("holds views of tensors as only torch before 0.4 wrote them; save it again with torch")
        if key not in self.storages:
            self.storages[key] = _Storage(self.storage_of(key, dtype, numel), dtype)
        return self.storages[key]

    def _ordered_dict(self, pairs: Any = (), /) -> dict[Any, Any]:
        self.pairs += len(pairs)  # which Python 2 wrote so; a list may be used more than once
        if self.pairs > _MOST_PAIRS:
            raise ValueError(f"has more than {_MOST_PAIRS:,} entries")
        result: dict[Any, Any] = {}
        _set_items(result, [part for key, value in pairs for part in (key, value)])
        return result

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        """As `torch._utils._rebuild_tensor_v2`, if the values are there; else a tensor without values."""
        if not isinstance(storage, _Storage):
            raise ValueError("is damaged (a tensor has no storage)")
        return self._view(storage, storage.dtype, offset, size, stride)

    def _tensor_v3(self, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Tensor:
        """For number formats without a storage of their own."""
        if not isinstance(storage, _Storage) or len(more) < 3 or not isinstance(more[2], torch.dtype):
            raise ValueError("is damaged (a tensor has no storage or number format)")
        return self._view(storage, more[2], offset, size, stride)

    def _view(self, storage: _Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
        if not _sizes((offset,)) or not _sizes(stride) or not _sizes(size) or len(stride) != len(size):
            raise ValueError("is damaged (a tensor has no shape)")
        numel = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if numel else -1
        if numel > 2**48 or (last + 1) * dtype.itemsize > storage.memory.nbytes():
            raise ValueError(f"is damaged (a tensor of {quoted(size)} has fewer values in the file)")
        if numel * dtype.itemsize > storage.memory.nbytes():  # it repeats values
            return self._without_values(size)
        self._count(numel * dtype.itemsize)
        return torch.empty(0, dtype=dtype).set_(storage.memory, offset, size, stride)

    def _sparse(self, _: Any, parts: Any) -> Tensor:
        return self._without_values(next(part for part in parts if isinstance(part, tuple)))

    def _quantised(self, _: Any, __: Any, size: Any, *___: Any) -> Tensor:
        return self._without_values(size)

    def _meta(self, _: Any, size: Any, *__: Any) -> Tensor:
        return self._without_values(size)

    def _wrapped(self, called: Any, _: Any, args: Any, *__: Any) -> Any:
        return self._call(called, args)

    def _without_values(self, size: Any) -> Tensor:
        if not _sizes(size) or math.prod(size) >= 2**62:
            raise ValueError("is damaged (a tensor has no shape)")
        self._count(0)
        self.incomplete = True
        return torch.empty(size, device="meta")

    def _count(self, size: int) -> None:
        self.tensors += 1
        self.tensor_bytes += size
        if self.tensors > _MOST_TENSORS:
            raise ValueError(f"holds more than {_MOST_TENSORS:,} tensors")


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Reader._ordered_dict,
    "torch.Size": lambda _, size: size,
    "torch._utils._rebuild_tensor": _Reader._tensor,
    "torch._utils._rebuild_tensor_v2": _Reader._tensor,
    "torch._utils._rebuild_tensor_v3": _Reader._tensor_v3,
    "torch._utils._rebuild_parameter": lambda _, tensor, *__: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda _, tensor, *__: tensor,
    "torch._tensor._rebuild_from_type_v2": _Reader._wrapped,
    "torch._utils._rebuild_sparse_tensor": _Reader._sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _Reader._sparse,
    "torch._utils._rebuild_qtensor": _Reader._quantised,
    "torch._utils._rebuild_meta_tensor_no_storage": _Reader._meta,
}


def _opcodes(stream: BinaryIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    try:
        for step, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
            if step == _MOST_STEPS:
                break
            yield opcode, arg
        else:
            return
    except Exception as error:
        raise ValueError(damage(error)) from error
    raise ValueError(f"holds more than {_MOST_STEPS:,} values and tensors, which no weights need")


def _since(marks: list[int], stack: list[Any]) -> list[Any]:
    start = marks.pop()
    parts = stack[start:]
    del stack[start:]
    return parts


def _set_items(target: dict[Any, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # To hash a tuple of tuples can take for ever.
        plain = key if isinstance(key, tuple) else (key,)
        if not all(part is None or isinstance(part, str | int | float | bytes) for part in plain):
            raise ValueError(f"holds a dict with a key that is no text or number, but {quoted(key, 40)}")
        target[key] = value


def _sizes(values: Any) -> bool:
    return isinstance(values, tuple) and len(values) <= 64 and all(type(n) is int and 0 <= n < 2**62 for n in values)


# The two layouts ----------------------------------------------------------------------------------------------------


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
        raise ValueError(damage(error)) from error
    if complete and reader.incomplete:
        raise ValueError("holds a tensor without values of its own (sparse, quantised or expanded)")
    return content


def _checked(reader: _Reader, path: Path) -> _Reader:
    """Before the values are read."""
    if reader.refused:
        raise RefusedError(reader.refused)
    check_limit("weights_bytes", reader.tensor_bytes, "with all its tensors")
    if reader.tensor_bytes > _MOST_SHARED * path.stat().st_size + 2**20:
        raise ValueError(f"holds tensors of {_MOST_SHARED} times its size, which share their values: save them apart")
    return reader


def _read_zip(path: Path) -> tuple[Any, _Reader]:
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
        reader = _Reader(storage_of)
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


def _read_old(path: Path) -> tuple[Any, _Reader]:
    """As torch before 1.6 wrote it: pickles, then each storage with its number of elements before it."""
    size, most = path.stat().st_size, limits().header_bytes
    reserved = 0

    def storage_of(key: str, dtype: torch.dtype, numel: int) -> UntypedStorage:
        nonlocal reserved
        reserved += numel * dtype.itemsize
        if reserved > size:
            raise ValueError(f"is damaged (it states storages of {reserved} bytes and has {size})")
        return UntypedStorage(numel * dtype.itemsize)

    reader = _Reader(storage_of)
    with path.open("rb") as file:
        start = io.BytesIO(file.read(most))
        if reader.run(start) != _MAGIC:
            reader.run(io.BytesIO(start.getvalue()))  # a plain pickle, to name its types
            _checked(reader, path)
            raise ValueError("is no file of torch.save")
        try:
            _, system, content, keys = (reader.run(start) for _ in range(4))
        except ValueError:
            if start.tell() == most < size:
                raise ValueError(too_much("header_bytes", "without its tensors")) from None
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


def _fill(storage: _Storage, file: BinaryIO, *, swapped: bool) -> None:
    if not storage.memory.nbytes():
        return
    values = torch.empty(0, dtype=torch.uint8).set_(storage.memory)
    if file.readinto(values.numpy()) < storage.memory.nbytes():  # type: ignore[attr-defined]
        raise ValueError("is damaged (it is cut short)")
    if swapped:
        storage.memory.byteswap(storage.dtype)
