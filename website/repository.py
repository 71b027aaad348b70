"""Puts the documents of the repository into the site, and leads the links between them to their new places.

They are written for the repository, where README.md links to docs/train.md and a page to ../SECURITY.md. The site has
the README as its home page, the pages of docs/ and the other documents beside it, and under files/ what else they link
to.
"""

from __future__ import annotations

import argparse
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from vovnet.runtime.command import make_parser

ROOT = Path(__file__).parents[1]
PLACES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "runtime/README.md": "runner.md",
    "samples/README.md": "samples.md",
    "website/commands.md": "reference/commands.md",
    "website/python.md": "reference/python.md",
    "website/iframe-worker.js": "assets/iframe-worker.js",
    "website/site.css": "assets/site.css",
}
RUNNER_HELP = "<!-- the help of vovnet-runtime -->"
_BLOCK_OF_CODE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()(?!#|[a-z]+:)([^)#\s]+)")
_INSIDE_ITEM = re.compile(r"^ {2,3}(?=[-|])", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/, the other documents, and what any of them links to."""
    pages = {f"docs/{file.src_uri}" for file in files.documentation_pages()}
    pages |= {source for source in PLACES if source.endswith(".md")}
    for source, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    for target in sorted({target for page in pages for target in _targets(page)}):
        place = _place(target)
        if (ROOT / target).is_dir():
            files.append(File.generated(config, place, content=_contents(target)))
        elif (ROOT / target).is_file() and place not in files.src_uris:
            files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The page as the site's Markdown reads it, with its links to other files changed to their places in the site."""
    place = page.file.src_uri
    source = next((source for source, other in PLACES.items() if other == place), f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        target = _resolved(source, link[0])
        exists = (ROOT / target).exists()  # else mkdocs warns of the link as it is written
        return posixpath.relpath(_place(target), posixpath.dirname(place)) if exists else link[0]

    pieces = _BLOCK_OF_CODE.split(markdown)  # prose and code by turns
    for number in range(0, len(pieces), 2):
        widened = _INSIDE_ITEM.sub("    ", pieces[number])  # GitHub needs fewer spaces for a list or table in a list
        pieces[number] = _LINK.sub(moved, widened)
    return "".join(pieces).replace(RUNNER_HELP, _runner_help())


def _targets(page: str) -> Iterator[str]:
    """The files and folders of the repository that a document links to."""
    for prose in _BLOCK_OF_CODE.split((ROOT / page).read_text(encoding="utf-8"))[::2]:
        for link in _LINK.findall(prose):
            yield _resolved(page, link)


def _resolved(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _place(path: str) -> str:
    """Where the site has a file of the repository; of a folder, the page that lists its files."""
    if path in PLACES:
        return PLACES[path]
    place = path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
    return f"{place}/index.md" if (ROOT / path).is_dir() else place


def _contents(folder: str) -> str:
    """A page that lists the files of a folder in docs/."""
    names = sorted(path.name for path in (ROOT / folder).iterdir() if path.is_file())
    return "\n".join([f"# {posixpath.basename(folder)}", "", *(f"- [{name}]({name})" for name in names), ""])


def _runner_help() -> str:
    """The help of each command of vovnet-runtime."""
    (choice,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps = {name: command.format_help() for name, command in choice.choices.items()}
    return "\n".join(f"### vovnet-runtime {name}\n\n```text\n{text}```\n" for name, text in helps.items())
