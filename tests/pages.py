"""The code blocks of the documents, and the commands in them as a reader would type them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RENDERED = {Path("docs/results.md"), Path("docs/reproduction.md")}  # by `make results`
FOLDERS = ("samples", "runtime")
PAGES = [
    *sorted(Path(".").glob("*.md")),
    *sorted(Path("docs").rglob("*.md")),
    *(Path(folder, "README.md") for folder in FOLDERS),
]
WRITTEN = [page for page in PAGES if page not in RENDERED]
WALKED = {Path("docs/tutorial.md")}
"""Pages whose blocks test_tutorial.py runs one after the other, with what they print."""

SHELL = ("", "bash", "sh", "console")
"""Languages of blocks of commands; without a language is the usual one."""
OTHERS = ("python", "text", "json", "yaml", "toml")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_LOOP = re.compile(r"^for (\w+) in ([^;\n]+); do\n(.*?)^done$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A block between fences. number: from 1, of all blocks of its page. line: of its first line."""

    page: Path
    number: int
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        """The page and how the block begins, such as "docs/models.md: vovnet list"."""
        start = re.split(r"\s{2,}|\s#\s", self.text.strip().partition("\n")[0])[0]
        return f"{self.page.as_posix()}: {start.strip()}"

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, without the indentation of their fences."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            number,
            content.count("\n", 0, match.start("text")) + 1,
            match["language"],
            re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M),
        )
        for number, match in enumerate(_FENCE.finditer(content), start=1)
    ]


def all_blocks(pages: list[Path]) -> list[Block]:
    return [block for page in pages for block in blocks_of(page)]


def commands_of(block: Block) -> list[str]:
    """The commands of a block: lines are joined at `\\`, loops unrolled, prompts, comments and output left out."""
    text = block.text.replace("\\\n", " ")
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    text = _LOOP.sub(_unrolled, text)
    lines = (re.sub(r"(^|\s+)#(\s.*|$)", "", line).strip() for line in text.splitlines())
    return [part.strip() for line in lines if line for part in line.split(" && ")]


def _unrolled(loop: re.Match[str]) -> str:
    name, values, body = loop.groups()
    return "\n".join(body.replace(f"${name}", value) for value in values.split())
