"""The file that a runtime runs: an export that is remembered, or a new one."""

from __future__ import annotations

from pathlib import Path

from vovnet.export.onnx_file import make_onnx
from vovnet.export.runtime_measurement import RuntimeName
from vovnet.export.source import describe_export
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.weights.detector import LoadedModel


def exported_file(loaded: LoadedModel, name: RuntimeName, folder: Path) -> Path:
    """An exported file of the detector for this runtime; a new one is written to `folder`.

    Raises ValueError for what cannot be exported, ModuleNotFoundError for a package that is missing.
    """
    if not isinstance(loaded.model, OneStageDetector):
        raise ValueError(f"{loaded.info.name} cannot be exported")
    if name.precision != "float32" or name.runtime == "mnn":
        raise ValueError(f"{name} cannot be exported")
    import onnx

    path = folder / f"{loaded.info.name}.onnx"
    if not path.exists():
        onnx.save(make_onnx(loaded.model, describe_export(loaded, "float32")), path)
    return path


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
