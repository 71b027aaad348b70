"""The page of an evaluation: complete, self-contained, and safe whatever the names of classes and files are."""

from __future__ import annotations

import re
import weakref
from pathlib import Path

import pytest
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from vovnet.report import evaluation as evaluation_files
from vovnet.report.evaluation import write_evaluation
from vovnet.report.evaluation_page import MOST_IMAGES
from vovnet.structures import Target

from ..metrics.made import detections_of, random_scene
from .evaluated import evaluated

HOSTILE = ("<script>alert(1)</script>", "$x^2$ `code` | **b**", "_hidden")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    detections, targets = random_scene(1, images=16)
    out = tmp_path_factory.mktemp("out")
    write_evaluation(evaluated(detections, targets, HOSTILE, folder, "<b>&"), out, worst=14)
    return (out / "evaluation.html").read_text(encoding="utf-8")


def test_sections_tables_and_figures(page: str) -> None:
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert titles == [
        "What is lost", "Classes", "Score thresholds", "Size, shape and neighbours", "Calibration", "Confusion",
        "Worst images",
    ]  # fmt: skip
    assert (page.count("<table"), page.count("<svg")) == (7, 8)
    assert page.count("data:image/jpeg;base64,") == MOST_IMAGES
    assert "2 more are in worst/" in page


def test_it_asks_for_nothing_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page
    links = set(re.findall(r"""(?:href|src)=["']([^"']{0,30})""", page))
    assert {link for link in links if not link.startswith(("#", "data:image/"))} == set()
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;&amp;" in page


def test_a_dataset_with_nothing_in_it(tmp_path: Path) -> None:
    write_evaluation(evaluated([detections_of()], [Target.make()], ["cat"], tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "There is no object to find" in page
    assert "Worst images" not in page


def test_very_many_classes(tmp_path: Path) -> None:
    """Colours for some, no matrix that nobody could read."""
    names = [f"class {number}" for number in range(90)]
    detections, targets = random_scene(2, classes=90)
    write_evaluation(evaluated(detections, targets, names, tmp_path), tmp_path / "out", worst=0)
    page = (tmp_path / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert "The matrix of 90 classes is in confusion.png." in page
    assert "better classes" in page


def test_few_images_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many large worst images the memory holds files."""
    held: list[weakref.ref[Image.Image]] = []
    most = 0

    def convert(pixels: Tensor) -> Image.Image:
        nonlocal most
        image: Image.Image = to_pil_image(pixels)
        held.append(weakref.ref(image))
        most = max(most, sum(ref() is not None for ref in held))
        return image

    monkeypatch.setattr(evaluation_files, "to_pil_image", convert)
    detections, targets = random_scene(1, images=16)
    write_evaluation(evaluated(detections, targets, HOSTILE, tmp_path), tmp_path / "out", worst=14)
    assert len(held) == 14
    assert most <= 2
