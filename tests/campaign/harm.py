"""What could do harm in texts and files that were written: to a terminal, a spreadsheet, a browser, a parser."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

FORGED = "vovnet: all is well"
POWER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harm_in_text(data: bytes) -> list[str]:
    """What could drive a terminal, or passes for a message of ours."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"not UTF-8: {error}"]
    faults = [
        f"prints {match[0]!a} in {text[max(0, match.start() - 40) : match.end() + 20]!a}"
        for match in POWER.finditer(text)
    ][:1]
    return faults + [f"forged: {line!a}" for line in text.splitlines() if line.strip().startswith(FORGED)]


def harm_in_file(name: str, data: bytes) -> list[str]:
    try:
        whole(name, data)
    except Exception as error:
        return [f"cannot be parsed: {error}"]
    suffix = Path(name).suffix
    if suffix == ".csv":
        rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
        return [
            f"formula {cell!a}" for row in rows for cell in row if cell.startswith(_FORMULA) and not _is_number(cell)
        ][:1]
    if suffix in (".html", ".svg"):
        text = data.decode("utf-8")
        return ["runs a script"] if "<script>alert(1)" in text else []
    return harm_in_text(data) if suffix == ".md" else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole(name: str, data: bytes) -> None:
    """Raises if the file is not a complete one of the format that its name says."""
    from xml.etree import ElementTree

    from PIL import Image

    match Path(name).suffix:
        case ".json":
            json.loads(data.decode("utf-8"))
        case ".svg":
            ElementTree.fromstring(data)
        case ".png" | ".jpg":
            Image.open(io.BytesIO(data)).load()
        case ".html":
            if not data.rstrip().endswith(b"</html>"):
                raise ValueError("no end of the page")
        case ".csv" | ".md":
            if not data.endswith(b"\n"):
                raise ValueError("cut short")
