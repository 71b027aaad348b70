"""Changes to files that keep their format: JSON and YAML trees, XML, zip members, PNG chunks, safetensors headers."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from typing import Any

import yaml

from .mutators import NUMBERS, WORDS, any_bytes, any_text, encoded

_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    -(2**63),
    10**18,
    1e308,
    -1e308,
    1e-320,
    float("nan"),
    float("inf"),
    [],
    {},
    "",
    [[]],
    [None],
    {"a": 1},
    {"": None},
    "1e400",
    "nan",
    [1] * 2000,
    65_535,
    100_000,
    "0",
    3.5,
)


def any_tree(tree: Any, chance: random.Random, times: int | None = None) -> Any:
    """A copy of a JSON-like tree with one to three parts deleted, replaced, nested, renamed or repeated."""
    root = [json.loads(json.dumps(tree))]
    for _ in range(times or chance.choice((1, 1, 2, 3))):
        _change(root, chance)
    return root[0]


def _change(root: list[Any], chance: random.Random) -> None:
    parent, key = _place(root, chance)
    if chance.random() < 0.1 and isinstance(parent, dict):
        parent[_hostile(chance)] = parent.pop(key)
        return
    match chance.randrange(6):
        case 0:
            if parent is root:
                root[0] = chance.choice(_VALUES)
            else:
                del parent[key]
        case 1 | 2:
            parent[key] = chance.choice(_VALUES)
        case 3:
            parent[key] = _hostile(chance)
        case 4:
            for _ in range(chance.choice((1, 40, 60, 900))):
                parent[key] = chance.choice(([parent[key]], {"a": parent[key]}))
        case _:
            if isinstance(parent[key], list) and parent[key]:
                parent[key] = parent[key] * chance.choice((2, 2, 300))
            else:
                parent[key] = [parent[key], parent[key]]


def _place(root: list[Any], chance: random.Random) -> tuple[Any, Any]:
    """A random part of the tree: what holds it, and under which key."""
    parent, key = root, 0
    while isinstance(parent[key], (dict, list)) and parent[key] and chance.random() < 0.85:
        parent = parent[key]
        key = chance.choice(list(parent)) if isinstance(parent, dict) else chance.randrange(len(parent))
    return parent, key


def _hostile(chance: random.Random) -> str:
    return chance.choice((*WORDS, *NUMBERS))


def any_json(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    if chance.random() < 0.35:
        return any_text(data, chance, others)
    if chance.random() < 0.1:  # a key that stands twice, a number that no tree holds, deep nesting
        return chance.choice(
            (
                data.replace(b"{", b'{"' + chance.choice((b"id", b"images", b"names", b"format")) + b'": 1, ', 1),
                re.sub(rb"(: ?)\d+", lambda m: m[1] + chance.choice(NUMBERS[3:9]).encode(), data, count=3),
                b"[" * 100_000 + data,
                b'{"a":' * 3000 + data + b"}" * 3000,
            )
        )
    return encoded(json.dumps(any_tree(json.loads(data), chance), ensure_ascii=chance.random() < 0.5))


_YAML_BOMBS = (
    "a: &a [x]\n"
    + "".join(f"{a}: &{a} [{', '.join([f'*{b}'] * 9)}]\n" for a, b in zip("bcdefg", "abcdef", strict=True))
    + "names: *g\n",
    "names: &a [*a]\n",
    "names: &a {x: *a}\n",
    "? [1, 2]\n: 3\n",
    "? {a: b}\n: c\n",
    "2020-01-01: x\n",
    "yes: no\n",
    "names: !!python/object/apply:os.system ['touch owned']\n",
    "names: !!python/name:os.system\n",
    "nc: !!int abc\n",
    "names: !!binary '*'\n",
    "names: !!set {a, b}\n",
    "names: !!timestamp x\n",
    "nc: !!float _\n",
    "<<: [a]\n",
    "--- a\n--- b\n",
    "names: " + "[" * 5000 + "\n",
    "nc: 0b\n",
    "nc: 190:20:30:99999999999999999999\n",
    "a: " + "- " * 3000 + "x\n",
    "%YAML 9.9\n---\na\n",
)


def any_yaml(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    if chance.random() < 0.4:
        return any_text(data, chance, others)
    if chance.random() < 0.15:
        bomb = chance.choice(_YAML_BOMBS).encode()
        return chance.choice((bomb, data + b"\n" + bomb, bomb + data))
    tree = any_tree(yaml.safe_load(data), chance)
    try:
        return encoded(
            yaml.safe_dump(tree, allow_unicode=chance.random() < 0.5, default_flow_style=chance.random() < 0.3)
        )
    except (RecursionError, UnicodeError, ValueError):
        return any_text(data, chance, others)


def _entities(data: bytes, chance: random.Random) -> bytes:
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 9))
    outside = '<!ENTITY l8 SYSTEM "file:///etc/passwd">'
    secret = '<!ENTITY l8 SYSTEM "../../neighbour/secret.txt">'
    inside = chance.choice(('<!ENTITY l0 "lol">' + laughs, outside, secret, '<!ENTITY % p SYSTEM "x.dtd"> %p;'))
    return f"<!DOCTYPE a [{inside}]>".encode() + re.sub(rb">[^<]+<", b">&l8;<", data, count=1)


def any_xml(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    """An element goes, comes again, is nested deeply, or has another text; entities and encodings."""
    if chance.random() < 0.35:
        return any_text(data, chance, others)
    elements = list(re.finditer(rb"<(\w+)>[^<]*</\1>|<(object|size|bndbox)>.*?</\2>", data, re.DOTALL))
    if not elements or chance.random() < 0.15:
        return _entities(data, chance)
    found = chance.choice(elements)
    tag = found[1] or found[2]
    depth = chance.choice((60, 3000, 30_000))
    new = chance.choice(
        (
            b"",
            found[0] * chance.choice((2, 2, 500)),
            b"<a>" * depth + found[0] + b"</a>" * depth,
            b"<%b>%b</%b>" % (tag, encoded(_hostile(chance)), tag),
            b"<%b/>" % tag,
            b"<%b><![CDATA[%b]]></%b>" % (tag, encoded(_hostile(chance)), tag),
            b'<?xml version="1.0" encoding="utf-7"?>' + found[0],
        )
    )
    return data[: found.start()] + new + data[found.end() :]


def any_png(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    """Chunks with right checksums, but another size, order or content; packed bombs."""
    chunks = _chunks(data)
    if not chunks or chance.random() < 0.4:
        return any_bytes(data, chance, others)
    at = chance.randrange(len(chunks))
    kind, content = chunks[at]
    match chance.randrange(6):
        case 0:
            side = struct.pack(
                ">II", *chance.choice(((10**5, 10**5), (30_000, 30_000), (0, 9), (12_000, 12_000), (2**31 - 1, 1)))
            )
            chunks[0] = (
                b"IHDR",
                side
                + bytes(chance.choice(((8, 2), (16, 6), (8, 3), (1, 0), (16, 0), (7, 9))))
                + content[10:13].ljust(3, b"\0"),
            )
        case 1:
            del chunks[at]
        case 2:
            chunks[at:at] = [chunks[at]] * chance.choice((1, 1000))
        case 3:
            chunks[at] = (kind, any_bytes(content, chance) if content else b"x")
        case 4:
            bomb = zlib.compress(bytes(chance.choice((10**6, 6 * 10**7))), 9)
            kind = chance.choice((b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"IDAT"))
            packed = {b"iTXt": b"key\0\1\0\0\0", b"IDAT": b"", b"eXIf": b""}.get(kind, b"key\0\0") + bomb
            chunks.insert(chance.choice((1, len(chunks) - 1)), (kind, packed))
        case _:
            chunks.insert(
                at,
                (chance.choice((b"acTL", b"PLTE", b"tRNS", b"gAMA", b"sRGB", b"fcTL", b"abcd")), chance.randbytes(8)),
            )
    return data[:8] + b"".join(map(_chunk, chunks))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, content = chunk
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def any_safetensors(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    """The header's tree, the texts of its metadata, which are JSON themselves, or its stated length."""
    if chance.random() < 0.25:
        return any_bytes(data, chance, others)
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header.get("__metadata__", {})
    if metadata and chance.random() < 0.6:
        key = chance.choice(list(metadata))
        try:
            metadata[key] = json.dumps(any_tree(json.loads(metadata[key]), chance))
        except ValueError:
            metadata[key] = _hostile(chance)
        if chance.random() < 0.2:
            metadata[key] = any_text(metadata[key].encode(errors="replace"), chance).decode(errors="replace")
        elif chance.random() < 0.15:
            del metadata[key]
    else:
        header = any_tree(header, chance)
    text = encoded(json.dumps(header))
    stated = chance.choice((len(text),) * 9 + (0, 2**62, len(text) + 10**7, 1))
    return struct.pack("<Q", stated) + text + rest


