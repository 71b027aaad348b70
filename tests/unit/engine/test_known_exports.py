from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from vovnet.engine.predicting import known_exports
from vovnet.engine.predicting.known_exports import KnownExport, any_known, fastest, known, memory_folder, remember
from vovnet.runtime.export_info import ExportInfo

WEIGHTS, OTHER_WEIGHTS = "a" * 64, "a" * 63 + "b"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "known_exports"


def info(precision: str = "float32", weights: str = WEIGHTS) -> ExportInfo:
    return ExportInfo(
        detector="dsod300_vovnet27_slim", class_names=("cell",), category_ids=(1,), image_size=(300, 300),
        keep_ratio=False, antialias=True, score_threshold=0.01, nms_threshold=0.45, candidates=400, top_k=200,
        masks=False, precision=precision, weights_sha256=weights, vovnet="0.1.0",
    )  # fmt: skip


def export(path: Path, latency_ms: float = 10.0, *, runtime: str = "onnxruntime", **of_info: Any) -> KnownExport:
    if not path.exists():
        path.write_bytes(b"network")
    return KnownExport.of(path, info(**of_info), runtime=runtime, latency_ms=latency_ms, ap_before=0.9, ap_after=0.899)


def passed(path: Path, latency_ms: float = 10.0, **options: Any) -> Path:
    assert remember(export(path, latency_ms, **options))
    return path


def test_nothing_is_known_at_first() -> None:
    assert not any_known()
    assert known(WEIGHTS) == []
    assert fastest(WEIGHTS) is None


def test_the_fastest_that_passed_is_found(tmp_path: Path) -> None:
    passed(tmp_path / "slow.onnx", 55.0)
    int8 = passed(tmp_path / "int8.onnx", 13.9, precision="int8")
    passed(tmp_path / "middle.onnx", 30.0)
    assert any_known()
    assert fastest(WEIGHTS) == int8
    assert [item.latency_ms for item in known(WEIGHTS)] == [13.9, 30.0, 55.0]


def test_what_is_remembered_comes_back_whole(tmp_path: Path) -> None:
    one = export(tmp_path / "x.onnx", 12.5, precision="int8")
    remember(one)
    assert known(WEIGHTS) == [one]
    assert (one.ap_before, one.ap_after, one.precision, one.path) == (0.9, 0.899, "int8", str(tmp_path / "x.onnx"))


def test_the_runtime_can_be_chosen(tmp_path: Path) -> None:
    onnx = passed(tmp_path / "x.onnx", 20)
    openvino = tmp_path / "x_openvino"
    openvino.mkdir()
    (openvino / "model.xml").write_text("<net/>")
    passed(openvino, 10, runtime="openvino")
    assert fastest(WEIGHTS) == openvino
    assert fastest(WEIGHTS, "onnxruntime") == onnx
    assert fastest(WEIGHTS, "openvino") == openvino
    assert fastest(WEIGHTS, "mnn") is None


def test_one_file_in_two_runtimes_is_two_exports(tmp_path: Path) -> None:
    path = passed(tmp_path / "x.onnx", 20)
    passed(path, 10, runtime="openvino")
    assert [item.runtime for item in known(WEIGHTS)] == ["openvino", "onnxruntime"]


def test_of_equally_fast_ones_the_most_precise_comes_first(tmp_path: Path) -> None:
    for precision in ("int8", "float32", "bf16"):
        passed(tmp_path / f"{precision}.onnx", 10, precision=precision)
    assert [item.precision for item in known(WEIGHTS)] == ["float32", "bf16", "int8"]


def test_other_weights_are_other_exports(tmp_path: Path) -> None:
    """Also where the digests begin alike."""
    passed(tmp_path / "x.onnx", weights=OTHER_WEIGHTS)
    assert fastest(WEIGHTS) is None
    assert fastest(OTHER_WEIGHTS) == tmp_path / "x.onnx"


def test_a_new_export_of_the_same_name_replaces_the_old_one(tmp_path: Path) -> None:
    passed(tmp_path / "x.onnx", 20)
    (tmp_path / "x.onnx").write_bytes(b"another network")
    passed(tmp_path / "x.onnx", 15, precision="int8")
    assert [(item.latency_ms, item.precision) for item in known(WEIGHTS)] == [(15, "int8")]


@pytest.mark.parametrize("change", ["moved", "longer", "touched"])
def test_what_has_changed_is_forgotten(tmp_path: Path, memory: Path, change: str) -> None:
    path, other = passed(tmp_path / "x.onnx", 5), passed(tmp_path / "y.onnx", 50)
    if change == "moved":
        path.rename(tmp_path / "z.onnx")
    elif change == "longer":
        state = path.stat()
        path.write_bytes(b"network and more")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        os.utime(path, ns=(1, 1))
    assert fastest(WEIGHTS) == other
    assert len(list(memory.iterdir())) == 1


