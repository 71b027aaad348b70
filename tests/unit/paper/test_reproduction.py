"""Sections as Markdown, for programs and as a page that needs no network."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from vovnet.paper import tables
from vovnet.paper.folder import write_page
from vovnet.paper.published import TABLES
from vovnet.paper.sources import Sources
from vovnet.report.document import Figure, Section, Table, to_dict, to_markdown

HOSTILE = "<script>alert(1)</script> | *x*"
SECTION = Section(
    "A & B",
    (f"Said `a|b <x>` of {HOSTILE}", Table(["one", "two"], [[HOSTILE, "`c` differs"]], "T", ["see `d`"]),
     Figure("p.png", "a [picture]", lambda: b"bytes")),
)  # fmt: skip


def test_section_as_markdown():
    text = to_markdown(SECTION, "there/")
    assert "Said `a|b <x>` of \\<script\\>alert(1)\\</script\\> \\| \\*x\\*" in text
    assert "| \\<script\\>alert(1)\\</script\\> \\| \\*x\\* | `c` differs |\n\n- see `d`" in text
    assert "![a \\[picture\\]](there/p.png)" in text


def test_section_for_programs():
    parts = to_dict(SECTION)["parts"]
    assert parts[1]["rows"] == [[HOSTILE, "`c` differs"]]
    assert json.dumps(parts)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_page_needs_no_network_and_runs_nothing(tmp_path):
    sections = [
        SECTION,
        tables.table_section("table3", Sources()),
        Section("C", [Table(["claim", "verdict"], [["1", "does not hold"]])]),
    ]
    write_page(sections, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    parser = Tags()
    parser.feed(text)
    tags = [tag for tag, _ in parser.seen]
    assert "script" not in tags
    assert "link" not in tags
    policy = next(attrs["content"] for tag, attrs in parser.seen if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    sources = [attrs["src"] for tag, attrs in parser.seen if "src" in attrs]
    assert sources == ["data:image/png;base64,Ynl0ZXM="]
    assert "http://" not in text.replace("http-equiv", "")
    assert "https://" not in text
    assert "<code>a|b &lt;x&gt;</code>" in text
    assert '<td class="differs">' in text
    assert '<td class="differs">does not hold' in text
    assert TABLES["table3"].rows[1].name in text
