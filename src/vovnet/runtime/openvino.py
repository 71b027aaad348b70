"""Exported detectors in OpenVINO: its own folders, and ONNX files, which it reads too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.errors import counted, is_out_of_memory
from vovnet.parsing import naming, read_bounded
from vovnet.printing import line, quoted
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.network_folder import read_folder
from vovnet.runtime.onnx_format import read_description
from vovnet.runtime.session import Rows, check_input, check_rows, run_each
from vovnet.runtime.without_telemetry import import_openvino

_LOG = logging.getLogger("vovnet")
_FILES = {"model.xml": "text_bytes", "model.bin": "weights_bytes"}
_MOST_STATIC = 3  # shapes that get a network of their own, which takes memory
_OUTPUTS = ("image", "boxes", "labels", "scores")


class OpenVinoSession:
    """An exported folder NAME_openvino, or an exported ONNX file. See `vovnet.runtime.session.Session`.

    A network compiled for one shape of the input is faster than one for all. So each of the first shapes gets its own
    when it first comes; all others share one.

    Raises ValueError for a file that is no exported detector, is damaged, or is newer than this version or OpenVINO;
    ModuleNotFoundError without OpenVINO.
    """

    runtime = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._core = openvino_core()
        self.info, self._network = _read(self._core, path)
        bf16 = self.info.precision == "bf16" and has_bf16(self._core)
        if self.info.precision == "bf16" and not bf16:
            _LOG.warning("%s runs in float32, because this CPU has no bf16 instructions", line(str(path)))
        self._options = {
            "PERFORMANCE_HINT": "LATENCY",
            # By itself, OpenVINO computes float32 networks in bf16 where the CPU has it.
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        }
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = str(threads)
        self._outputs = _outputs(self.info)
        self._path = path
        self._requests: dict[tuple[int, ...] | None, Any] = {}  # by shape of the input; None is for any
        self._lock = Lock()  # a request that runs refuses a second thread

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        check_input(images, score_threshold, self.info)
        if self.info.keep_ratio:
            return run_each(lambda image: self._run(image, score_threshold), images)
        return self._run(images, score_threshold)

    def _run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        inputs = {"images": images, "score_threshold": np.array([score_threshold], np.float32)}
        with self._lock, _sentences(self._path, f"run on {counted(len(images), 'image')} by"):
            outputs = self._request(images.shape).infer(inputs, share_inputs=True)
        rows = Rows(*(outputs[name] for name in self._outputs))
        check_rows(rows, len(images), self.info, line(str(self._path), 300))
        return rows

    def _request(self, shape: tuple[int, ...]) -> Any:
        own = not self.info.keep_ratio and (shape in self._requests or len(self._requests) < _MOST_STATIC)
        key = shape if own else None
        if key not in self._requests:
            network = self._network
            if own:
                network = network.clone()
                network.reshape({"images": shape})
            compiled = self._core.compile_model(network, "CPU", self._options)
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process. ModuleNotFoundError without OpenVINO.

    Each core gives the thread that first uses it a stack for signals and takes it away at its end. When the first of
    two cores ends first, the thread is left with a stack that is gone, and the next Ctrl-C is a segmentation fault.
    """
    return import_openvino().Core()


def has_bf16(core: Any) -> bool:
    """Whether OpenVINO computes in bf16 on this CPU."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _outputs(info: ExportInfo) -> tuple[str, ...]:
    return (*_OUTPUTS, "masks") if info.masks else _OUTPUTS


def _read(core: Any, path: Path) -> tuple[ExportInfo, Any]:
    """The description and the network. What has been checked is what OpenVINO gets, so it opens no file itself."""
    if path.is_dir():
        info, contents = read_folder(path, _FILES)
        content = [contents["model.xml"], contents["model.bin"]]
    else:
        with naming(path):
            content = [read_bounded(path, "weights_bytes")]
            info = ExportInfo.from_json(read_description(content[0]))
    with _sentences(path, "read by"):
        network = core.read_model(*content)
    inputs, outputs = _names(network.inputs), _names(network.outputs)
    if inputs != {"images", "score_threshold"} or not set(_outputs(info)) <= outputs:
        raise ValueError(
            f"{line(str(path), 300)} has the inputs {quoted(sorted(inputs))} and outputs {quoted(sorted(outputs))}, "
            "which are not those of a detector that vovnet exported: export it again"
        )
    return info, network


def _names(ports: list[Any]) -> set[str]:
    return {name for port in ports for name in port.get_names()}


@contextmanager
def _sentences(path: Path, what: str) -> Iterator[None]:
    """OpenVINO's errors, which are paragraphs about its own source, as one sentence."""
    try:
        yield
    except Exception as error:  # most are RuntimeErrors
        if is_out_of_memory(error) or "alloc" in str(error):
            raise MemoryError(
                f"{line(str(path), 300)} cannot be {what} OpenVINO with the memory that there is: lower the batch size"
            ) from None
        reasons = [text for text in str(error).splitlines() if text.strip()]
        raise ValueError(
            f"{line(str(path), 300)} cannot be {what} OpenVINO ({line(reasons[-1] if reasons else '', 200)}): it is "
            "damaged, or made for another version of OpenVINO; export it again"
        ) from error
