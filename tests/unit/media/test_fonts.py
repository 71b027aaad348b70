"""Names in all scripts are drawn by a font that has their letters, or written in letters that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vovnet.engine.predicting.drawing import draw_detections
from vovnet.media import fonts
from vovnet.media.fonts import draw_runs, draws, load_default, readable, runs_box, text_runs
from vovnet.structures import Detections

NAMES = [
    "cell",
    "猫",
    "汽车.jpg",
    "ねこ",
    "자동차",
    "سيارة",
    "машина",
    "café",
    "cafe\u0301",
    "😀",
    "👩\u200d🔬\ufe0f",
    "a\u00a0b",
    "two\nlines",
    "\x1b[31m",
]
CACHES = (fonts._system_fonts, fonts.font_file_for, fonts._is_drawn, fonts._base_draws, fonts.load_font)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Letters → a font with a square for each of them, higher for later ones, as the only one of this system."""

    def install(letters: str) -> Path:
        for cached in CACHES:
            cached.cache_clear()
        return make_font(tmp_path / "squares.ttf", letters)

    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    yield install
    for cached in CACHES:
        cached.cache_clear()


def make_font(path: Path, letters: str) -> Path:
    builder = pytest.importorskip("fontTools.fontBuilder").FontBuilder(1000)
    pens = pytest.importorskip("fontTools.pens.ttGlyphPen")
    names = {ord(letter): f"letter{index}" for index, letter in enumerate(letters)}

    def square(height: int) -> object:
        pen = pens.TTGlyphPen(None)
        pen.moveTo((100, 0))
        for point in ((100, height), (900, height), (900, 0)):
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    order = [".notdef", *names.values()]
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: square(900 - 50 * index) for index, name in enumerate(order)})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": f"Squares {path.parent.name}", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(str(path))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_each_letter_is_drawn_by_a_font_that_has_it(name: str) -> None:
    """Whatever fonts this system has."""
    base = load_default(20)
    runs = text_runs(name, base)
    assert runs
    assert "".join(text for _, text in runs) == readable(name, base)
    for font, text in runs:
        assert all(draws(font, letter) for letter in text), (font, text)


def test_a_font_of_this_system_draws_what_the_usual_one_lacks(install: Callable[[str], Path]) -> None:
    file = install("猫汽")
    base = load_default(20)
    runs = text_runs("a猫b", base)
    assert [text for _, text in runs] == ["a", "猫", "b"]
    assert [font is base for font, _ in runs] == [True, False, True]
    assert runs[1][0].path == str(file)
    assert runs[1][0].size == base.size


def test_what_no_font_has_is_written_in_letters_that_the_usual_one_has(install: Callable[[str], Path]) -> None:
    install("猫")
    base = load_default(20)
    assert readable("猫 cat", base) == "猫 cat"
    assert readable("汽车", base) == "\\u6c7d\\u8f66"
    assert readable("😀", base) == "\\U0001f600"
    assert readable("café", base) == readable("cafe\u0301", base) == "cafe"
    assert readable("a\u200db\ufe0f", base) == "ab"
    assert readable("ﬁn", base) in ("ﬁn", "fin")


@pytest.mark.parametrize("damaged", [b"", b"no font", b"\0\1\0\0" + bytes(60)])
def test_a_file_that_is_no_font_is_passed_over(install: Callable[[str], Path], tmp_path: Path, damaged: bytes) -> None:
    install("猫")
    (tmp_path / "damaged.ttf").write_bytes(damaged)
    assert readable("猫", load_default(20)) == "猫"


@pytest.mark.parametrize("name", ["汽车", "자동차", "กรถ", "हाथी", "தமிழ்", "𠮷", "\x00"])
def test_a_font_of_last_resort_draws_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It has a placeholder for every letter, as other fonts have a dotted circle for a mark without a letter."""
    monkeypatch.setattr(fonts, "font_folders", lambda: [Path(get_data_path(), "fonts/ttf")])
    for cached in CACHES:
        cached.cache_clear()
    assert all("LastResort" not in file.name for file, _ in fonts._system_fonts())
    assert readable(name, load_default(20)) == "".join(
        f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}" for letter in name
    )
    for cached in CACHES:
        cached.cache_clear()


def test_pieces_are_drawn_one_after_the_other_on_one_line(install: Callable[[str], Path]) -> None:
    install("猫")
    base = load_default(40)
    draw = ImageDraw.Draw(image := Image.new("RGB", (300, 100)))
    runs = text_runs("a猫b", base)
    draw_runs(draw, (10, 70), runs, (255, 255, 255))
    left, top, right, bottom = runs_box(draw, runs)
    ink = image.getbbox()
    assert ink is not None
    assert ink == pytest.approx((10 + left, 70 + top, 10 + right, 70 + bottom), abs=2)
    assert right == pytest.approx(2 * base.getlength("a") + 40, abs=6)


def drawn(name: str) -> Tensor:
    detections = Detections(
        torch.tensor([[20.0, 60.0, 180.0, 180.0]]), torch.tensor([0]), torch.tensor([0.5]), (200, 200), None
    )
    return draw_detections(torch.full((3, 200, 200), 90, dtype=torch.uint8), detections, [name])


@pytest.mark.parametrize("names", [("汽", "车"), ("ك", "ل"), ("é", "è"), ("차", "자")])
@pytest.mark.parametrize("installed", ["", "汽车"])
def test_class_names_on_images_can_be_told_apart(
    install: Callable[[str], Path], names: tuple[str, str], installed: str
) -> None:
    """Boxes for letters that are missing would all look the same."""
    install(installed + "x")
    first, second = map(drawn, names)
    if names != ("é", "è"):  # both "e" where no font has them
        assert not torch.equal(first, second)
    lacking = drawn("\U0010ffff")
    assert not torch.equal(first, lacking)


def test_ascii_names_look_as_they_did() -> None:
    image = Image.new("RGB", (200, 60))
    draw, font = ImageDraw.Draw(image), load_default(20)
    left, top, *_ = draw.textbbox((0, 0), "cell 0.50", font=font)
    draw.text((10 - left, 10 - top), "cell 0.50", fill=(255, 255, 255), font=font)
    other = Image.new("RGB", (200, 60))
    draw, runs = ImageDraw.Draw(other), text_runs("cell 0.50", font)
    left, top, *_ = runs_box(draw, runs)
    draw_runs(draw, (10 - left, 10 - top), runs, (255, 255, 255))
    assert np.array_equal(np.asarray(image), np.asarray(other))
    assert isinstance(font, ImageFont.FreeTypeFont)
