"""Sections as Markdown and as a page: text stays text, figures are in the page, and nothing else may run."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from vovnet.printing import printable
from vovnet.report.document import BulletList, Figure, Section, Table, parts_to_markdown, to_markdown
from vovnet.report.page import Choice, content_policy, page_content
from vovnet.report.plotting import COLOURS, marker_svg

from .tags import Tags

HOSTILE = [
    "</td><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "# a heading #",
    "- an item",
    "+ an item",
    "1. an item",
    "> a quote",
    "![an image](x.png)",
    "[a link](http://host/)",
    "<http://host/>",
    "*emphasis* and _emphasis_ and ~~emphasis~~",
    "a | b",
    "a ` backtick",
    "`` ` ` ``",
    "back\\slash",
    "&lt;entity&gt;",
    "two\nlines\n\n# heading",
    "---",
    "***",
    "    code",
    "[x](javascript:alert(1))",
    "\u202egpj.exe\u2066",
    "\x1b[2J\0\x9b",
    "\ufffe\uffff\udce9",
]


def page(folder: Path, sections: list[Section | Choice], **options: object) -> Tags:
    content = page_content(title="A <title>", introduction="As it **is**", sections=sections, **options)  # type: ignore[arg-type]
    (folder / "page.html").write_bytes(content)
    return Tags(content.decode())


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def one_line(text: str) -> str:
    return " ".join(printable(text).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is(text: str, tmp_path: Path) -> None:
    parts = [text, Table([text, "b"], [["c", text]], text, [text]), BulletList(text, [text])]
    markdown = to_markdown(Section(text, parts))
    from_markdown = Tags(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))
    on_page = page(tmp_path, [Section(text, parts)])
    allowed = {"h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert {tag for tag, _ in from_markdown.elements} <= allowed
    around = {"html", "head", "meta", "title", "style", "body", "header", "h1", "strong", "main", "section", "div"}
    assert {tag for tag, _ in on_page.elements} <= allowed | around
    shown = one_line(text)
    for tags in (from_markdown, on_page):
        texts = {tag: [one_line(text) for text in tags.texts_of(tag)] for tag in allowed}
        assert texts["h2"] == [shown]
        assert texts["h3"] == [shown, shown]
        assert texts["p"][-1] == shown
        assert texts["th"][:2] == [shown, "b"]
        assert texts["td"][-1] == shown
        assert texts["li"] == [shown, shown]


def test_backticks_are_code(tmp_path: Path) -> None:
    cell = parts_to_markdown([Table(["a"], [["run `a | b` *now*"]])]).splitlines()[2]
    assert cell == r"| run `a \| b` \*now\* |"
    html = MarkdownIt("commonmark").enable("table").render(parts_to_markdown([Table(["a"], [["run `a | b` *now*"]])]))
    assert "<td>run <code>a | b</code> *now*</td>" in html
    page(tmp_path, [Section("", [Table(["a", "b"], [["", "run `a | <b>` *now*"]])])])
    assert "<td>run <code>a | &lt;b&gt;</code> *now*\n" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_table_has_row_headers_and_right_aligned_numbers(tmp_path: Path) -> None:
    values = [[None, None, 0.123456789], [None, None, None]]
    table = Table(["model", "kind", "time"], [["a", "x", "0.1235"], ["b", "y", "–"]], values=values)
    tags = page(
        tmp_path,
        [Section("Tables", [table])],
        cell_class=lambda row, column: "mark" if row[column] == "y" else "",
    )
    assert tags.of("table") == [{"class": "numbers"}]
    assert [cell.get("scope") for cell in tags.of("th")] == ["col"] * 3 + ["row"] * 2
    assert [cell.get("class") for cell in tags.of("td")] == ["text", None, "mark text", None]
    assert [cell.get("data-value") for cell in tags.of("td")] == [None, "0.1234568", None, None]
    assert tags.texts_of("td") == ["x", "0.1235", "y", "–"]
    assert "| --- | --- | ---: |" in parts_to_markdown([table])


def test_a_marker_is_beside_the_name_of_a_row(tmp_path: Path) -> None:
    markers = [marker_svg(index) for index in range(56)]
    assert len(set(markers)) == 56
    rows = [[str(index)] for index in range(56)]
    tags = page(tmp_path, [Section("Models", [Table(["model"], rows, markers=markers)])])
    colours = [shape["fill"] for shape in tags.of("polygon")]
    assert colours[:8] == [*COLOURS, COLOURS[0]]
    square = (tmp_path / "page.html").read_text(encoding="utf-8").splitlines()
    assert any('points="-50,50 50,50 50,-50 -50,-50 -50,50"' in line and line.endswith("</svg>1") for line in square)


def test_figures_are_in_the_page(tmp_path: Path) -> None:
    svg = b'<svg viewBox="0 0 504 10"><title>a value</title></svg>'
    figures = [
        Figure("a.png", "caption <a>", lambda: png(40, 30), "what it shows"),
        Figure("b.svg", "caption b", lambda: svg),
    ]
    tags = page(tmp_path, [Section("Figures", ["A paragraph.", *figures])])
    assert figures[0].content is figures[0].content  # drawn once, for the page and for its file
    (image,) = tags.of("img")
    assert (image["width"], image["height"], image["alt"]) == ("40", "30", "what it shows")
    assert base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) == png(40, 30)
    assert tags.of("figure") == [{}, {"class": "broad"}]
    assert [attributes["class"] for attributes in tags.of("div")] == ["figures"]  # one grid for both
    assert svg.decode() in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert tags.texts_of("figcaption") == ["caption <a>", "caption b"]


def test_items_can_be_marked_and_the_introduction_is_markdown(tmp_path: Path) -> None:
    items = BulletList("", ["Warning: hot", "cold"])
    tags = page(tmp_path, [Section("Remarks", [items])], item_class=lambda text: "warning" if "hot" in text else "")
    assert [item.get("class") for item in tags.of("li")] == ["warning", None]
    assert tags.texts_of("strong") == ["is"]
    assert tags.texts_of("h1") == tags.texts_of("title") == ["A <title>"]


def test_a_choice_shows_all_its_sections_without_a_script(tmp_path: Path) -> None:
    choice = Choice("Layers", "Model", [Section(name, [f"of {name}"]) for name in ("a", HOSTILE[0])])
    tags = page(tmp_path, [choice])
    assert tags.texts_of("h3") == ["a", HOSTILE[0]]
    assert not [section for section in tags.of("section") if "hidden" in section]
    assert not tags.of("script")


def test_the_policy_allows_the_pages_script_and_nothing_else(tmp_path: Path) -> None:
    assert content_policy().startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; ")
    digest = base64.b64encode(hashlib.sha256(b"one").digest()).decode()
    assert content_policy("one").startswith(f"default-src 'none'; script-src 'sha256-{digest}'; ")
    tags = page(tmp_path, [Section("Empty")], scripted=True)
    (script,) = tags.texts_of("script")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    body = text.partition("<script>")[2].partition("</script>")[0]
    assert body.strip() == script
    policy = next(meta["content"] for meta in tags.of("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == content_policy(body)


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    assert page(tmp_path, [Section("caf\udce9.jpg")]).texts_of("h2") == ["caf�.jpg"]


@pytest.mark.parametrize(
    ("name", "html"),
    [
        ("torchvision:resnet50", "torchvision:<wbr>resnet50"),
        ("timm:vit_base", "timm:<wbr>vit_<wbr>base"),
        ("runs/`a/b`/best", "runs/<wbr><code>a/<wbr>b</code>/<wbr>best"),
    ],
)
def test_the_name_of_a_model_breaks_between_its_parts(tmp_path: Path, name: str, html: str) -> None:
    """Not in the middle of "resnet50", as it must where there is no such place."""
    page(tmp_path, [Section("Models", [Table(["model", "ms"], [[name, "1"]])])])
    assert f'<th scope="row">{html}\n' in (tmp_path / "page.html").read_text(encoding="utf-8")
