"""Score thresholds in a weights file: written beside the tensors, which stay as they are, and read as foreign input."""

from __future__ import annotations

import json
import os
import shutil
import struct
import threading
from pathlib import Path

import pytest

from vovnet.errors import UsageError
from vovnet.folder_lock import folder_lock
from vovnet.names import shipped_weights
from vovnet.weights.detector import (
    digest_of_weights,
    file_to_change,
    load_model,
    score_thresholds_of_weights,
    store_thresholds,
)
from vovnet.weights.file import read_safetensors, update_metadata

from ..small_disk import small_disk

VALUES = [0.35, 0.5, 0.41]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    return Path(shutil.copy(shipped_weights()["bccd"], run / "best.safetensors"))


def tensor_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + struct.unpack("<Q", content[:8])[0] :]


def test_thresholds_are_stored_and_nothing_else_changes(weights: Path) -> None:
    before, tensors, digest = load_model(weights), tensor_bytes(weights), digest_of_weights(weights)
    assert before.score_thresholds is None
    store_thresholds(weights, VALUES)
    after = load_model(weights)
    assert after.score_thresholds == tuple(VALUES) == score_thresholds_of_weights(weights.parent)
    assert (after.info, after.record) == (before.info, before.record)
    assert (tensor_bytes(weights), digest_of_weights(weights)) == (tensors, digest)
    assert struct.unpack("<Q", weights.read_bytes()[:8])[0] % 8 == 0
    store_thresholds(weights, [0, 1, 0.123456789])
    assert load_model(weights).score_thresholds == (0, 1, 0.123456789)
    assert [path.name for path in weights.parent.iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize("values", [[], [0.5], [0.5] * 4, [0.5, 0.5, 1.1], [0.5, -0.1, 0.5], [0.5, 0.5, float("nan")]])
def test_other_thresholds_are_refused(weights: Path, values: list[float]) -> None:
    content = weights.read_bytes()
    with pytest.raises(ValueError, match="from 0 to 1 for each of 3 classes"):
        store_thresholds(weights, values)
    assert weights.read_bytes() == content


@pytest.mark.parametrize(
    "text",
    [
        "[0.5]",
        "[0.5, 0.5, 2]",
        "[0.5, 0.5, NaN]",
        '["0.5", "0.5", "0.5"]',
        "{}",
        "0.5",
        "[",
        "[true, true, true]",
        "[]",
    ],
)
def test_damaged_thresholds_in_a_file(weights: Path, text: str) -> None:
    update_metadata(weights, {"score_thresholds": text})
    with pytest.raises(ValueError, match=r"best.safetensors has damaged metadata \(.*score_thresholds") as raised:
        load_model(weights)
    assert "\n" not in str(raised.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="damaged"):
        store_thresholds(tmp_path / "w.safetensors", VALUES)
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"stored in a .safetensors file, got .*last.pt"):
        store_thresholds(tmp_path / "last.pt", VALUES)
    with pytest.raises(FileNotFoundError):
        store_thresholds(tmp_path / "none.safetensors", VALUES)


def test_a_run_that_trains_there_keeps_its_weights(weights: Path) -> None:
    """It would replace them, and a copy with thresholds would replace its newer ones."""
    content, refused = weights.read_bytes(), []

    def store() -> None:
        with pytest.raises(OSError, match=r"is in use by .*stop it, or copy the weights and name the copy") as error:
            store_thresholds(weights, VALUES)
        refused.append(error)

    with folder_lock(weights.parent):
        thread = threading.Thread(target=store)
        thread.start()
        thread.join()
    assert refused
    assert weights.read_bytes() == content


def test_whose_file_may_change(weights: Path) -> None:
    assert file_to_change(weights) == file_to_change(weights.parent) == weights
    for bundled in ("bccd", str(shipped_weights()["bccd"])):
        with pytest.raises(UsageError, match=r"comes with vovnet and is never changed: copy it first \(cp "):
            file_to_change(bundled)
    (weights.parent / "last.pt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"\.safetensors files, got .*last\.pt"):
        file_to_change(weights.parent / "last.pt")


def test_a_full_disk_leaves_the_file(weights: Path) -> None:
    content = weights.read_bytes()
    for room in (10, len(content) // 2, len(content) - 1):
        with pytest.raises(OSError, match="best.safetensors"), small_disk(room):
            store_thresholds(weights, VALUES)
        assert weights.read_bytes() == content
        assert os.listdir(weights.parent) == ["best.safetensors"]


def test_metadata_of_any_safetensors_file(weights: Path) -> None:
    tensors, metadata = read_safetensors(weights)
    update_metadata(weights, {"note": json.dumps("é"), "model": metadata["model"]})
    again, changed = read_safetensors(weights)
    assert changed == {**metadata, "note": json.dumps("é")}
    assert all(bool((again[name] == tensor).all()) for name, tensor in tensors.items())
