"""Changes to files of any kind: bytes, numbers and words. `structured.py` knows the formats."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

Mutator = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    "0",
    "-1",
    "1",
    "2147483648",
    "-2147483649",
    "9223372036854775808",
    "18446744073709551616",
    "9" * 400,
    "9" * 5000,
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1e308",
    "1e-320",
    "1_000",
    "0x10",
    "010",
    "12:30",
    "1,5",
    "١٢٣",
    "true",
    "null",
)
WORDS = (
    "\x1b[2J\x1b]0;x\x07",
    "two\nlines",
    "carriage\rreturn",
    "\u202egpj.exe",
    "\u2028",
    "\x9b31m",
    "$\\frac{$",
    "$x_{$",
    "=cmd('x')",
    "@SUM(1)",
    "+1",
    "-1",
    "../../x",
    "../" * 40 + "etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "/dev/stdin",
    "x" * 100_000,
    "nul\0byte",
    "<script>alert(1)</script>",
    "&lt;&#0;&bogus;",
    "%s%n{0}{x.__class__}",
    "",
    " ",
    ".",
    "..",
    "~",
    "CON",
    "a" * 300 + ".jpg",
    "é\u0301",
    "\ufeff",
    "'\"`;|",
    "file:///etc/passwd",
    "http://127.0.0.1:9/x",
    "__import__('os')",
    "!!python/object/apply:os.system ['true']",
    "[" * 3000,
    "{" * 3000,
    "\ud800",
    "*a",
    "&a [*a]",
    "<<: *a",
    "\\",
    "NaN",
    "on",
)
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][\w./-]*")


def encoded(text: str) -> bytes:
    """UTF-8, in which halves of surrogate pairs stay what they are: invalid."""
    return text.encode("utf-8", errors="surrogatepass")


def any_bytes(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One change that needs no knowledge of the format. others: files to splice with."""
    changes: list[Mutator] = [truncate, flip, overwrite, insert, delete, duplicate, extreme_field, extreme_field]
    if others:
        changes.append(lambda data, chance: splice(data, chance.choice(others), chance))
    return chance.choice(changes)(data, chance)


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), chance.choice((1, 1, 2, 4, 16)))):
        changed[_early(len(changed), chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + chance.choice((chance.randbytes(end - start), bytes(end - start))) + data[end:]


def insert(data: bytes, chance: random.Random) -> bytes:
    start = _early(len(data) + 1, chance)
    return data[:start] + chance.randbytes(chance.choice((1, 4, 64, 1024))) + data[start:]


def delete(data: bytes, chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:start] + data[end:]


def duplicate(data: bytes, chance: random.Random) -> bytes:
    start, end = _span(data, chance)
    return data[:end] + data[start:end] * chance.choice((1, 1, 3, 100)) + data[end:]


def extreme_field(data: bytes, chance: random.Random) -> bytes:
    """A binary number, mostly near the start where sizes are, becomes an extreme one."""
    width = chance.choice((1, 2, 2, 4, 4, 4, 8))
    value = chance.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1, 100_000, 65_500))
    start = _early(max(1, len(data) - width), chance)
    field = (value % 2 ** (8 * width)).to_bytes(width, chance.choice(("little", "big")))
    return data[:start] + field + data[start + width :]


def splice(data: bytes, other: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def any_text(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One change to a text: of its numbers, words or lines, or of its bytes."""
    changes: list[Mutator] = [number, number, word, word, insert_word, lines, encoding]
    changes.append(lambda data, chance: any_bytes(data, chance, others))
    return chance.choice(changes)(data, chance)


def number(data: bytes, chance: random.Random) -> bytes:
    return _replace(_NUMBER, data, encoded(chance.choice(NUMBERS)), chance)


def word(data: bytes, chance: random.Random) -> bytes:
    return _replace(_WORD, data, encoded(chance.choice((*WORDS, *NUMBERS))), chance)


def insert_word(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    return data[:start] + encoded(chance.choice(WORDS)) + data[start:]


def lines(data: bytes, chance: random.Random) -> bytes:
    """A line goes, comes again (often very often), changes place, or is very long."""
    rows = data.split(b"\n")
    at = chance.randrange(len(rows))
    match chance.randrange(5):
        case 0:
            del rows[at]
        case 1:
            rows[at:at] = [rows[at]] * chance.choice((1, 2, 2000))
        case 2:
            other = chance.randrange(len(rows))
            rows[at], rows[other] = rows[other], rows[at]
        case 3:
            rows[at] += b" " + rows[at] * chance.choice((1, 5000))
        case _:
            rows[at] = chance.choice((b"\t", b"  ")) + rows[at]
    return b"\n".join(rows)


def encoding(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8", errors="replace")
    match chance.randrange(5):
        case 0:
            return text.encode("utf-16")
        case 1:
            return b"\xef\xbb\xbf" + data
        case 2:
            return text.replace("\n", "\r").encode()
        case 3:
            return text.replace("\n", "\r\n").encode()
        case _:
            return text.encode("utf-32-be")


def _replace(pattern: re.Pattern[bytes], data: bytes, new: bytes, chance: random.Random) -> bytes:
    found = list(pattern.finditer(data[:200_000]))
    if not found:
        return data + new
    match = chance.choice(found)
    return data[: match.start()] + new + data[match.end() :]


def _early(length: int, chance: random.Random) -> int:
    """A position; half of them are among the first 128, where headers are."""
    return chance.randrange(max(1, min(length, 128) if chance.random() < 0.5 else length))


def _span(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = _early(len(data) + 1, chance)
    return start, min(len(data), start + chance.choice((1, 2, 4, 16, 256, 4096)))
