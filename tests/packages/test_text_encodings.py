"""Text is read and written in an encoding that is named: that of the system is not UTF-8 on Windows."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from .conftest import ROOT

FILES = [path for folder in ("src", "examples", "runtime") for path in sorted((ROOT / folder).rglob("*.py"))]


def without_encoding(source: str) -> Iterator[int]:
    """The lines that read or write text in whatever encoding the system has."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        if "encoding" in given or None in given:
            continue
        of_path = isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text")
        of_process = isinstance(given.get("text"), ast.Constant)
        mode = given.get("mode", call.args[1] if len(call.args) > 1 else None)
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        of_file = isinstance(call.func, ast.Name) and call.func.id == "open" and not binary
        if of_path or of_process or of_file:
            yield call.lineno


def test_every_encoding_is_named() -> None:
    found = {str(path.relative_to(ROOT)): list(without_encoding(path.read_text(encoding="utf-8"))) for path in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    ["path.read_text()", "path.write_text(text)", "open(path)", "open(path, 'w')", "run(command, text=True)"],
)
def test_a_missing_one_is_noticed(source: str) -> None:
    assert list(without_encoding(source)) == [1]


@pytest.mark.parametrize("source", ["open(path, 'rb')", "path.read_text(encoding='utf-8')", "path.read_bytes()"])
def test_bytes_and_named_ones_pass(source: str) -> None:
    assert list(without_encoding(source)) == []
