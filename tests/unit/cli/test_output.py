"""Texts of strangers, such as class names and names of splits, reach the terminal without control characters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vovnet.cli.output import Output, complain, free_folder

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


def test_a_folder_beside_another_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the folder is named from within, so that its name is not what is written."""
    inner = tmp_path / "data/annotations"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    for named in ("..", "../annotations/..", "../../data", inner.parent):
        assert free_folder(Path(named), "-fixed").resolve() == tmp_path / "data-fixed", named
    assert free_folder(Path(), "-fixed").resolve() == tmp_path / "data/annotations-fixed"
    (tmp_path / "data-fixed").mkdir()
    assert free_folder(Path(".."), "-fixed").resolve() == tmp_path / "data-fixed-2"
