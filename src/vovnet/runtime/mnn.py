"""Exported detectors in MNN."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from vovnet.libraries import needs_extra
from vovnet.printing import line, quoted
from vovnet.runtime.cpu import processors
from vovnet.runtime.native_output import no_native_output
from vovnet.runtime.network_folder import read_folder
from vovnet.runtime.nms import best_rows
from vovnet.runtime.session import Rows, check_input, check_rows

NETWORK_FILE = "model.mnn"
_OUTPUTS = ("boxes", "scores")
# Of setSessionHint. At MNN's own level, 3, Winograd convolutions of large tiles save a quarter of the time but are
# inexact: the shipped detector's scores were off by 3e-4, boxes of a RefineDet by pixels. Below 3, tiles are small.
_WINOGRAD_LEVEL, _SMALL_TILES = 3, 1
_NO_MEMORY = 1  # of the codes that runSession returns; 0 is success


class MnnSession:
    """An exported folder NAME_mnn. See `vovnet.runtime.session.Session`.

    A batch of another size than the one before makes MNN plan anew, which takes about as long as a pass.
    """

    runtime = "mnn"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """threads: None is one for each processor that this process may use."""
        path = Path(path)
        self._mnn = import_mnn()
        # MNN trusts a file: a damaged one would crash the process. So its digest is checked before.
        self.info, _ = read_folder(path, {NETWORK_FILE: "weights_bytes"})
        self._name = line(str(path), 300)
        options = {"backend": "CPU", "precision": "normal", "numThread": threads or processors()}
        with no_native_output():
            self._network, self._session = _open(self._mnn, path / NETWORK_FILE, options)
        inputs = set(self._network.getSessionInputAll(self._session))
        outputs = set(self._network.getSessionOutputAll(self._session))
        if inputs != {"images"} or not set(_OUTPUTS) <= outputs:
            raise ValueError(
                f"{self._name} has the inputs {quoted(sorted(inputs))} and outputs {quoted(sorted(outputs))}, which "
                "are not those of a detector that vovnet exported: export it again"
            )
        self._images = self._network.getSessionInput(self._session, "images")
        self._batch: tuple[int, ...] = ()
        self._lock = Lock()  # two threads at once would get results of each other's images

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        check_input(images, score_threshold, self.info)
        boxes, scores = self.raw(images)
        classes = len(self.info.class_names)
        if boxes.shape != (*scores.shape[:2], 4) or scores.shape[::2] != (len(images), classes):
            raise ValueError(
                f"{self._name} gives boxes {boxes.shape} and scores {scores.shape} for {len(images)} images and "
                f"{classes} classes, which cannot be: export it again"
            )
        rows = best_rows(
            boxes,
            scores,
            side=max(images.shape[2:]),
            score_threshold=score_threshold,
            nms_threshold=self.info.nms_threshold,
            candidates=self.info.candidates,
        )
        check_rows(rows, len(images), self.info, self._name)
        return rows

    def raw(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Before NMS: boxes (N, A, 4) in pixels of the input, scores (N, A, K)."""
        mnn, shape = self._mnn, images.shape
        given = mnn.Tensor(shape, mnn.Halide_Type_Uint8, np.ascontiguousarray(images), mnn.Tensor_DimensionType_Caffe)
        with self._lock:
            if shape != self._batch:
                self._batch = ()
                self._network.resizeTensor(self._images, shape)
                self._network.resizeSession(self._session)
                self._batch = shape
            self._images.copyFrom(given)
            if code := self._network.runSession(self._session):
                self._batch = ()
                text = f"{self._name} fails in MNN on {len(images)} images (code {code})"
                raise (
                    MemoryError(f"{text}: lower the batch size")
                    if code == _NO_MEMORY
                    else ValueError(f"{text}: export it again")
                )
            boxes, scores = (self._output(name) for name in _OUTPUTS)
        return boxes, scores

    def _output(self, name: str) -> npt.NDArray[np.float32]:
        mnn, tensor = self._mnn, self._network.getSessionOutput(self._session, name)
        shape = tensor.getShape()
        result = mnn.Tensor(shape, mnn.Halide_Type_Float, np.empty(shape, np.float32), mnn.Tensor_DimensionType_Caffe)
        tensor.copyToHostTensor(result)
        return np.array(result.getNumpyData())


def _open(mnn: ModuleType, path: Path, options: dict[str, Any]) -> tuple[Any, Any]:
    """The network and MNN's session."""
    try:
        network = mnn.Interpreter(str(path))
        network.setSessionHint(_WINOGRAD_LEVEL, _SMALL_TILES)
        return network, network.createSession(options)
    except Exception as error:  # MNN's have no type in common
        raise ValueError(
            f"MNN cannot read {line(str(path), 300)} ({line(str(error), 200)}): it is damaged, or made for another "
            "version of MNN; export it again"
        ) from error


def import_mnn() -> ModuleType:
    """The package MNN. It prints a line about the processor, so that nothing else would be in a file of results."""
    with needs_extra("mnn", "MNN needs an extra"), no_native_output():
        import MNN
    module: ModuleType = MNN
    return module
