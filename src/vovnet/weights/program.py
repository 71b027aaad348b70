"""The pickles of torch.save: nothing in them runs, and what they take is known before it is taken.

A pickle is a program. torch's own reader runs one that is restricted to tensors and plain values, but these may still
fill the memory from a few bytes: compressed parts, a text that is copied a million times, a tensor that repeats one
value. Here the program can make dicts, lists, tuples, numbers, texts and tensors whose values are in the file. Other
harmless values, which no weights need, become None.

Every error here is a ValueError whose text goes on after the name of the file.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import torch
from torch import Tensor, UntypedStorage

from vovnet.printing import line, quoted
from vovnet.weights.archive import damage

_MOST_TENSORS = 200_000
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
class Storage:
    memory: UntypedStorage
    dtype: torch.dtype


@dataclass
class Reader:
    """Runs the opcodes of a pickle on its own values.

    storage_of: reserves the memory of a storage (key, number format, number of elements); its values come later.
    """

    storage_of: Callable[[str, torch.dtype, int], UntypedStorage]
    storages: dict[str, Storage] = field(default_factory=dict)
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

    def _storage(self, stated: Any) -> Storage | None:
        if not isinstance(stated, tuple) or len(stated) < 5 or stated[0] != "storage":
            return None  # a module, whose source code old files name
        _, kind, key, _, numel, *view = stated
        dtype = _STORAGES[match[1]] if isinstance(kind, _Name) and (match := _STORAGE.fullmatch(kind.text)) else None
        if dtype is None or not isinstance(key, str) or type(numel) is not int or not 0 <= numel < 2**48:
            raise ValueError(f"is damaged (it states no storage of tensors, but {quoted(stated)})")
        if any(view):
            raise ValueError("holds views of tensors as only torch before 0.4 wrote them; save it again with torch")
        if key not in self.storages:
            self.storages[key] = Storage(self.storage_of(key, dtype, numel), dtype)
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
        if not isinstance(storage, Storage):
            raise ValueError("is damaged (a tensor has no storage)")
        return self._view(storage, storage.dtype, offset, size, stride)

    def _tensor_v3(self, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Tensor:
        """For number formats without a storage of their own."""
        if not isinstance(storage, Storage) or len(more) < 3 or not isinstance(more[2], torch.dtype):
            raise ValueError("is damaged (a tensor has no storage or number format)")
        return self._view(storage, more[2], offset, size, stride)

    def _view(self, storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> Tensor:
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
    "collections.OrderedDict": Reader._ordered_dict,
    "torch.Size": lambda _, size: size,
    "torch._utils._rebuild_tensor": Reader._tensor,
    "torch._utils._rebuild_tensor_v2": Reader._tensor,
    "torch._utils._rebuild_tensor_v3": Reader._tensor_v3,
    "torch._utils._rebuild_parameter": lambda _, tensor, *__: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda _, tensor, *__: tensor,
    "torch._tensor._rebuild_from_type_v2": Reader._wrapped,
    "torch._utils._rebuild_sparse_tensor": Reader._sparse,
    "torch._utils._rebuild_sparse_csr_tensor": Reader._sparse,
    "torch._utils._rebuild_qtensor": Reader._quantised,
    "torch._utils._rebuild_meta_tensor_no_storage": Reader._meta,
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
        raise damage(error) from error
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
