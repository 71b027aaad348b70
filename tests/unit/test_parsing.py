"""Text, JSON and YAML of strangers: the content, or one sentence that goes on after the name of the file."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from vovnet import parsing
from vovnet.parsing import naming, parse_json, read_text, text_lines
from vovnet.yaml_parsing import ConfigLoader, TextLoader, compose_yaml, parse_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


def test_scalars_are_text_as_written() -> None:
    text = "names: [no, 012, 1_000, 12:30, 0x1f, 1e5, ~, 2024-01-01, !!int 5, =, <<]"
    assert parse_yaml(text) == {
        "names": ["no", "012", "1_000", "12:30", "0x1f", "1e5", "~", "2024-01-01", "5", "=", "<<"]
    }


@pytest.mark.parametrize("loader", [TextLoader, ConfigLoader])
@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &x 1\nb: *x",
        "a: &x [*x]",
        "[" * 5000,
        "- " * 5000 + "x",
        "[" * 60 + "]" * 60,
        "{" * 20000,
        "a: [",
        "? {a: b}\n: c",
        "a: !!timestamp x\nb: [",
        "\x01",
        "%YAML 9.9\n---\na",
        "a: b: c",
        "\t- a",
        "a: 1\n---\nb: 2",
    ],
)
def test_strange_yaml_is_a_short_sentence(text: str, loader: type[ConfigLoader | TextLoader]) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"^(is|has|repeats|holds) ") as caught:
        parse_yaml(text, loader)
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "!!timestamp x",
        "!!int x",
        "!!binary 'é'",
        "!!bool x",
        "!!float x",
        "!!python/name:os.system ''",
        "{1: 2, [a]: 3}",
        "!!set [a]",
        "!!omap x",
        "!!pairs x",
        "!!null {}",
    ],
)
def test_tags_that_lie_are_a_short_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is not valid YAML|has a list or section as a key) ") as caught:
        parse_yaml(text, ConfigLoader)
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("text", ["9" * 19, "[1, -" + "9" * 5000 + "]", '{"a": 1' + "0" * 400 + "}"])
def test_whole_numbers_are_bounded(text: str) -> None:
    with pytest.raises(ValueError, match="holds the number .* digits"):
        parse_json(text)
    assert parse_json("[999999999999999999, -1, 1e3]") == [999999999999999999, -1, 1000.0]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe{\x00", b"\xe9", b"[" * 100_000, b'{"a":' * 100_000, b"[1,]", b"\x00", b"nul"]
)
def test_strange_json_is_a_short_sentence(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(is|holds) ") as caught:
        parse_json(data)
    assert type(caught.value) is ValueError
    assert len(str(caught.value)) < 200


def test_a_file_above_its_limit_says_how_to_raise_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: " + "x" * 100)
    monkeypatch.setenv("VOVNET_LIMITS", "yaml_bytes=50")
    with pytest.raises(ValueError, match=r"^has more than 50 bytes: raise the limit with --limit yaml_bytes=N"):
        read_text(path, "yaml_bytes")
    with pytest.raises(ValueError, match=r"a.yaml has more than 50 bytes"), naming(path):
        read_text(path, "yaml_bytes")


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "folder"), (Path("/dev/zero"), "special file"), (tmp_path / "x", "does not exist")):
        with pytest.raises(ValueError, match=what):
            read_text(path)


@pytest.mark.parametrize("loader", [TextLoader, ConfigLoader])
@pytest.mark.parametrize(
    ("text", "key"), [("a: 1\nb: 2\na: 3", "a"), ("{x: {no: 1, no: 2}}", "no"), ("- ? 1\n- {1: a, 1: b}", "1")]
)
def test_a_key_that_is_there_twice_is_named(text: str, key: str, loader: type[ConfigLoader | TextLoader]) -> None:
    with pytest.raises(ValueError, match=rf"states '{key}' twice, in lines? \d.*: leave one out"):
        parse_yaml(text, loader)


def test_equal_values_are_no_repeated_key() -> None:
    assert parse_yaml("a: {x: 1}\nb: {x: 1}") == {"a": {"x": "1"}, "b": {"x": "1"}}


@pytest.mark.parametrize("text", [BOMB, "[" * 99, "- a\n" * 60_000, "a: [", "a: *b", "a: 1\na: 2"])
def test_nodes_have_the_bounds_of_values(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"^(is|has|repeats|states) "):
        compose_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("part", [1, 2, 3, 7, 2**17])
@pytest.mark.parametrize(
    "text", ["", "a", "a\n", "\n\n", "é\r\nb\rc\n\nd", "\r", "a\r", "\r\n\r\n", "a\u2028b\x0bc\r\r\nd"]
)
def test_lines_that_are_read_one_by_one_are_those_of_the_whole_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, text: str
) -> None:
    monkeypatch.setattr(parsing, "_PART", part)
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert list(text_lines(path, "json_bytes")) == list(io.StringIO(text, newline=""))


@pytest.mark.parametrize("part", [4, 5, 2**17])
@pytest.mark.parametrize(
    "data", [b"ab\xffcd", b"\xef\xbb\xbfabcdef\xff", "abcé".encode()[:-1], b"abcdefg\xc3(", "a" * 9 + "😀" + "\udc80"]
)
def test_a_byte_that_is_no_text_is_named_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, data: bytes | str
) -> None:
    monkeypatch.setattr(parsing, "_PART", part)
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    with pytest.raises(UnicodeDecodeError) as fault:
        data.decode()
    (tmp_path / "a.csv").write_bytes(data)
    expected = f"byte 0x{data[fault.value.start]:02x} at position {fault.value.start}"
    with pytest.raises(ValueError, match=expected):
        list(text_lines(tmp_path / "a.csv", "json_bytes"))
