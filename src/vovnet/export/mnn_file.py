"""A detector as a folder with a file of MNN, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.errors import UsageError
from vovnet.export.network_folder import write_folder
from vovnet.libraries import needs_extra
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.mnn import NETWORK_FILE
from vovnet.runtime.native_output import no_native_output

if TYPE_CHECKING:
    from onnx import ModelProto


def write_mnn(
    network: ModelProto, info: ExportInfo, folder: Path, calibration: Sequence[npt.NDArray[np.uint8]] | None = None
) -> None:
    """Write model.mnn and vovnet.json, both or none, into a folder that is missing or empty.

    network: from `make_network`, without NMS: MNN has none, so `vovnet.runtime.nms` does it.
    calibration: not used, there is no int8.

    UsageError for another precision than float32, see `check_precision`; ValueError if MNN cannot convert the network.
    """
    check_precision(info.precision)
    with TemporaryDirectory(prefix="vovnet-") as temporary:
        source, target = Path(temporary, "network.onnx"), Path(temporary, NETWORK_FILE)
        source.write_bytes(network.SerializeToString())
        _convert(source, target)
        if not target.is_file() or not target.stat().st_size:
            raise ValueError(f"MNN cannot convert {info.detector}: export it with --to onnx or --to openvino")
        write_folder(folder, {NETWORK_FILE: target.read_bytes()}, info)


def check_precision(precision: str) -> None:
    """UsageError for a precision in which MNN's package does not compute."""
    if precision != "float32":
        raise UsageError(f"MNN runs detectors in float32 only, not in {precision}: use --to openvino for {precision}")


def _convert(source: Path, target: Path) -> None:
    """Write an ONNX file as a file of MNN.

    By the native module itself: the package MNN.tools around it installs another package when it is imported, and
    reports each conversion over the network.
    """
    with needs_extra("mnn", "MNN needs an extra"), no_native_output():
        import _tools
    arguments = {"-f": "ONNX", "--modelFile": str(source), "--MNNModel": str(target), "--bizCode": "vovnet"}
    with no_native_output():
        _tools.mnnconvert(["mnnconvert", *(part for pair in arguments.items() for part in pair)])
