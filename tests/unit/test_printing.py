"""What strangers wrote is shown short, on one line, and without power over a terminal."""

from __future__ import annotations

import os
import shlex

import pytest

from vovnet.printing import PARAGRAPH, line, printable, quoted, shell_word, shell_words

HOSTILE = [
    "\x1b[31mred",
    "a\rb",
    "\u202egpj.exe",
    "\u2066x\u2069",
    "\udce9t\udce9",
    "\x9b2J",
    "a\u2028b",
    "\x07",
    "\x7f",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_drives_a_terminal_is_left(text: str) -> None:
    for shown in (printable(text), line(text), quoted(text)):
        assert shown.isprintable()
        assert "�" in shown or "\\" in shown or " " in shown
        shown.encode("utf-8")


@pytest.mark.parametrize("text", ["a b", "Äpfel", "行人", "🚗 car", "x\u200dy", "می‌خواهم"])
def test_letters_of_all_languages_stay(text: str) -> None:
    assert printable(text) == line(text) == text


@pytest.mark.skipif(os.name == "nt", reason="another shell")
@pytest.mark.parametrize(
    "name", ["a", "my cells", "my  cells", "a   b    c", "it's  so", " '  ' ", "", "$(x)  `y`", "ä;"]
)
def test_a_name_is_one_word_of_a_line_for_the_shell(name: str) -> None:
    shown = line(f"next: vovnet train {shell_word(name)} 'x y'", PARAGRAPH)
    assert shlex.split(shown) == ["next:", "vovnet", "train", name, "x y"]
    assert shell_words(["vovnet", name]) == f"vovnet {shell_word(name)}"


def test_line_ends_stay_in_a_text_and_not_in_a_line() -> None:
    assert printable("a\nb\tc") == "a\nb\tc"
    assert line("a\nb\tc") == "a b c"


@pytest.mark.parametrize("length", [119, 120, 121, 480, 481, 10_000_000])
def test_a_line_has_a_bounded_length_and_keeps_both_ends(length: int) -> None:
    shown = line("s" + "x" * (length - 2) + "e")
    assert len(shown) == min(length, 120)
    assert shown[0] == "s"
    assert shown[-1] == "e"


def test_spaces_of_a_long_text_do_not_hide_that_it_was_cut() -> None:
    assert "…" in line("a" + " " * 10_000 + "b")


def test_a_quoted_value_is_short() -> None:
    for value in (
        "x" * 10**6,
        10**4000,
        10**5000,
        -(10**5000),
        [[[["deep"]]]] * 1000,
        {"k" * 1000: "v" * 1000},
        b"\xff" * 1000,
    ):
        assert 0 < len(quoted(value)) <= 80


def test_a_quoted_value_looks_as_in_python() -> None:
    assert (quoted("a"), quoted(12), quoted(None), quoted([1, "b"])) == ("'a'", "12", "None", "[1, 'b']")
    assert quoted(10**5000) == "a number of about 5000 digits"
