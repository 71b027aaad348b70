"""The sections as one HTML page that needs no network and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from vovnet.files import replacing
from vovnet.paper.answers import LEGEND
from vovnet.report.document import Figure, Section, Table
from vovnet.report.templates import render


def write_page(sections: Sequence[Section], path: str | Path) -> None:
    page = render(
        "paper.html.j2",
        legend=_marked(LEGEND),
        sections=sections,
        kind=_kind,
        marked=_marked,
        image=_image,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _kind(part: str | Table | Figure) -> str:
    return "text" if isinstance(part, str) else "table" if isinstance(part, Table) else "picture"


def _image(picture: Figure) -> str:
    kind = "jpeg" if picture.name.endswith((".jpg", ".jpeg")) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(picture.make()).decode()}"


def _marked(text: str) -> str:
    """Escaped, with what stands in `backticks` as code and what stands in **stars** strong."""
    from markupsafe import Markup, escape

    tagged = Markup()
    for place, piece in enumerate(text.split("`")):
        if place % 2:
            tagged += Markup("<code>{}</code>").format(piece)
            continue
        for inner, words in enumerate(piece.split("**")):
            tagged += Markup("<strong>{}</strong>").format(words) if inner % 2 else escape(words)
    return tagged
