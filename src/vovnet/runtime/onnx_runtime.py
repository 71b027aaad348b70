"""Exported ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.errors import is_out_of_memory
from vovnet.libraries import needs_extra
from vovnet.parsing import naming, read_bounded
from vovnet.printing import line
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.onnx_format import read_description
from vovnet.runtime.session import Rows, check_input, check_rows, run_each
from vovnet.runtime.without_telemetry import import_onnxruntime

_KINDS = {"images": "tensor(uint8)", "score_threshold": "tensor(float)"}
_OUTPUTS = {"image": "tensor(int64)", "boxes": "tensor(float)", "labels": "tensor(int64)", "scores": "tensor(float)"}


class OnnxSession:
    """An exported ONNX file. See `vovnet.runtime.session.Session`.

    Raises ValueError for a file that is no exported detector, is damaged, or is newer than this version or ONNX
    Runtime; ModuleNotFoundError without ONNX Runtime.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._name = line(str(path), 300)
        with naming(path):
            self.info = ExportInfo.from_json(read_description(read_bounded(path, "weights_bytes")))
        self._session = _open(path, threads)
        self._outputs = [*_OUTPUTS, "masks"] if self.info.masks else [*_OUTPUTS]
        if not self._is_as_described():
            raise ValueError(f"{self._name} does not hold the network that its description states: export it again")

    def _is_as_described(self) -> bool:
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value.type for value in self._session.get_outputs()}
        if {name: value.type for name, value in inputs.items()} != _KINDS:
            return False
        shape = inputs["images"].shape
        size = list(self.info.image_size)
        fits = len(shape) == 4 and shape[1] == 3 and (self.info.keep_ratio or shape[2:] == size)
        kinds = {**_OUTPUTS, "masks": "tensor(float)"}
        return fits and outputs == {name: kinds[name] for name in self._outputs}

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        check_input(images, score_threshold, self.info)
        threshold = np.array([score_threshold], np.float32)
        if self.info.keep_ratio:
            return run_each(lambda image: self._run(image, threshold), images)
        return self._run(images, threshold)

    def _run(self, images: npt.NDArray[np.uint8], threshold: npt.NDArray[np.float32]) -> Rows:
        try:
            found = self._session.run(self._outputs, {"images": images, "score_threshold": threshold})
        except Exception as error:  # those of ONNX Runtime have no type in common
            if is_out_of_memory(error) or "alloc" in str(error):
                raise MemoryError(
                    f"{self._name} needs more memory for {len(images)} images at once than there is: "
                    "lower the batch size"
                ) from None
            raise ValueError(
                f"{self._name} fails in ONNX Runtime on {len(images)} images ({line(str(error), 200)}): export it again"
            ) from None
        rows = Rows(*found)
        check_rows(rows, len(images), self.info, self._name)
        return rows


def _open(path: Path, threads: int | None) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU."""
    onnxruntime = _import(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    if threads is not None:
        options.intra_op_num_threads = threads
    # Threads that spin while they wait took half as much processor time again, from whatever else runs: decoding of
    # images, PyTorch, another detector. Beside other programs, a run without them was also the faster one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.enable_mem_pattern = False  # which reserves memory for each size of a batch anew and saved no time
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # those of ONNX Runtime have no type in common
        version = onnxruntime.__version__
        raise ValueError(
            f"{line(str(path), 300)} cannot be opened by ONNX Runtime {version} ({line(str(error), 200)}): update "
            "onnxruntime, or export it again"
        ) from None


def _import(path: Path) -> Any:
    with needs_extra("onnx", f"{line(str(path), 300)} needs the package onnxruntime"):
        return import_onnxruntime()
