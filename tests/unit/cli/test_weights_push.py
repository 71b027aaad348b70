"""What `vovnet weights push` prints and writes, and that it needs a licence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from vovnet.cli.main import app
from vovnet.errors import UsageError
from vovnet.weights import pushing
from vovnet.weights.detector import digest_of_weights, load_weights, save_weights


def run(*arguments: str) -> object:
    words = ["weights", "push", *arguments]
    return app(words, exit_on_error=False, print_error=False, result_action="return_value")


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What would have gone to the hub."""
    calls: list[dict] = []

    def push(files, repository, **options):
        calls.append({"files": files, "repository": repository, **options})
        return "https://host/commit"

    monkeypatch.setattr(pushing, "push", push)
    return calls


def test_a_trial_writes_a_folder_and_asks_nobody(pushed: list[dict], tmp_path: Path, capsys) -> None:
    assert run("bccd", "me/cells", "--licence", "mit", "--to", str(tmp_path / "new"), "--json", "-") == 0
    assert pushed == []
    content = json.loads(capsys.readouterr().out)
    assert content["name"] == "hf:me/cells"
    assert content["address"] is None
    assert content["files"] == sorted(path.name for path in (tmp_path / "new").iterdir())
    assert digest_of_weights(tmp_path / "new/model.safetensors") == digest_of_weights("bccd")
    assert "license: mit\n" in (tmp_path / "new/README.md").read_text()


def test_weights_are_pushed_with_their_card(pushed: list[dict], capsys) -> None:
    assert run("bccd", "me/cells", "--license", "mit", "--private", "--revision", "v1") == 0
    (call,) = pushed
    assert (call["repository"], call["private"], call["revision"]) == ("me/cells", True, "v1")
    assert call["files"].keys() == {"model.safetensors", "README.md"}
    assert b"hf:me/cells@v1" in call["files"]["README.md"]
    said, after = capsys.readouterr().out.splitlines()
    assert said.endswith("are in https://host/commit")
    assert after.endswith(".jpg --weights hf:me/cells@v1")


def test_paths_of_this_machine_are_told_before(pushed: list[dict], tmp_path: Path, capsys) -> None:
    loaded = load_weights("bccd")
    record = {"config": {"data": {"root": "/home/me/secret"}}}
    save_weights(tmp_path / "w.safetensors", loaded.model.state_dict(), loaded.info, record)
    assert run(str(tmp_path / "w.safetensors"), "me/cells", "--licence", "mit") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "the record in the weights is published with them, and names paths of this machine: /home/me/secret"


def test_a_licence_and_a_name_are_needed(pushed: list[dict]) -> None:
    with pytest.raises(CycloptsError, match="--licence"):
        run("bccd", "me/cells")
    with pytest.raises(UsageError, match="expected a repository on the hub as OWNER/NAME, got 'cells'"):
        run("bccd", "cells", "--licence", "mit")
    with pytest.raises(
        UsageError, match="expected a licence by its name on the hub, such as apache-2.0, got 'MIT licence'"
    ):
        run("bccd", "me/cells", "--licence", "MIT licence")
    assert pushed == []
