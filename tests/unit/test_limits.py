"""The limits for files: their defaults, and how a user raises one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vovnet.errors import UsageError
from vovnet.limits import NAMES, VARIABLE, Limits, check_limit, limits, set_limit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def default_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


def test_defaults_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits() == Limits()
    monkeypatch.setenv(VARIABLE, "image_pixels=300_000_000  text_bytes=5")
    assert limits() == Limits(image_pixels=300_000_000, text_bytes=5)


def test_a_limit_that_is_set_holds_and_is_inherited() -> None:
    set_limit("image_pixels=7")
    set_limit("yaml_bytes=9")
    set_limit("image_pixels=8")
    assert limits() == Limits(image_pixels=8, yaml_bytes=9)
    assert os.environ[VARIABLE] == "image_pixels=7 yaml_bytes=9 image_pixels=8"


@pytest.mark.parametrize(
    "wrong",
    [
        "image_pixels",
        "image_pixels=",
        "image_pixels=x",
        "=5",
        "",
        "yaml_bytes=0",
        "yaml_bytes=-1",
        "text_bytes=" + "9" * 5000,
    ],
)
def test_a_wrong_limit_is_refused_and_changes_nothing(wrong: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        set_limit(wrong)
    assert limits() == Limits()


def test_an_unknown_limit_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'image_pixels'"):
        set_limit("image_pixel=5")


def test_the_message_says_what_came_and_how_to_raise_the_limit() -> None:
    check_limit("yaml_bytes", 1_000_000, "a.yaml")
    with pytest.raises(
        ValueError,
        match=re.escape("a.yaml has more than 1,000,000 bytes: cut it, or raise the limit with --limit yaml_bytes=N"),
    ):
        check_limit("yaml_bytes", 1_000_001, "a.yaml", "cut it")


def test_the_page_states_every_limit_and_its_default() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", page, re.MULTILINE))
    assert stated == {name: f"{getattr(Limits(), name):,}" for name in NAMES}