def test_a_folder_has_changed_if_a_file_in_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "x_openvino"
    folder.mkdir()
    for name in ("model.xml", "model.bin", "vovnet.json"):
        (folder / name).write_bytes(b"part")
    passed(folder, runtime="openvino")
    assert fastest(WEIGHTS) == folder
    (folder / "model.bin").unlink()
    assert fastest(WEIGHTS) is None


def test_another_machine_keeps_its_own(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder may be shared by several."""
    passed(tmp_path / "x.onnx")
    monkeypatch.setattr(known_exports, "this_machine", lambda: "another processor, AVX2")
    (tmp_path / "x.onnx").unlink()
    assert fastest(WEIGHTS) is None
    assert len(list(memory.iterdir())) == 1
    passed(tmp_path / "x.onnx")
    assert len(list(memory.iterdir())) == 2


def test_another_version_of_vovnet_has_not_tested_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed(tmp_path / "x.onnx")
    monkeypatch.setattr("vovnet.__version__", "99.0")
    assert fastest(WEIGHTS) is None
    monkeypatch.undo()


KEYS = tuple(KnownExport.model_fields)


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[]", "null", "[" * 100_000, "\0" * 100, '{"path": "x.onnx"}', "not JSON", '"' + "x" * 10**6 + '"'),
        *(dict.fromkeys([key], value) for key in KEYS for value in ({}, "x" * 6000)),
        *(dict.fromkeys([key]) for key in KEYS if not key.startswith("ap_")),  # no AP, where there were no objects
        {"latency_ms": -1.0},
        {"latency_ms": 0},
        {"latency_ms": "fast"},
        {"runtime": "torch"},
        {"precision": "int4"},
        {"weights_sha256": "../../../x"},
        {"ap_after": 7.0},
        {"bytes": 10**30},
        {"path": "\0"},
    ],
)
def test_a_damaged_memory_is_as_if_empty_and_the_next_export_is_remembered(
    tmp_path: Path, memory: Path, damage: Any
) -> None:
    path = passed(tmp_path / "x.onnx")
    (file,) = memory.iterdir()
    good = json.loads(file.read_text())
    file.write_text(damage if isinstance(damage, str) else json.dumps({**good, **damage}))
    assert fastest(WEIGHTS) is None
    passed(path)
    assert fastest(WEIGHTS) == path


def test_a_pipe_and_a_folder_in_the_memory(tmp_path: Path, memory: Path) -> None:
    path = passed(tmp_path / "x.onnx")
    if hasattr(os, "mkfifo"):
        os.mkfifo(memory / f"{WEIGHTS[:16]}-pipe.json")
    (memory / f"{WEIGHTS[:16]}-folder.json").mkdir()
    assert fastest(WEIGHTS) == path


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    exports = [export(tmp_path / f"{number}.onnx", 10 + number) for number in range(24)]
    writers = [threading.Thread(target=lambda part=part: [remember(one) for one in part]) for part in (
        exports[:8], exports[8:16], exports[16:]
    )]  # fmt: skip
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert known(WEIGHTS) == exports


def test_the_memory_is_bounded(tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_exports, "_MOST_EXPORTS", 3)
    for number in range(5):
        passed(tmp_path / f"{number}.onnx", 10 - number)
        (newest,) = [path for path in memory.iterdir() if f"{number}.onnx" in path.read_text()]
        os.utime(newest, ns=(number * 10**9, number * 10**9))
    assert [Path(item.path).stem for item in known(WEIGHTS)] == ["4", "3", "2"]


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "file"))
    assert not remember(export(tmp_path / "x.onnx"))
    assert fastest(WEIGHTS) is None
    assert not any_known()


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOVNET_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert memory_folder() is None
    assert not remember(export(tmp_path / "x.onnx"))
    assert known(WEIGHTS) == []
    assert not any_known()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "HOME/.cache/vovnet"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/vovnet"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "HOME/.cache/vovnet"),
        ("linux", {"VOVNET_CACHE": "/own"}, "/own"),
        ("darwin", {}, "HOME/Library/Caches/vovnet"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/vovnet"),
        ("win32", {}, "HOME/AppData/Local/vovnet"),
    ],
)
def test_the_folder_of_each_system(
    platform: str, variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VOVNET_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert memory_folder() == Path(expected.replace("HOME", str(tmp_path))) / "known_exports"
