"""The page of a comparison: complete in itself, and names of strangers stay text."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from vovnet.report.comparison_page import write_page
from vovnet.report.templates import content_policy

from .compared import HOSTILE, comparison


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(path: Path) -> Tags:
    parser = Tags()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture
def tags(tmp_path: Path) -> Tags:
    write_page(comparison(), tmp_path / "comparison.html")
    return parsed(tmp_path / "comparison.html")


def test_it_needs_no_network_and_runs_nothing(tags: Tags) -> None:
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.seen}
    policy = next(attrs["content"] for _, attrs in tags.seen if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == content_policy()
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; ")
    assert not [attrs for _, attrs in tags.seen if attrs.get("href") or any(name.startswith("on") for name in attrs)]


def test_pictures_are_in_it_with_their_sizes_and_what_they_show(tags: Tags) -> None:
    images = [attrs for tag, attrs in tags.seen if tag == "img"]
    assert len(images) == 6
    for attrs in images:
        source = attrs["src"] or ""
        assert source.startswith("data:image/jpeg;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert (str(picture.width), str(picture.height)) == (attrs["width"], attrs["height"])
    assert images[1]["alt"] == "a.jpg by bccd: 4 RBC"
    assert images[5]["alt"] == f"{HOSTILE} by {HOSTILE}: nothing"


def test_hostile_names_stay_text(tags: Tags) -> None:
    assert tags.texts.count(HOSTILE) == 4  # its heading in the table and at two pictures, and a picture's name
    assert f"1 {HOSTILE}" in tags.texts  # a class
    assert f"ground truth, bccd, {HOSTILE}: side by side" in tags.texts  # the title


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    write_page(comparison("caf\udce9.jpg"), tmp_path / "comparison.html")
    assert "caf?.jpg" in parsed(tmp_path / "comparison.html").texts


def test_policy_with_scripts() -> None:
    policy = content_policy(["one", "two"])
    assert policy.count("'sha256-") == 2
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "img-src data: blob:;" in policy
