"""A detector as a folder of OpenVINO's own files, in float32, bf16 or int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vovnet.errors import UsageError
from vovnet.export.network_folder import check_empty, write_folder
from vovnet.export.openvino_int8 import quantise
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.openvino import has_bf16, openvino_core
from vovnet.runtime.without_telemetry import import_openvino

if TYPE_CHECKING:
    from onnx import ModelProto


def write_openvino(
    network: ModelProto, info: ExportInfo, folder: Path, calibration: Sequence[npt.NDArray[np.uint8]] | None = None
) -> None:
    """Write model.xml, model.bin and vovnet.json, all or none, into a folder that is missing or empty.

    network: from `make_onnx`, with NMS inside.
    calibration: for int8, network inputs, uint8 RGB (1, 3, H, W) each.

    UsageError for bf16 on a CPU without it, because nothing here could judge the file, and for int8 without images.
    """
    check_empty(folder)
    openvino = import_openvino()
    core = openvino_core()
    if info.precision == "bf16" and not has_bf16(core):
        raise UsageError("this CPU has no bf16 instructions, so bf16 could not be tried here: choose float32 or int8")
    content = _without_description(network)
    with TemporaryDirectory(prefix="vovnet-") as temporary:
        work = Path(temporary)
        if info.precision == "int8":
            quantise(content, calibration or (), score_threshold=info.score_threshold, folder=work)
        else:
            openvino.save_model(core.read_model(content), work / "model.xml", compress_to_fp16=False)
        contents = {name: (work / name).read_bytes() for name in ("model.xml", "model.bin")}
    write_folder(folder, contents, info)


def _without_description(network: ModelProto) -> bytes:
    """The ONNX file without its description, which stands in vovnet.json."""
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(network)
    del copy.metadata_props[:]
    return copy.SerializeToString()
