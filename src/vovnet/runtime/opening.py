"""Opens an exported detector in the runtime that it was made for."""

from __future__ import annotations

from pathlib import Path

from vovnet.runtime.session import Session

ONNX_SUFFIX, OPENVINO_FILE, MNN_FILE, INFO_FILE = ".onnx", "model.xml", "model.mnn", "vovnet.json"


def is_exported(path: str | Path) -> bool:
    """Whether a path looks like an exported detector: a file *.onnx, or a folder with a network of OpenVINO or MNN."""
    path = Path(path)
    return path.suffix.lower() == ONNX_SUFFIX or (path / OPENVINO_FILE).is_file() or (path / MNN_FILE).is_file()


def runtimes_of(path: str | Path) -> tuple[str, ...]:
    """The runtimes that can run an exported detector; first the one that it was made for."""
    path = Path(path)
    if (path / MNN_FILE).is_file():
        return ("mnn",)
    return ("openvino",) if (path / OPENVINO_FILE).is_file() else ("onnxruntime", "openvino")


def open_session(path: str | Path, *, runtime: str | None = None, threads: int | None = None) -> Session:
    """The detector in an ONNX file, or in a folder of OpenVINO or MNN.

    runtime: for an ONNX file "onnxruntime" (None) or "openvino", which reads it too.
    threads: CPU threads; None is the runtime's own choice.

    Raises ValueError for a file that is damaged, foreign or newer than this version, ModuleNotFoundError if the
    runtime is not installed.
    """
    path = Path(path)
    if (path / MNN_FILE).is_file():
        from vovnet.runtime.mnn import MnnSession

        return MnnSession(path, threads)
    if runtime == "openvino" or (path / OPENVINO_FILE).is_file():
        from vovnet.runtime.openvino import OpenVinoSession

        return OpenVinoSession(path, threads)
    from vovnet.runtime.onnx_runtime import OnnxSession

    return OnnxSession(path, threads)
