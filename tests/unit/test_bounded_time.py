"""Text of strangers is read in time that grows with its length, not with the square of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import yaml

from vovnet.data.readers.voc_lists import NameFinder, drop_lines
from vovnet.printing import line, printable, quoted
from vovnet.profiling.energy.meter import _number
from vovnet.profiling.onnx.graph import _EQUATION
from vovnet.report.document import escape_block, escape_markdown
from vovnet.report.plotting import plain_text
from vovnet.yaml_parsing import ConfigLoader

FINDER = NameFinder(["a"])
READERS: dict[str, Callable[[str], object]] = {
    "line of a list": lambda text: FINDER.find(text, flagged=True),
    "line of a list to drop": lambda text: drop_lines([text], {"a"}, FINDER),
    "heading": escape_block,
    "Markdown": escape_markdown,
    "reading of a meter": _number,
    "equation": lambda text: _EQUATION.fullmatch(text.encode()),
    "value of a config": lambda text: yaml.load(f"- '{text[:9]}'\n- {text}", ConfigLoader),
    "name": line,
    "value": quoted,
    "text": printable,
    "text of a figure": plain_text,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", ["#", "1", "a", "a/", "\\", " 1", " ", "`", "\u0301"])
def test_a_text_of_one_part_repeated(reader: Callable[[str], object], part: str) -> None:
    text = f"x{part * (200_000 // len(part))}"
    began = time.process_time()
    for hostile in (f"{text}!", text[1:] + "!", text):
        with suppress(ValueError, yaml.YAMLError, RecursionError):
            reader(hostile)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("line", "name"), [("a", "a"), ("a 1", "a"), ("a  -1 ", "a"), (" 1", None), ("b 1", None), ("a 0 0 1", None)]
)
def test_flags_in_lists_are_read_as_before(line: str, name: str | None) -> None:
    assert FINDER.find(line, flagged=True) == name


def test_numbers_after_names_are_read_as_before() -> None:
    assert drop_lines(["a 1 2 3", "b 1", "a", "a x"], {"a"}, FINDER) == ["b 1", "a x"]


@pytest.mark.parametrize(("text", "value"), [("1.", 1), ("1.5", 1.5), (".5", 0.5), ("-1e3", -1000), ("+2.e-1", 0.2)])
def test_numbers_are_read_as_before(text: str, value: float) -> None:
    assert _number(text) == value
    if "e" in text:
        assert yaml.load(text, ConfigLoader) == value


@pytest.mark.parametrize("text", ["a #", "a##", "#", "a # b"])
def test_a_heading_keeps_its_end(text: str) -> None:
    assert escape_block(text).replace("\\", "") == text
    assert not escape_block(text).endswith(" #")
