"""Texts of strangers, such as class names and names of splits, reach the terminal without control characters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vovnet.cli.output import Output, complain

HOSTILE = "cat\x1b[2J\x9b31m\x07"


@pytest.mark.parametrize(
    "show",
    [
        lambda: Output().say(HOSTILE),
        lambda: Output().table([HOSTILE, "objects"], [["a", "1"]]),
        lambda: Output().table(["class", "objects"], [[HOSTILE, "1"]]),
        lambda: Output().command(HOSTILE),
        lambda: complain(HOSTILE),
    ],
    ids=["sentence", "header", "cell", "command", "complaint"],
)
def test_control_characters_are_replaced(show: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    show()
    shown = "".join(capsys.readouterr())
    assert "cat\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}31m\N{REPLACEMENT CHARACTER}" in shown
    assert not set(shown) & set("\x1b\x9b\x07")


def test_a_command_keeps_the_spaces_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    Output().command("  vovnet train 'my  cells'")
    assert capsys.readouterr().out == "  vovnet train 'my  cells'\n"
