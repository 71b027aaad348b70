"""Every picture of the documents is drawn by `make results`, and is the one that it draws."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import matplotlib
import numpy as np
import pictures
import pytest
from packaging.version import Version
from pictures import PICTURES
from PIL import Image

from vovnet.paper.sources import Sources
from vovnet.paper.subjects import section_of

from ..pages import PAGES

RECORDED = {"docs/reproduction/figure5.jpg": "a copy of docs/records/figure5.jpg, whose weights do not ship"}
OF_THE_PAPER = {"docs/reproduction/figure2.png", "docs/reproduction/figure2_colour_blind_safe.png"} | {
    f"docs/reproduction/figure{number}.png" for number in (3, 4)
}
SHIPPED_LATER = {"docs/detections_voc.jpg"}  # by benchmarks/ship_voc.py, with its weights


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def assert_same_picture(drawn: bytes, file: Path) -> None:
    """Up to the smoothing of letters and lines, which differs between versions of the libraries."""
    ours, stored = pixels(drawn), pixels(file.read_bytes())
    assert ours.shape == stored.shape
    assert np.abs(ours - stored).mean() < 1, f"{file} is not what `make results` draws: run it"


def assert_same_plot(drawn: bytes, file: Path) -> None:
    """Of an older Matplotlib, which places letters and with them the axes elsewhere, only as large."""
    if Version(matplotlib.__version__) < Version("3.11"):
        assert pixels(drawn).shape == pixels(file.read_bytes()).shape
    else:
        assert_same_picture(drawn, file)


def shown(page: Path) -> list[str]:
    links = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [os.path.normpath(page.parent / link) for link in links if "://" not in link]


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=str)
def test_pictures_are_drawn_by_a_function(page):
    for name in shown(page):
        assert name in {*PICTURES, *OF_THE_PAPER, *RECORDED, *SHIPPED_LATER}, f"nothing draws {name}"


@pytest.mark.parametrize("name", PICTURES)
def test_a_rebuild_gives_the_picture(name):
    same = assert_same_plot if name.endswith(".png") else assert_same_picture
    same(PICTURES[name](), Path(name))


def test_figures_of_the_paper_are_those_of_the_records():
    sections = [section_of(f"figure{number}", Sources(Path("docs/records"))) for number in (2, 3, 4, 5)]
    drawn = {f"docs/reproduction/{figure.name}": figure for section in sections for figure in section.figures}
    assert drawn.keys() == OF_THE_PAPER | RECORDED.keys()
    for name, figure in drawn.items():
        same = assert_same_plot if name.endswith(".png") else assert_same_picture
        same(figure.content, Path(name))


def test_fewer_boxes_are_noticed(monkeypatch):
    """Those of a score below 0.9 are gone: detections that changed must not pass for other letters."""
    real = pictures.Drawer
    monkeypatch.setattr(
        pictures, "Drawer", lambda detectors, names, threshold, top_k: real(detectors, names, 0.9, top_k)
    )
    with pytest.raises(AssertionError, match="is not what `make results` draws"):
        assert_same_picture(PICTURES["docs/detections.jpg"](), Path("docs/detections.jpg"))


def test_another_picture_is_noticed():
    with pytest.raises(AssertionError, match="is not what `make results` draws"):
        assert_same_picture(Path("docs/records/bccd.png").read_bytes(), Path("docs/records/penn_fudan.png"))
