"""A JSON file that is read entry by entry is what `json.loads` makes of it, or wrong for the same reason."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vovnet import parsing
from vovnet.json_entries import JsonEntries, JsonMembers, JsonText, Part, is_same_json, open_json
from vovnet.limits import VARIABLE, LimitError

NOTES = {"images": None, "annotations": lambda entry: (len(entry), 7), "categories": None}
LETTERS = 'ab"\\\n é漢😀\u2028/ {}[],:\t'
NUMBERS: tuple[Any, ...] = (0, -1, 10**17, 10**30, 1.5, -2e-9, 1e300, -0.0, float("nan"), -float("inf"), True, None)
INSERTED = (b'"', b",", b"[", b"]", b"{", b"}", b":", b"1", b"-", b"e", b"\\", b"\\u12", b"NaN", b"\n", b"\xff", b"tru")


def make_text(rng: random.Random) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randrange(12)))


def make_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(5 if depth < 3 else 3)
    if kind < 3:
        return rng.choice(NUMBERS) if kind else make_text(rng)
    values = [make_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return values if kind == 3 else {make_text(rng): value for value in values}


def make_file(rng: random.Random) -> bytes:
    """Lists in any order, some of them twice, some with what is no object, in any style of writing."""
    keys = [*NOTES, *rng.choices([*NOTES, "info", "é"], k=rng.randrange(4))]
    rng.shuffle(keys)
    members = []
    for key in keys:
        entries = [{"id": rng.randrange(9), "x": make_value(rng)} for _ in range(rng.randrange(6))]
        value: Any = entries if rng.random() < 0.8 else [*entries, make_value(rng)] if rng.random() < 0.5 else None
        if key not in NOTES:
            value = {make_text(rng)[:1]: entry for entry in entries}
        style = {"ensure_ascii": rng.random() < 0.5, "indent": rng.choice([None, None, 1])}
        text = json.dumps(value, **style)  # type: ignore[arg-type]
        members.append(
            json.dumps(key)
            + rng.choice([":", ": ", "\n:\t"])
            + (text if rng.random() < 0.8 or key in NOTES else text[:-1] + (", " * (len(text) > 2)) + text[1:])
        )
    text = "{" + rng.choice([",", " , ", "\n,\t"]).join(members) + "}"
    if rng.random() < 0.1:
        text = json.dumps(make_value(rng))
    mark = "\ufeff" if rng.random() < 0.2 else ""
    return (mark + rng.choice(["", " ", "\n\n"]) + text + rng.choice(["", "", "\r\n", " x"])).encode()


def break_file(data: bytes, rng: random.Random) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2])):
        place = rng.randrange(len(broken) + 1)
        match rng.randrange(4):
            case 0:
                broken[place:place] = rng.choice(INSERTED)
            case 1:
                del broken[place : place + rng.choice([1, 1, 3, 30])]
            case 2:
                del broken[place:]
            case 3:
                broken[place : place + 1] = bytes([rng.randrange(1, 256)])
    return bytes(broken)


def read_whole(data: bytes, path: Path) -> Any:
    try:
        return json.loads(parsing.decode(data))
    except json.JSONDecodeError as error:
        return f"{path} is not valid JSON ({error}): it is damaged or cut short"
    except ValueError as error:
        return f"{path} {error}"


def read_entries(path: Path, objects: Sequence[str]) -> Any:
    def whole(part: Part) -> Any:
        if isinstance(part, JsonText):
            return part.value()
        return dict(part) if isinstance(part, JsonMembers) else list(part)

    try:
        with open_json(path, "json_bytes", NOTES, objects=objects, long_numbers=True) as content:
            return {key: whole(part) for key, part in content.items()} if isinstance(content, dict) else whole(content)
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("part", [4, 7, 33, 2**20])
def test_whole_and_broken_files_are_what_the_standard_library_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """Windows of a few characters are cut within every kind of token."""
    monkeypatch.setattr(parsing, "_PART", part)
    rng, path = random.Random(part), tmp_path / "a.json"
    outcomes = set()
    for _ in range(250):
        data = break_file(make_file(rng), rng)
        path.write_bytes(data)
        expected, found = read_whole(data, path), read_entries(path, rng.choice([(), ("info", "é"), ("",)]))
        assert repr(found) == repr(expected), data
        outcomes.add(type(found))
    assert {dict, str} <= outcomes


def test_entries_can_be_asked_for_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_PART", 10)
    path, entries = tmp_path / "a.json", [{"id": n, "name": "é" * n} for n in range(20)]
    text = json.dumps({"info": {"a": [1]}, "annotations": entries, "other": [1, 2]}, ensure_ascii=False)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32-le"):
        path.write_bytes(text.encode(encoding))
        with open_json(path, "json_bytes", NOTES, any_encoding=True) as content:
            assert isinstance(content, dict)
            found = content["annotations"]
            assert isinstance(found, JsonEntries)
            assert list(content) == ["info", "annotations", "other"]
            assert isinstance(content["info"], JsonText)
            assert (found[7], found[-1], found[3:5]) == (entries[7], entries[-1], entries[3:5])
            assert list(found) == entries
            assert len(found) == 20
            assert found.take_noted(0).tolist() == [2] * 20
            with pytest.raises(IndexError):
                found[20]


def test_a_list_can_be_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, 2]')
    with open_json(path, "json_bytes", {"": None}) as content:
        assert isinstance(content, JsonEntries)
        assert list(content) == [{"a": 1}, 2]
        assert not content.are_objects


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda path: path.write_text("[" * 100_000), "nested too deeply"),
        (lambda path: path.write_text('{"images": ' + '{"a":' * 100_000), "nested too deeply"),
        (lambda path: path.write_text('{"images": [' + "9" * 5000 + "]}"), "thousands of digits"),
        (lambda path: path.write_bytes('{"a": 1}'.encode("utf-16")), "is UTF-16 or UTF-32 text"),
        (lambda path: path.write_bytes(b'{"a": "\0"}'), "holds NUL bytes"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: None, "does not exist"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[Path], object], fault: str) -> None:
    path = tmp_path / "a.json"
    change(path)
    with pytest.raises(ValueError, match=fault) as error, open_json(path, "json_bytes", NOTES, long_numbers=True):
        pass
    assert str(error.value).startswith(f"{path} ")


def test_whole_numbers_are_bounded_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [{"id": ' + "9" * 19 + "}]}")
    with pytest.raises(ValueError, match="of 19 digits"), open_json(path, "json_bytes", NOTES):
        pass
    with open_json(path, "json_bytes", NOTES, long_numbers=True) as content:
        assert isinstance(content, dict)
        assert isinstance(content["images"], JsonEntries)
        assert content["images"][0] == {"id": 10**19 - 1}
    path.write_text("[1" + "0" * 400 + ", 1e999]")
    with open_json(path, "json_bytes", {"": None}, long_numbers=True) as content:
        assert isinstance(content, JsonEntries)
        assert list(content) == [10**400, float("inf")]


@pytest.mark.parametrize("text", ["1234567890123456789.5", "1234567890123456789e-3", "12345678901234567890123"])
@pytest.mark.parametrize("part", [4, 7, 25])
def test_a_long_number_that_a_window_cuts_is_judged_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, text: str
) -> None:
    """Digits before a point that the window does not show are no whole number."""
    monkeypatch.setattr(parsing, "_PART", part)
    path = tmp_path / "a.json"
    for spaces in range(30):
        path.write_text(f'[{{"x":{" " * spaces}[{text}]}}]')
        try:
            expected = parsing.read_json(path)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)), open_json(path, "json_bytes", {"": None}):
                pass
        else:
            with open_json(path, "json_bytes", {"": None}) as content:
                assert isinstance(content, JsonEntries)
                assert list(content) == expected


def test_a_file_above_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": []}')
    monkeypatch.setenv(VARIABLE, "json_bytes=10")
    with pytest.raises(ValueError, match="--limit json_bytes=N"), open_json(path, "json_bytes", NOTES):
        pass
    with pytest.raises(LimitError, match="--limit json_bytes=N"):  # one that has grown since it was opened
        list(parsing.text_parts(io.BytesIO(path.read_bytes()), "json_bytes"))


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for changed in ("", '{"images": [x}]}' + " " * 30_000):
        path.write_text(json.dumps({"images": [{"id": n} for n in range(3000)]}))
        with open_json(path, "json_bytes", NOTES) as content:
            assert isinstance(content, dict)
            images = content["images"]
            assert isinstance(images, JsonEntries)
            path.write_text(changed)
            with pytest.raises(ValueError, match="changed since it was opened"):
                list(images)


def test_other_entries_of_the_same_length_are_not_taken_for_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"images": [{"id": 1}], "info": [1]}')
    os.utime(path, (1, 1))
    with open_json(path, "json_bytes", NOTES) as content:
        assert isinstance(content, dict)
        images, info = content["images"], content["info"]
        path.write_text('{"images": [12345678], "info": [2]}')
        assert isinstance(images, JsonEntries)
        assert isinstance(info, JsonText)
        for ask in (lambda: images[0], info.text, info.value):
            with pytest.raises(ValueError, match="changed since it was opened"):
                ask()


def test_what_is_nested_too_deeply_for_a_caller_is_a_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own reading is asked deeper in the program than where the file was checked."""
    path = tmp_path / "a.json"
    path.write_text('{"images": [{"id": 1}], "info": {"a": 1}}')

    def too_deep(*_: object) -> None:
        raise RecursionError

    with open_json(path, "json_bytes", NOTES, objects=("info",)) as content:
        assert isinstance(content, dict)
        images, info = content["images"], content["info"]
        assert isinstance(images, JsonEntries)
        assert isinstance(info, JsonMembers)
        monkeypatch.setattr(images._source, "_scan", too_deep)
        for part in (images, info):
            with pytest.raises(ValueError, match="a.json is not valid JSON for this purpose"):
                part[0]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ('{"a": 1, "images": [1, {"x": 2}]}', '{"images":[1.0,{"x":2}],"a":1}', True),
        ('{"images": [1, 2]}', '{"images": [1, 3]}', False),
        ('{"images": [1, 2]}', '{"images": [1]}', False),
        ('{"images": []}', '{"images": {}}', False),
        ('{"images": []}', '{"images": [], "a": null}', False),
        ('{"a": "0"}', '{"a": 0}', False),
        ("[1, 2]", "[1,2]", True),
        ("[1, 2]", "[2, 1]", False),
        ("[]", "{}", False),
    ],
)
def test_files_are_compared_by_their_content(tmp_path: Path, one: str, other: str, is_same: bool) -> None:
    paths = tmp_path / "one.json", tmp_path / "other.json"
    for path, text in zip(paths, (one, other), strict=True):
        path.write_text(text)
    assert is_same_json(*paths, "json_bytes", ("images",)) is is_same


def test_members_of_an_object_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"é": 1, "b" \n:\t{"x": 2}, "é": [3], "c": 4, "b": 5}')
    with open_json(path, "json_bytes", {}, objects=("",)) as content:
        assert isinstance(content, JsonMembers)
        assert list(content) == [("é", [3]), ("b", 5), ("c", 4)]
        assert (content[1], content[-1], content[1:]) == (("b", 5), ("c", 4), [("b", 5), ("c", 4)])
        assert (content.get("b"), content.get("x")) == (5, None)
        assert content.has("c")
        assert not content.has("x")
