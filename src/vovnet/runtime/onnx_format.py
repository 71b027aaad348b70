"""The description in an ONNX file, after a look at what the file could do; neither runs anything nor needs a library.

An exported detector is self-contained: standard operators in one graph, and all weights in the file. A file may also
name other files, whose content would become weights, and code of other makers. Such a file is refused before a runtime
sees it.

ONNX files are protocol buffers (https://protobuf.dev/programming-guides/encoding); the numbers of the fields are those
of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

_GRAPH, _METADATA, _TRAINING, _FUNCTIONS = 7, 14, 20, 25  # of ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # of GraphProto
_ATTRIBUTE, _DOMAIN = 5, 7  # of NodeProto
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23  # of AttributeProto
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_STANDARD = (b"", b"ai.onnx")
_FOREIGN = "so vovnet did not export it: export one with vovnet export"


def read_description(data: bytes) -> bytes:
    """The JSON text of `ExportInfo` in an ONNX file; "null" if it has none.

    Raises ValueError, whose text goes on after the name of the file, if the file is damaged, or holds what no exported
    detector holds.
    """
    description = b"null"
    graphs = 0
    try:
        for number, value in _fields(memoryview(data)):
            if number in (_FUNCTIONS, _TRAINING):
                raise ValueError(f"holds functions or steps of a training, {_FOREIGN}")
            if number == _GRAPH:
                graphs += 1
                _check_graph(_message(value))
            elif number == _METADATA:
                entry = {key: bytes(_message(text)) for key, text in _fields(_message(value))}
                if entry.get(_KEY) == b"vovnet":
                    description = entry.get(_VALUE, b"")
    except _DamagedError:
        graphs = 0
    if not graphs:
        raise ValueError("is no ONNX file, or is damaged or cut short: export it again")
    return description


class _DamagedError(Exception):
    """The bytes are no message of a protocol buffer."""


def _check_graph(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == _SPARSE_INITIALIZER:
            raise ValueError(f"holds sparse weights, {_FOREIGN}")
        if number == _INITIALIZER:
            _check_tensor(_message(value))
        elif number == _NODE:
            _check_node(_message(value))


def _check_node(node: memoryview) -> None:
    for number, value in _fields(node):
        if number == _DOMAIN and bytes(_message(value)) not in _STANDARD:
            raise ValueError(f"holds operators that are not part of ONNX, {_FOREIGN}")
        if number != _ATTRIBUTE:
            continue
        for kind, part in _fields(_message(value)):
            if kind in (_SUBGRAPH, _SUBGRAPHS, _SPARSE, _SPARSES):
                raise ValueError(f"holds graphs in its graph, {_FOREIGN}")
            if kind in (_TENSOR, _TENSORS):
                _check_tensor(_message(part))


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
            raise ValueError(f"keeps weights in another file, {_FOREIGN}")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field; of packed and nested ones the bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise _DamagedError
        if position + size > len(message):
            raise _DamagedError
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _DamagedError
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
    raise _DamagedError


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise _DamagedError
    return value
