"""The file that a runtime runs while runtimes are measured: an export that passed its test here, or a new one."""

from __future__ import annotations

from pathlib import Path

from vovnet.engine.known_exports import known, remember
from vovnet.errors import UsageError
from vovnet.export.onnx_file import make_onnx
from vovnet.export.openvino_file import write_openvino
from vovnet.export.runtime_measurement import RuntimeName, RuntimesMeasurement
from vovnet.export.source import check_exportable, describe_export
from vovnet.files import write_bytes
from vovnet.weights.detector import LoadedModel
from vovnet.weights.digest import weights_digest


def exported_file(loaded: LoadedModel, name: RuntimeName, folder: Path) -> Path:
    """The fastest export of the detector for this runtime that is remembered, else a new one in `folder`.

    Raises ValueError for what cannot be exported here, ModuleNotFoundError for a package that is missing.
    """
    for export in known(weights_digest(loaded.model.state_dict()), name.runtime):
        if export.precision == name.precision:
            return Path(export.path)
    form = {"onnxruntime": "onnx"}.get(name.runtime, name.runtime)
    check_exportable(loaded.model, loaded.info.name, form, name.precision)
    if name.precision == "int8" or name.runtime == "mnn" or (name.runtime, name.precision) == ("onnxruntime", "bf16"):
        raise UsageError(
            f"no export for {name} has passed its test on this machine: make one with "
            f"vovnet export WEIGHTS --to {form} --precision {name.precision} --data DIR"
        )
    info = describe_export(loaded, name.precision)
    network = make_onnx(loaded.model, info)
    if name.runtime == "openvino":
        path = folder / f"{info.detector}_{name.precision}_openvino"
        write_openvino(network, info, path)
    else:
        path = folder / f"{info.detector}.onnx"
        write_bytes(path, network.SerializeToString())
    return path


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size


def remember_times(loaded: LoadedModel, measurement: RuntimesMeasurement) -> None:
    """Let `auto` choose by the times of this run, of the exports that it knows."""
    for export in known(weights_digest(loaded.model.state_dict())):
        row = measurement.row(str(RuntimeName(export.runtime, export.precision)))
        if row is not None and row.boxes is not None and row.file == export.path:
            remember(export.model_copy(update={"latency_ms": row.boxes.median_ms}))
