"""Exported ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.session import Rows


class OnnxSession:
    """An exported ONNX file. See `vovnet.runtime.session.Session`."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.info = ExportInfo.from_json(self._session.get_modelmeta().custom_metadata_map.get("vovnet", "null"))

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        threshold = np.array([score_threshold], np.float32)
        inputs = {"images": images, "score_threshold": threshold}
        return Rows(*self._session.run(["image", "boxes", "labels", "scores"], inputs))
