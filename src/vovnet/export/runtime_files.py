"""The file that a runtime runs while runtimes are measured: an export that passed its test here, or a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.data.formats import open_dataset
from vovnet.engine.known_exports import known, remember
from vovnet.errors import UsageError
from vovnet.export.mnn_file import check_precision, write_mnn
from vovnet.export.onnx_file import make_network, make_onnx
from vovnet.export.onnx_int8 import quantise_onnx
from vovnet.export.openvino_file import write_openvino
from vovnet.export.runtime_measurement import RuntimeName, RuntimesMeasurement
from vovnet.export.source import describe_export
from vovnet.files import write_bytes
from vovnet.media.pixels import read_pixels
from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.resize import to_input
from vovnet.weights.detector import LoadedModel
from vovnet.weights.digest import weights_digest

CALIBRATION_IMAGES = 100


def exported_file(loaded: LoadedModel, name: RuntimeName, folder: Path, data: Path | None = None) -> Path:
    """The fastest export of the detector for this runtime that is remembered, else a new one in `folder`.

    data: the dataset whose training images a new int8 export is calibrated on.

    Raises ValueError for what cannot be exported, ModuleNotFoundError for a package that is missing.
    """
    for export in known(weights_digest(loaded.model.state_dict()), name.runtime):
        if export.precision == name.precision:
            return Path(export.path)
    if not isinstance(loaded.model, OneStageDetector):
        raise UsageError(f"{loaded.info.name} is exported by `vovnet export` alone: export it, then measure again")
    info = describe_export(loaded, name.precision)
    path = folder / f"{info.detector}_{name.precision}_{name.runtime}"
    if name.runtime == "mnn":
        check_precision(name.precision)
        write_mnn(make_network(loaded.model), info, path)
        return path
    if name == RuntimeName("onnxruntime", "bf16"):
        raise UsageError("ONNX Runtime computes in bf16 on no CPU here: choose openvino:bf16")
    calibration = list(_calibration(loaded, info, data)) if name.precision == "int8" else None
    network = make_onnx(loaded.model, info)
    if name.runtime == "openvino":
        write_openvino(network, info, path, calibration)
        return path
    if calibration is not None:
        network = quantise_onnx(network, info, calibration)
    path = path.with_suffix(".onnx")
    write_bytes(path, network.SerializeToString())
    return path


def _calibration(loaded: LoadedModel, info: ExportInfo, data: Path | None) -> Iterator[npt.NDArray[np.uint8]]:
    """Network inputs of training images, from all over the split."""
    if data is None:
        raise UsageError("int8 needs training images to calibrate on: add --data DIR, or name runtimes without int8")
    dataset = open_dataset(data, "train", class_names=loaded.info.class_names)
    for index in np.linspace(0, len(dataset) - 1, min(CALIBRATION_IMAGES, len(dataset)), dtype=int):
        yield to_input(read_pixels(dataset[int(index)].image_path), info)[None]


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def remember_times(loaded: LoadedModel, measurement: RuntimesMeasurement) -> None:
    """Let `auto` choose by the times of this run, of the exports that it knows."""
    for export in known(weights_digest(loaded.model.state_dict())):
        row = measurement.row(str(RuntimeName(export.runtime, export.precision)))
        if row is not None and row.boxes is not None and row.file == export.path:
            remember(export.model_copy(update={"latency_ms": row.boxes.median_ms}))
