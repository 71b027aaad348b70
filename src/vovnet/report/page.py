"""One self-contained HTML page of sections.

All text is escaped, so text of strangers stays text. The page's policy allows the script in page.js, known by its hash,
and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import groupby

from vovnet.printing import printable
from vovnet.report.document import Figure, Part, Section, Table, split_code

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


def page_content(
    *,
    title: str,
    introduction: str,
    sections: Sequence[Section | Choice],
    layout: str = "",
    scripted: bool = False,
    cell_class: CellClass = lambda row, column: "",
    item_class: Callable[[str], str] = lambda text: "",
) -> bytes:
    """The page as a file.

    introduction: Markdown, which is not escaped.
    layout: a class of the page in page.css.
    scripted: whether tables can be sorted and choices work.
    cell_class: CSS class of a cell, by the texts of its row and its column.
    item_class: CSS class of an item in a list, by its text.
    """
    from markdown_it import MarkdownIt

    script = (resources.files("vovnet.report") / "page.js").read_text(encoding="utf-8") if scripted else ""
    renderer = _Renderer(cell_class, item_class)
    page = SKELETON.format(
        policy=escape(content_policy(script)),
        title=escaped(title),
        style=(resources.files("vovnet.report") / "page.css").read_text(encoding="utf-8"),
        layout=layout,
        introduction=MarkdownIt("commonmark", {"html": False}).render(introduction),
        sections="".join(renderer.section(section, f"section-{i}") for i, section in enumerate(sections, 1)),
        script=f"<script>{script}</script>\n" if scripted else "",
    )
    # A file name need not be valid text. Other line ends would have another hash than the policy's.
    return page.encode(errors="replace")


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

    def section(self, section: Section | Choice, name: str, heading: str = "h2") -> str:
        """name: id of the heading, and prefix of the ids inside."""
        if isinstance(section, Choice):
            css = f' class="choice" data-label="{escaped(section.label)}"'
            inner = "".join(self.section(option, f"{name}-{i}", "h3") for i, option in enumerate(section.sections, 1))
        else:
            css, inner = "", self.parts(section.parts, name)
        title = f'<{heading} id="{name}">{_text(section.title)}</{heading}>'
        return f'<section{css} aria-labelledby="{name}">\n{title}\n{inner}</section>\n'

    def parts(self, parts: Sequence[Part], name: str) -> str:
        """Neighbouring figures are in one grid."""
        blocks = []
        for index, (are_figures, group) in enumerate(groupby(parts, lambda part: isinstance(part, Figure))):
            inner = "".join(self.part(part, f"{name}-{index}-{i}", name) for i, part in enumerate(group))
            blocks.append(f'<div class="figures">\n{inner}</div>\n' if are_figures else inner)
        return "".join(blocks)

    def part(self, part: Part, name: str, section: str) -> str:
        """name: id of the part's heading. section: id of the heading of its section."""
        if isinstance(part, str):
            return f"<p>{_text(part)}</p>\n"
        if isinstance(part, Figure):
            return _figure(part)
        heading = f'<h3 id="{name}">{_text(part.title)}</h3>\n' if part.title else ""
        table = self.table(part, name if part.title else section) if isinstance(part, Table) else ""
        items = [
            f"<li{_class(self.item_class(item))}>{_text(item)}</li>\n"
            for item in (part.notes if isinstance(part, Table) else part.items)
        ]
        return heading + table + (f"<ul>\n{''.join(items)}</ul>\n" if items else "")

    def table(self, table: Table, heading: str) -> str:
        """Row headers, and no closing tags of cells: tables of layers have thousands, and HTML needs none."""
        numeric = [table.is_numeric(column) for column in range(len(table.header))]
        text_class = ["text" if any(numeric) and not is_number else "" for is_number in numeric]
        head = "".join(
            f'<th scope="col"{_class(css)}>{_text(cell)}\n' for css, cell in zip(text_class, table.header, strict=True)
        )
        lines = []
        for number, row in enumerate(table.rows):
            marker = table.markers[number] if table.markers else ""
            cells = [f'<th scope="row"{_class(self.cell_class(row, 0))}>{marker}{_breakable(row[0])}\n']
            for column, cell in enumerate(row[1:], start=1):
                value = table.values[number][column] if numeric[column] else None
                raw = "" if value is None or cell == f"{value:.7g}" else f' data-value="{value:.7g}"'
                css = f"{self.cell_class(row, column)} {text_class[column]}".strip()
                cells.append(f"<td{_class(css)}{raw}>{_text(cell)}\n")
            lines.append(f"<tr>\n{''.join(cells)}</tr>\n")
        return (
            f'<div class="wide" tabindex="0" role="region" aria-labelledby="{heading}">\n'
            f"<table{_class('numbers' if any(numeric) else '')}>\n<thead>\n<tr>\n{head}</tr>\n</thead>\n"
            f"<tbody>\n{''.join(lines)}</tbody>\n</table>\n</div>\n"
        )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _text(text: str) -> str:
    """The text escaped, and what is between backticks as code."""
    pieces = [escaped(piece) for piece in split_code(text)]
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces)).strip()


def escaped(text: str) -> str:
    """The text escaped, without what HTML cannot hold or what would turn the direction of what follows."""
    return escape(printable(text))


def _breakable(name: str) -> str:
    """As `_text`, with places to break the line, as in torchvision:mobilenet_v3_small and in the path of a file."""
    return re.sub(r"(?<!<)[:/_]", r"\g<0><wbr>", _text(name))


def _figure(figure: Figure) -> str:
    """An SVG as it is, so that its titles show on hover; any other image as data."""
    content = figure.content
    css = ""
    if figure.name.endswith(".svg"):
        image = content.decode()
        view = re.search(r'viewBox="0 0 ([\d.]+)', image)
        css = "broad" if view and float(view[1]) > 400 else ""
    else:
        kind = "jpeg" if figure.name.endswith((".jpg", ".jpeg")) else "png"
        data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        image = f'<img src="{data}"{_size(content)} alt="{escaped(figure.alt or figure.caption)}">'
    return f"<figure{_class(css)}>{image}<figcaption>{escaped(figure.caption)}</figcaption></figure>\n"


def _size(content: bytes) -> str:
    """Width and height, which keep the page from jumping while it loads; nothing for a file that is not an image."""
    from vovnet.media.pixels import image_header_size

    with suppress(ValueError):
        height, width = image_header_size(content)
        return f' width="{width}" height="{height}"'
    return ""
