"""Exported detectors in OpenVINO: its own folders, and ONNX files, which it reads too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.parsing import naming, read_bounded
from vovnet.printing import line, quoted
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.network_folder import read_folder
from vovnet.runtime.session import Rows
from vovnet.runtime.without_telemetry import import_openvino

_LOG = logging.getLogger("vovnet")
_FILES = {"model.xml": "text_bytes", "model.bin": "weights_bytes"}
_MOST_STATIC = 3  # shapes that get a network of their own, which takes memory
_METADATA = ["framework", "vovnet"]  # where OpenVINO keeps the entry "vovnet" of an ONNX file's metadata
_OUTPUTS = ("image", "boxes", "labels", "scores")


class OpenVinoSession:
    """An exported folder NAME_openvino, or an exported ONNX file. See `vovnet.runtime.session.Session`.

    A network compiled for one shape of the input is faster than one for all. So each of the first shapes gets its own
    when it first comes; all others share one.
    """

    runtime = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        openvino = import_openvino()
        self._core = openvino.Core()
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
        self._path = path
        self._requests: dict[tuple[int, ...] | None, Any] = {}  # by shape of the input; None is for any

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        inputs = {"images": images, "score_threshold": np.array([score_threshold], np.float32)}
        outputs = self._request(images.shape).infer(inputs, share_inputs=True)
        return Rows(*(outputs[name] for name in _OUTPUTS))

    def _request(self, shape: tuple[int, ...]) -> Any:
        key = shape if shape in self._requests or len(self._requests) < _MOST_STATIC else None
        if key not in self._requests:
            network = self._network
            with _sentences(self._path):
                if key is not None:
                    network = network.clone()
                    network.reshape({"images": key})
                compiled = self._core.compile_model(network, "CPU", self._options)
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]


def has_bf16(core: Any) -> bool:
    """Whether OpenVINO computes in bf16 on this CPU."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _read(core: Any, path: Path) -> tuple[ExportInfo, Any]:
    """The description and the network. What has been checked is what OpenVINO gets, so it opens no file itself."""
    if path.is_dir():
        info, contents = read_folder(path, _FILES)
        with _sentences(path):
            network = core.read_model(contents["model.xml"], contents["model.bin"])
    else:
        with naming(path):
            content = read_bounded(path, "weights_bytes")
        with _sentences(path):
            network = core.read_model(content)
        with naming(path):
            there = network.has_rt_info(_METADATA)
            info = ExportInfo.from_json(network.get_rt_info(_METADATA).astype(str) if there else "null")
    inputs, outputs = _names(network.inputs), _names(network.outputs)
    if not {"images", "score_threshold"} == inputs or not set(_OUTPUTS) <= outputs:
        raise ValueError(
            f"{line(str(path))} has the inputs {quoted(sorted(inputs))} and outputs {quoted(sorted(outputs))}, which "
            "are not those of a detector that vovnet exported: export it again"
        )
    return info, network


def _names(ports: list[Any]) -> set[str]:
    return {name for port in ports for name in port.get_names()}


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """OpenVINO's errors, which are paragraphs about its own source, as one sentence."""
    try:
        yield
    except RuntimeError as error:
        reason = [text for text in str(error).splitlines() if text.strip()]
        raise ValueError(
            f"OpenVINO cannot read {line(str(path))} ({line(reason[-1] if reason else 'no reason given')}): "
            "it is damaged, or made for another version of OpenVINO; export it again"
        ) from error
