"""A comparison as one HTML page that needs no network and runs no script."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from vovnet.files import replacing
from vovnet.report.comparison import Comparison, Tally
from vovnet.report.templates import render

if TYPE_CHECKING:
    from PIL.Image import Image


def write_page(comparison: Comparison, path: str | Path) -> None:
    page = render(
        "comparison.html.j2",
        comparison=comparison,
        columns=list(zip(comparison.columns, comparison.totals(), strict=True)),
        detectors=sum(column.weights is not None for column in comparison.columns),
        classes=_classes,
        address=_address,
    )
    with replacing(path) as temporary:
        # A file's name need not be text.
        temporary.write_text(page, encoding="utf-8", errors="replace", newline="\n")


def _classes(tally: Tally) -> str:
    """ "15 RBC, 2 WBC", most first."""
    return ", ".join(f"{count} {name}" for name, count in tally.classes.most_common())


def _address(picture: Image) -> str:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
