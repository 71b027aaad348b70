"""Checkpoints: nothing in them is run, and a full disk costs none."""

import pytest
import torch

from vovnet.weights.file import load_checkpoint, save_checkpoint


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"format": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"format": "old"})
    old = path.read_bytes()

    def full(state, file):
        file.write(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*last.pt .*free some disk space.*unharmed"):
        save_checkpoint(path, {"format": "new"})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