def any_zip(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    """A member with other bytes, another name, twice, a bomb, or gone."""
    if chance.random() < 0.35:
        return any_bytes(data, chance, others)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = chance.randrange(len(members))
    if chance.random() < 0.4:  # the pickle, which decides what the others mean
        at = next((i for i, (name, _) in enumerate(members) if name.endswith("data.pkl")), at)
    name, content = members[at]
    packing = zipfile.ZIP_STORED
    match chance.randrange(6):
        case 0 | 1:
            members[at] = (name, any_bytes(content, chance))
        case 2:
            members[at] = (chance.choice(("../../x", "/x", "a" * 300, name + "/", "", "a\x1b[2J")), content)
        case 3:
            del members[at]
        case 4:
            members.append((name, content))
        case _:
            members[at], packing = (name, bytes(chance.choice((10**6, 10**8)))), zipfile.ZIP_DEFLATED
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing, compresslevel=1) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name) if packing == zipfile.ZIP_STORED else name, content)
    return target.getvalue()


def any_checkpoint(data: bytes, chance: random.Random, others: Any = ()) -> bytes:
    """A training state with other settings and numbers in it, or `any_zip`. Tensors stay."""
    import torch

    if chance.random() < 0.4 or len(data) > 10**6:
        return any_zip(data, chance, others)
    content = torch.load(io.BytesIO(data), weights_only=True)
    target = io.BytesIO()
    torch.save(any_tree(content, chance), target)
    return target.getvalue()
