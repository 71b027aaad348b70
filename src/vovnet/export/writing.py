"""Writes a detector in each of the forms that `vovnet export` knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.errors import UsageError, choose
from vovnet.export.network_folder import set_folder_info
from vovnet.export.onnx_file import make_network, make_onnx, set_info
from vovnet.export.source import check_exportable
from vovnet.files import write_bytes
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.mnn import import_mnn
from vovnet.runtime.without_telemetry import import_openvino
from vovnet.weights.detector import LoadedModel

Calibration = Sequence[npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Form:
    """A kind of exported file.

    runtime: that runs it.
    precisions: that it exists in.
    instead: what to do for another precision.
    ending: of the name of the file or folder.
    """

    runtime: str
    precisions: tuple[str, ...]
    instead: str
    ending: str


FORMS: Mapping[str, Form] = {
    "onnx": Form("onnxruntime", ("float32", "int8"), "--to openvino", ".onnx"),
    "openvino": Form("openvino", ("float32", "bf16", "int8"), "", "_openvino"),
    "mnn": Form("mnn", ("float32",), "--to openvino", "_mnn"),
}


def check_form(to: str, precision: str) -> Form:
    """UsageError for a form or precision that does not exist, with what does."""
    form = choose(FORMS, to, "form of export")
    choose(dict.fromkeys(("float32", "bf16", "int8")), precision, "precision")
    if precision not in form.precisions:
        raise UsageError(
            f"--to {to} has no {precision}, only {' and '.join(form.precisions)}: use {form.instead} for {precision}"
        )
    return form


def write_export(
    loaded: LoadedModel, info: ExportInfo, to: str, path: Path, calibration: Calibration | None = None
) -> None:
    """Write the detector to a file or folder that does not exist yet, in the precision that `info` states.

    calibration: for int8, network inputs, uint8 RGB (1, 3, H, W) each.

    Raises UsageError for what `check_exportable` refuses, ValueError if it cannot be exported, ModuleNotFoundError
    without a package that this takes.
    """
    check_exportable(loaded.model, info.detector, to, info.precision)
    _WRITERS[to](loaded, info, path, calibration)


def set_export_info(path: Path, info: ExportInfo) -> None:
    """Replace the description of an exported file or folder."""
    if path.is_dir():
        set_folder_info(path, info)
        return
    import onnx

    network = onnx.load_from_string(path.read_bytes())
    set_info(network, info)
    write_bytes(path, network.SerializeToString())


def _write_onnx(loaded: LoadedModel, info: ExportInfo, path: Path, calibration: Calibration | None) -> None:
    network = make_onnx(loaded.model, info)
    if info.precision == "int8":
        from vovnet.export.onnx_int8 import quantise_onnx

        network = quantise_onnx(network, info, calibration or ())
    write_bytes(path, network.SerializeToString())


def _write_openvino(loaded: LoadedModel, info: ExportInfo, path: Path, calibration: Calibration | None) -> None:
    from vovnet.export.openvino_file import write_openvino

    import_openvino()  # so that its extra, which has all that this takes, is named before that of ONNX
    write_openvino(make_onnx(loaded.model, info), info, path, calibration)


def _write_mnn(loaded: LoadedModel, info: ExportInfo, path: Path, calibration: Calibration | None) -> None:
    from vovnet.export.mnn_file import write_mnn

    import_mnn()
    write_mnn(make_network(loaded.model, info.detector), info, path, calibration)


_WRITERS: Mapping[str, Callable[[LoadedModel, ExportInfo, Path, Calibration | None], None]] = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "mnn": _write_mnn,
}
