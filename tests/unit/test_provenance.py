"""The commit in a record is that of the code that ran, or none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vovnet import provenance

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
MODULE = "src/vovnet/provenance.py"


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with the module in it, and an environment that git ignores."""
    for place in (MODULE, f".venv/{MODULE}"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


def test_a_source_tree_has_its_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(repository / MODULE))
    head = git(repository, "rev-parse", "HEAD")
    assert provenance.source_commit() == head
    (repository / MODULE).write_text("changed = True\n")
    assert provenance.source_commit() == f"{head}+"


def test_a_copy_installed_inside_a_repository_has_not_its_commit(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another project's, or a later one than what was installed."""
    monkeypatch.setattr(provenance, "__file__", str(repository / ".venv" / MODULE))
    assert provenance.source_commit() is None
