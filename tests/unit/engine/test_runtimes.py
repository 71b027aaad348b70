"""Which runtime runs what: exported files, weights with an export that is remembered, and weights alone."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest
import torch

import vovnet
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.engine.predicting.known_exports import KnownExport, remember
from vovnet.engine.predicting.runtimes import describe_running
from vovnet.errors import UsageError
from vovnet.runtime.opening import open_session
from vovnet.weights.detector import digest_of_weights, load_weights
from vovnet.weights.digest import weights_digest


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "known_exports"


def passed(path: Path, latency_ms: float = 10.0, runtime: str = "onnxruntime") -> Path:
    export = KnownExport.of(path, open_session(path, threads=1).info, runtime=runtime, latency_ms=latency_ms)
    assert remember(export)
    return path


def test_weights_run_in_pytorch_unless_something_else_is_asked_for(bccd_onnx: Path) -> None:
    passed(bccd_onnx)
    for runtime in (None, "torch"):
        detector = vovnet.load("bccd", "cpu", runtime=runtime)
        assert isinstance(detector, Detector)
        assert describe_running(detector, "bccd") is None


def test_auto_without_a_known_export_is_pytorch(bccd_onnx: Path) -> None:
    assert isinstance(vovnet.load("bccd", "cpu", runtime="auto"), Detector)


def test_auto_is_the_known_export_of_these_weights(bccd_onnx: Path, tmp_path: Path) -> None:
    passed(bccd_onnx)
    detector = vovnet.load("bccd", "cpu", runtime="auto", threads=1)
    assert isinstance(detector, ExportedDetector)
    assert detector.path == bccd_onnx
    sentence = describe_running(detector, "bccd")
    assert sentence is not None
    assert sentence.startswith("bccd runs as float32 in ONNX Runtime, exported on 20")
    assert sentence.endswith(f"as {bccd_onnx}; --runtime torch runs the weights themselves")


def test_auto_knows_weights_by_their_values_not_by_their_name(bccd_onnx: Path, tmp_path: Path) -> None:
    from vovnet.names import shipped_weights

    passed(bccd_onnx)
    copy = tmp_path / "best.safetensors"
    copy.write_bytes(shipped_weights()["bccd"].read_bytes())
    assert isinstance(vovnet.load(tmp_path, "cpu", runtime="auto", threads=1), ExportedDetector)
    from vovnet.weights.detector import save_weights

    loaded = load_weights("bccd")
    state = {name: tensor + 1e-3 for name, tensor in loaded.model.state_dict().items() if tensor.is_floating_point()}
    save_weights(copy, {**loaded.model.state_dict(), **state}, loaded.info, {})
    assert isinstance(vovnet.load(copy, "cpu", runtime="auto"), Detector)


def test_auto_leaves_a_gpu_to_pytorch(bccd_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vovnet.engine.predicting import runtimes

    passed(bccd_onnx)
    monkeypatch.setattr(runtimes, "choose_device", lambda name: torch.device("cuda"))
    assert runtimes.open_export("bccd", "auto", runtime="auto") is None
    assert runtimes.open_export("bccd", "cuda", runtime="auto") is None


def damaged(bccd_onnx: Path, path: Path, latency_ms: float) -> Path:
    """A known export that no longer opens, although its size and time are those that are remembered."""
    path.write_bytes(bccd_onnx.read_bytes())
    passed(path, latency_ms)
    state = path.stat()
    path.write_bytes(b"\0" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return path


def test_auto_goes_on_to_the_next_if_one_does_not_open(
    bccd_onnx: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passed(bccd_onnx, 50)
    for number in range(3):
        damaged(bccd_onnx, tmp_path / f"broken{number}.onnx", number + 1)
    with caplog.at_level(logging.WARNING, "vovnet"):
        for runtime in ("auto", "onnxruntime"):
            detector = vovnet.load("bccd", "cpu", runtime=runtime, threads=1)
            assert isinstance(detector, ExportedDetector)
            assert detector.path == bccd_onnx
    assert caplog.records == []  # nobody asked for the others


def test_one_line_if_no_known_export_opens(bccd_onnx: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = [damaged(bccd_onnx, tmp_path / f"broken{number}.onnx", number + 1) for number in range(3)]
    with caplog.at_level(logging.WARNING, "vovnet"):
        assert isinstance(vovnet.load("bccd", "cpu", runtime="auto", threads=1), Detector)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith(f"bccd runs in PyTorch, because its export does not open ({broken[0]} is no ONNX file")
    assert text.endswith(", and 2 more do not open)")
    with pytest.raises(ValueError, match=f"{broken[0]} is no ONNX file"):
        vovnet.load("bccd", runtime="onnxruntime", threads=1)


def test_no_line_if_the_runtime_of_known_exports_is_not_installed(
    bccd_onnx: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    passed(bccd_onnx)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with caplog.at_level(logging.WARNING, "vovnet"):
        assert isinstance(vovnet.load("bccd", "cpu", runtime="auto", threads=1), Detector)
    assert caplog.records == []
    with pytest.raises(ModuleNotFoundError, match="needs the package onnxruntime: pip install"):
        vovnet.load("bccd", runtime="onnxruntime", threads=1)


def test_an_export_of_other_weights_does_not_run(
    bccd_onnx: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the memory says that it is one of these."""
    export = KnownExport.of(bccd_onnx, open_session(bccd_onnx, threads=1).info, runtime="onnxruntime", latency_ms=1)
    monkeypatch.setattr("vovnet.engine.predicting.runtimes.digest_of_weights", lambda source: "0" * 64)
    remember(export.model_copy(update={"weights_sha256": "0" * 64}))
    assert isinstance(vovnet.load("bccd", "cpu", runtime="auto", threads=1), Detector)
    assert "exported from other weights" in caplog.text


