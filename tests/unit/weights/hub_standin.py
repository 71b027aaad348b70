"""A server on this machine that answers the hub's own library as the hub does: repositories, branches, tokens."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from .local_server import LocalServer

TOKEN = "hf_a-secret-of-the-tests"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Branches and their files. gated: shown only after its conditions are accepted, which nobody has here."""

    branches: dict[str, Files] = field(default_factory=lambda: {"main": {}})
    private: bool = False
    gated: bool = False


def commit_of(files: Files) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content)).hexdigest()


def received(request: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, whose length is stated, or which comes in chunks."""
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline(), 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    return body


class Hub(LocalServer):
    """`visits` are the requests; `agents` what their programs say of themselves. `owner` of the token may write.

    altered: sent in place of every file. in_git: whether files lie in git itself, with git's digest. faults: what is
    wrong with every card.
    """

    def __init__(self, owner: str = "me") -> None:
        self.repositories: dict[str, Repository] = {}
        self.visits: list[str] = []
        self.agents: set[str] = set()
        self.messages: list[str] = []
        self.faults: list[str] = []
        self.uploads: Files = {}
        self.owner, self.altered, self.in_git, self.status = owner, None, False, 0
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, b"")

            def do_GET(self) -> None:
                hub.answer(self, b"")

            def do_POST(self) -> None:
                hub.answer(self, received(self))

            def do_PUT(self) -> None:
                hub.answer(self, received(self))

        super().__init__(Handler)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.visits.append(f"{request.command} {request.path}")
        self.agents.add(request.headers.get("User-Agent", ""))
        status, headers, content = self._answer(request, unquote(urlsplit(request.path).path), body)
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)

    def _answer(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.status:
            return self.status, {}, b""
        logged_in = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if path == "/api/validate-yaml":
            _, headers, content = _json({"warnings": [], "errors": [{"message": fault} for fault in self.faults]})
            return 400 if self.faults else 200, headers, content
        if path.startswith("/upload/"):
            self.uploads[path.removeprefix("/upload/")] = body
            return 200, {}, b""
        if path == "/api/repos/create":
            return self._create(json.loads(body), logged_in)
        match = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+?)(?:\.git/info/lfs/objects/(batch)|/(\w+)/(.+)|)", path)
        repository = self.repositories.get(match[1]) if match else None
        if match is None or repository is None or (repository.private and not logged_in):
            return _refused(404 if logged_in else 401, "RepoNotFound")
        if repository.gated:
            return _refused(403, "GatedRepo")
        name, action, rest = match[1], match[2] or match[3] or "info", match[4] or "main"
        if action in ("branch", "preupload", "batch", "commit") and not (
            logged_in and name.startswith(f"{self.owner}/")
        ):
            return _refused(403, "Forbidden")
        if action in ("resolve", "tree"):
            revision, _, file = rest.partition("/")
            if (files := self._files(repository, revision)) is None:
                return _refused(404, "RevisionNotFound")
            listing = [{"type": "file", "path": name, "size": 1, "oid": git_sha1(b"")} for name in files]
            return _json(listing) if action == "tree" else self._file(files, file)
        if action == "info":
            files = repository.branches["main"]
            return _json({"id": name, "private": repository.private, "sha": commit_of(files), "siblings": []})
        return self._write(repository, name, action, rest, body)

    def _files(self, repository: Repository, revision: str) -> Files | None:
        commits = {commit_of(files): files for files in repository.branches.values()}
        return repository.branches.get(revision) or commits.get(revision)

    def _file(self, files: Files, name: str) -> tuple[int, dict[str, str], bytes]:
        headers = {"X-Repo-Commit": commit_of(files)}
        if name not in files:
            return 404, {**headers, "X-Error-Code": "EntryNotFound"}, b""
        content = files[name]
        digest = git_sha1(content) if self.in_git else hashlib.sha256(content).hexdigest()
        return 200, {**headers, "ETag": f'"{digest}"'}, content if self.altered is None else self.altered

    def _create(self, wanted: dict[str, str], logged_in: bool) -> tuple[int, dict[str, str], bytes]:
        name = f"{wanted['organization']}/{wanted['name']}"
        if not logged_in or wanted["organization"] != self.owner:
            return _refused(403 if logged_in else 401, "Forbidden")
        if name in self.repositories:
            return 409, {}, json.dumps({"url": f"{self.url}/{name}"}).encode()
        is_private = wanted.get("private") is True or wanted.get("visibility") == "private"
        self.repositories[name] = Repository(private=is_private)
        return _json({"url": f"{self.url}/{name}"})

    def _write(
        self, repository: Repository, name: str, action: str, rest: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        branches = repository.branches
        if action == "branch":
            if rest in branches:
                return 409, {}, b""
            branches[rest] = dict(branches["main"])
            return 200, {}, b""
        if action == "preupload":
            modes = [(file["path"], file["path"].endswith(".safetensors")) for file in json.loads(body)["files"]]
            answers = [
                {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                for path, large in modes
            ]
            return _json({"files": answers})
        if action == "batch":
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.url}/upload/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return _json({"objects": objects})
        if rest not in branches:
            return _refused(404, "RevisionNotFound")
        for row in map(json.loads, body.splitlines()):
            value = row["value"]
            if row["key"] == "header":
                self.messages.append(value["summary"])
            elif row["key"] == "lfsFile":
                branches[rest][value["path"]] = self.uploads[value["oid"]]
            else:
                branches[rest][value["path"]] = base64.b64decode(value["content"])
        commit = commit_of(branches[rest])
        return _json({"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit})


def _json(content: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _refused(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"X-Error-Code": code, "X-Error-Message": f"refused: {code}"}, b""


def use_hub(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, token: str | None = None) -> None:
    """Let the hub's library ask `url`, keep its files in `folder`, and have no token but this one."""
    from huggingface_hub import constants

    from .serving import use_as_hub

    use_as_hub(url, folder, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "stored_tokens"))
    for name in ("HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", token or "")
