"""A server on this machine that plays a web server and the Hugging Face hub."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from .local_server import LocalServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(LocalServer):
    """Answers on 127.0.0.1 with `content`, and with the headers of the hub. `visits` are the requests.

    The file is cut short if the path contains "broken", and missing if it contains "missing".
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()
        self.visits: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(handler: BaseHTTPRequestHandler) -> None:  # noqa: N805
                self.visits.append(f"{handler.command} {handler.path}")
                if "missing" in handler.path:
                    handler.send_error(404)
                    return
                handler.send_response(200)
                handler.send_header("Content-Type", "application/octet-stream")
                handler.send_header("Content-Length", str(len(self.content)))
                handler.send_header("X-Repo-Commit", COMMIT)
                handler.send_header("ETag", f'"{self.sha256}"')
                handler.end_headers()

            def do_GET(handler: BaseHTTPRequestHandler) -> None:  # noqa: N805
                handler.do_HEAD()
                broken = "broken" in handler.path
                handler.wfile.write(self.content[: len(self.content) // 2] if broken else self.content)

        super().__init__(Handler)


def use_as_hub(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library ask `url` and keep its files in `folder`."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )


def files(folder: Path) -> list[Path]:
    """All files in and below a folder, hidden ones too."""
    return [path for path in folder.rglob("*") if path.is_file()]