def test_a_runtime_of_weights_is_its_known_export_or_the_command_that_makes_one(bccd_onnx: Path) -> None:
    passed(bccd_onnx)
    detector = vovnet.load("bccd", runtime="onnxruntime", threads=1)
    assert detector.running.runtime == "onnxruntime"
    with pytest.raises(UsageError, match="with vovnet export bccd --to openvino --data samples/bccd --split val$"):
        vovnet.load("bccd", runtime="openvino")
    with pytest.raises(UsageError, match="OpenVINO runs on the CPU, got device 'cuda'"):
        vovnet.load("bccd", "cuda", runtime="openvino")


@pytest.mark.parametrize(
    "config",
    [[1], "abc", {"data": [1]}, {"data": {"root": 5, "val": "val"}}, {"data": {"root": "a" * 5000, "val": "v"}}],
)
def test_a_record_of_any_form_makes_no_traceback(
    config: object, bccd_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vovnet.engine.predicting.runtimes.record_of_weights", lambda source: {"config": config})
    with pytest.raises(UsageError, match="make one with vovnet export bccd --to openvino$"):
        vovnet.load("bccd", runtime="openvino")


def test_openvino_reads_onnx(bccd_onnx: Path) -> None:
    pytest.importorskip("openvino")
    detector = vovnet.load(bccd_onnx, runtime="openvino", threads=1)
    assert detector.running.runtime == "openvino"
    image = Path(__file__).parents[3] / "samples/bccd/JPEGImages/BloodImage_00007.jpg"
    same = vovnet.load(bccd_onnx, threads=1).predict(image)
    torch.testing.assert_close(detector.predict(image).scores, same.scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize("runtime", ["openvino", "mnn"])
def test_folders_of_other_runtimes(bccd_onnx: Path, tmp_path: Path, runtime: str) -> None:
    pytest.importorskip("openvino" if runtime == "openvino" else "MNN")
    import onnx

    from vovnet.export.mnn_file import write_mnn
    from vovnet.export.onnx_file import make_network
    from vovnet.export.openvino_file import write_openvino

    info = open_session(bccd_onnx, threads=1).info
    folder = tmp_path / f"bccd_{runtime}"
    if runtime == "openvino":
        write_openvino(onnx.load(bccd_onnx), info, folder)
    else:
        write_mnn(make_network(load_weights("bccd").model), info, folder)
    detector = vovnet.load(folder, threads=1)
    assert detector.running.to_dict() == {"runtime": runtime, "precision": "float32", "file": str(folder)}
    image = Path(__file__).parents[3] / "samples/bccd/JPEGImages/BloodImage_00007.jpg"
    found, expected = detector.predict(image), vovnet.load(bccd_onnx, threads=1).predict(image)
    assert found.labels.tolist() == expected.labels.tolist()
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-3)
    with pytest.raises(UsageError, match="which ONNX Runtime does not run"):
        vovnet.load(folder, runtime="onnxruntime")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runtime": "torch"}, r"is exported for ONNX Runtime or OpenVINO, which PyTorch does not run: leave out"),
        ({"runtime": "mnn"}, r"is exported for ONNX Runtime or OpenVINO, which MNN does not run"),
        ({"device": "cuda"}, r"is exported and runs on the CPU, got device 'cuda': leave out the device"),
        ({"device": "mps"}, r"runs on the CPU, got device 'mps'"),
        ({"runtime": "onnx"}, r"no runtime is called 'onnx' \(there are: auto, torch, onnxruntime"),
    ],
)
def test_what_does_not_go_together(bccd_onnx: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        vovnet.load(bccd_onnx, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", [None, "auto", "onnxruntime"])
def test_the_runtime_of_a_file_is_its_own(bccd_onnx: Path, runtime: str | None) -> None:
    detector = vovnet.load(bccd_onnx, "auto", runtime=runtime, threads=1)
    assert detector.running.runtime == "onnxruntime"
    assert describe_running(detector, "x.onnx") == "x.onnx runs as float32 in ONNX Runtime"


def test_a_damaged_and_a_missing_file(tmp_path: Path, bccd_onnx: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(bccd_onnx.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"cut\.onnx") as caught:
        vovnet.load(tmp_path / "cut.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"missing\.onnx is neither a weights file nor"):
        vovnet.load(tmp_path / "missing.onnx")


def test_the_digest_is_of_the_file_and_of_its_network_alike() -> None:
    """The shipped file holds float16, its network float32."""
    assert digest_of_weights("bccd") == weights_digest(load_weights("bccd").model.state_dict())


def test_the_digest_depends_on_names_shapes_and_values() -> None:
    state = {"a": torch.arange(6.0), "b": torch.ones(2)}
    digests = {
        weights_digest(changed)
        for changed in (
            state,
            {"a": state["b"], "b": state["a"]},
            {**state, "a": torch.arange(6.0).reshape(2, 3)},
            {**state, "b": torch.tensor([1.0, 1.0 + 1e-6])},
        )
    }
    assert len(digests) == 4
    reordered = {"b": state["b"], "a": state["a"].double()}
    assert weights_digest(reordered) == weights_digest(state)
    image = torch.rand(2, 3, 4, 5)
    assert weights_digest({"a": image}) == weights_digest({"a": image.to(memory_format=torch.channels_last)})
