"""One HTML page of sections that needs no network.

The page is rendered from the Markdown of the sections, with HTML in it switched off, so text of strangers stays text.
Its policy allows the script in page.js, known by its hash, and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.files import replacing
from vovnet.report.document import Figure, Section, parts_to_markdown, to_markdown

if TYPE_CHECKING:
    from markdown_it.token import Token

SKELETON = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="{layout}">
<header>
<h1>{title}</h1>
{introduction}</header>
<main>
{sections}</main>
{script}</body>
</html>
"""
CellClass = Callable[[Sequence[str], int], str]


@dataclass(frozen=True)
class Choice:
    """Sections of which a page shows one at a time; all of them without its script. label: of the selection."""

    title: str
    label: str
    sections: Sequence[Section]


def write_page(
    path: str | Path,
    *,
    title: str,
    introduction: str,
    sections: Sequence[Section | Choice],
    layout: str = "",
    scripted: bool = False,
    cell_class: CellClass = lambda row, column: "",
    item_class: Callable[[str], str] = lambda text: "",
) -> None:
    """Write the page.

    introduction: Markdown, which is not escaped.
    layout: a class of the page in page.css.
    scripted: whether tables can be sorted and choices work.
    cell_class: CSS class of a cell, by the texts of its row and its column.
    item_class: CSS class of an item in a list, by its text.
    """
    script = (resources.files("vovnet.report") / "page.js").read_text(encoding="utf-8") if scripted else ""
    renderer = _Renderer(cell_class, item_class)
    page = SKELETON.format(
        policy=html.escape(content_policy(script)),
        title=html.escape(title),
        style=(resources.files("vovnet.report") / "page.css").read_text(encoding="utf-8"),
        layout=layout,
        introduction=renderer.render(introduction, {}, "introduction"),
        sections="".join(renderer.render_section(section, f"section-{i}") for i, section in enumerate(sections, 1)),
        script=f"<script>{script}</script>\n" if scripted else "",
    )
    with replacing(path) as temporary:
        # A file name need not be valid text. Other line ends would have another hash than the policy's.
        temporary.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def content_policy(script: str = "") -> str:
    """The Content-Security-Policy of a page with this script; without one, none runs. Images are in the page itself."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; "
        + (f"script-src 'sha256-{digest}'; " if script else "")
        + "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True)
class _Renderer:
    cell_class: CellClass
    item_class: Callable[[str], str]

    def render_section(self, section: Section | Choice, name: str) -> str:
        """name: prefix of the ids in it."""
        if isinstance(section, Choice):
            options = "".join(
                f'<section aria-labelledby="{name}-{i}">\n<h3 id="{name}-{i}">{html.escape(option.title)}</h3>\n'
                f"{self._render_parts(option, f'{name}-{i}')}</section>\n"
                for i, option in enumerate(section.sections, 1)
            )
            return (
                f'<section class="choice" data-label="{html.escape(section.label)}" aria-labelledby="{name}">\n'
                f'<h2 id="{name}">{html.escape(section.title)}</h2>\n{options}</section>\n'
            )
        figures = {figure.name: figure for figure in section.figures}
        return f'<section aria-labelledby="{name}">\n{self.render(to_markdown(section), figures, name)}</section>\n'

    def _render_parts(self, section: Section, name: str) -> str:
        return self.render(parts_to_markdown(section.parts), {figure.name: figure for figure in section.figures}, name)

    def render(self, markdown: str, figures: Mapping[str, Figure], name: str) -> str:
        """figures: by the name that the Markdown gives; they are put into the page itself."""
        from markdown_it import MarkdownIt

        parser = MarkdownIt("commonmark", {"html": False}).enable("table")
        tokens = list(_with_figures(parser.parse(markdown), figures))
        heading = name
        for index, token in enumerate(tokens):
            if token.type == "heading_open":
                heading = name if token.tag == "h2" else f"{name}-{index}"
                token.attrSet("id", heading)
            elif token.type == "table_open":
                self._prepare_table(tokens, index, heading)
            elif token.type == "list_item_open" and (css := self.item_class(tokens[index + 2].content)):
                token.attrSet("class", css)
        return str(parser.renderer.render(tokens, parser.options, {}))

    def _prepare_table(self, tokens: list[Token], start: int, heading: str) -> None:
        """Row headers, classes, and no closing tags of cells: tables of layers have thousands, and HTML needs none."""
        end = next(index for index in range(start, len(tokens)) if tokens[index].type == "table_close")
        heads = [token for token in tokens[start:end] if token.type == "th_open"]
        numeric = ["style" in head.attrs for head in heads]  # numbers are right-aligned
        text_class = "text" if any(numeric) else ""
        row: list[str] = []
        column = 0
        for index in range(start, end):
            token = tokens[index]
            if token.type == "tr_open":
                row, column = _cell_texts(tokens, index), 0
            elif token.type in ("th_open", "td_open"):
                token.attrs.pop("style", None)
                css = "" if numeric[column] else text_class
                if token.type == "th_open":
                    token.attrSet("scope", "col")
                else:
                    css = f"{self.cell_class(row, column)} {css if column else ''}".strip()
                    if column == 0:
                        token.tag = "th"
                        token.attrSet("scope", "row")
                if css:
                    token.attrSet("class", css)
                column += 1
            elif token.type in ("th_close", "td_close"):
                token.hidden = True
        region = f'<div class="wide" tabindex="0" role="region" aria-labelledby="{heading}">'
        table = '<table class="numbers">' if any(numeric) else "<table>"
        tokens[start] = _html_block(f"{region}\n{table}\n")
        tokens[end] = _html_block("</table>\n</div>\n")


def _cell_texts(tokens: Sequence[Token], row_start: int) -> list[str]:
    end = next(index for index in range(row_start, len(tokens)) if tokens[index].type == "tr_close")
    return [token.content for token in tokens[row_start:end] if token.type == "inline"]


def _with_figures(tokens: Sequence[Token], figures: Mapping[str, Figure]) -> Iterator[Token]:
    """Paragraphs that are an image become figures; neighbouring ones are in one grid."""
    images = [
        index
        for index, token in enumerate(tokens)
        if token.type == "inline" and token.children and [child.type for child in token.children] == ["image"]
    ]
    of_image = {index + offset: index for index in images for offset in (-1, 0, 1)}  # with the tags of its paragraph
    for index, token in enumerate(tokens):
        if index not in of_image:
            yield token
        elif index in images and token.children:
            first, last = index - 2 not in of_image, index + 2 not in of_image
            figure = _figure_html(figures[str(token.children[0].attrs["src"])])
            yield _html_block(('<div class="figures">\n' if first else "") + figure + ("</div>\n" if last else ""))


def _html_block(content: str) -> Token:
    from markdown_it.token import Token

    return Token("html_block", "", 0, content=content)


def _figure_html(figure: Figure) -> str:
    """An SVG as it is, so that its titles show on hover; any other image as data."""
    content = figure.make()
    css = ""
    if figure.name.endswith(".svg"):
        image = content.decode()
        view = re.search(r'viewBox="0 0 ([\d.]+)', image)
        css = ' class="broad"' if view and float(view[1]) > 400 else ""
    else:
        kind = "jpeg" if figure.name.endswith((".jpg", ".jpeg")) else "png"
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        image = f'<img src="{data}"{_size(content)} alt="{html.escape(figure.alt or figure.caption)}">'
    return f"<figure{css}>{image}<figcaption>{html.escape(figure.caption)}</figcaption></figure>\n"


def _size(content: bytes) -> str:
    """Width and height, which keep the page from jumping while it loads; nothing for a file that is not an image."""
    from PIL import Image, UnidentifiedImageError

    with suppress(UnidentifiedImageError), Image.open(io.BytesIO(content)) as image:
        return f' width="{image.width}" height="{image.height}"'
    return ""
