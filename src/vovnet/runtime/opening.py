"""Opens an exported detector in the runtime that it was made for."""

from __future__ import annotations

from pathlib import Path

from vovnet.errors import UsageError, nearest_beside
from vovnet.printing import line
from vovnet.runtime.session import Session

ONNX_SUFFIX, OPENVINO_FILE, MNN_FILE = ".onnx", "model.xml", "model.mnn"
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")


def is_exported(path: str | Path) -> bool:
    """Whether a path looks like an exported detector: a file *.onnx, or a folder with a network of OpenVINO or MNN."""
    path = Path(path)
    return path.suffix.lower() == ONNX_SUFFIX or (path / OPENVINO_FILE).is_file() or (path / MNN_FILE).is_file()


def runtimes_of(path: str | Path) -> tuple[str, ...]:
    """The runtimes that can run an exported detector; first the one that it was made for.

    Raises ValueError for weights, and FileNotFoundError for what is no exported detector.
    """
    path = Path(path)
    if (path / MNN_FILE).is_file():
        return ("mnn",)
    if (path / OPENVINO_FILE).is_file():
        return ("openvino",)
    if path.is_file():
        if path.suffix.lower() in _WEIGHTS:
            raise ValueError(f"{line(str(path))} holds weights, which need PyTorch: export them with vovnet export")
        return ("onnxruntime", "openvino")
    if near := "" if path.exists() else nearest_beside(path):
        raise FileNotFoundError(f"{line(str(path))} does not exist{near}")
    reason = "is no detector that vovnet exported" if path.exists() else "does not exist"
    raise FileNotFoundError(f"{line(str(path))} {reason}: name a file or folder that vovnet export wrote")


def open_session(path: str | Path, *, runtime: str | None = None, threads: int | None = None) -> Session:
    """The detector in an ONNX file, or in a folder of OpenVINO or MNN.

    runtime: for an ONNX file "onnxruntime" (None) or "openvino", which reads it too.
    threads: CPU threads; None is the runtime's own choice.

    Raises ValueError for a file that is damaged, foreign or newer than this version, FileNotFoundError,
    ModuleNotFoundError if the runtime is not installed, and UsageError if it does not run this kind of file.
    """
    path = Path(path)
    possible = runtimes_of(path)
    runtime = runtime or possible[0]
    if runtime not in possible:
        raise UsageError(f"{line(str(path))} runs in {' or '.join(possible)}, not in {line(runtime)}")
    if runtime == "mnn":
        from vovnet.runtime.mnn import MnnSession

        return MnnSession(path, threads)
    if runtime == "openvino":
        from vovnet.runtime.openvino import OpenVinoSession

        return OpenVinoSession(path, threads)
    from vovnet.runtime.onnx_runtime import OnnxSession

    return OnnxSession(path, threads)
