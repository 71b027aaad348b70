"""The program of the process of one runtime: it detects when it is told to, and answers with the times.

Requests are lines of JSON on standard input, answers lines of JSON on standard output, in turn. The first request says
what to run, see `open_subject`; the answer follows the first boxes. The rest are {"time": "network" or "boxes",
"passes": n}, {"detect": path} and {"memory": true}. A fault is answered with {"fault": sentence} and ends the process,
as does the end of the input. Images are files of NumPy, uint8 RGB (H, W, 3).

Only a row of PyTorch imports PyTorch, so that memory and start-up are those of the runtime alone.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from vovnet.errors import explain

Pixels = npt.NDArray[np.uint8]
_PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "mnn": "MNN"}


class Subject(NamedTuple):
    """What runs.

    network: one pass of the network on a resized image.
    boxes: from the pixels of an image of any size to detections, with the thresholds of a prediction.
    detect: the same with the thresholds that average precision needs; boxes, labels and scores.
    """

    network: Callable[[], object]
    boxes: Callable[[Pixels], object]
    detect: Callable[[Pixels], tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]


def main() -> None:
    answers = _own_stdout()
    try:
        for answer in _answers():
            print(json.dumps(answer), file=answers, flush=True)
    except Exception as error:  # of any library: the process that asked says it in the row
        print(json.dumps({"fault": explain(error)}), file=answers, flush=True)
        sys.exit(1)


def _own_stdout() -> TextIO:
    """A stream to standard output that nothing else has: what libraries print goes to standard error from now on."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _answers() -> Iterator[dict[str, Any]]:
    requests = (json.loads(line) for line in sys.stdin)
    what = next(requests, None)
    if what is None:
        return
    first = np.load(what["images"][0])
    subject = open_subject(what, first)
    subject.boxes(first)
    yield {"version": version(_PACKAGES[what["runtime"]])}
    images = cycle(what["images"])
    for request in requests:
        if "time" in request:
            yield {"seconds": _seconds(subject, request["time"], islice(images, request["passes"]))}
        elif "detect" in request:
            boxes, labels, scores = subject.detect(np.load(request["detect"]))
            yield {"boxes": boxes.tolist(), "labels": labels.tolist(), "scores": scores.tolist()}
        else:
            yield memory_mib()


def _seconds(subject: Subject, kind: str, images: Iterable[str]) -> list[float]:
    seconds = []
    gc.collect()
    gc.disable()
    for image in images:
        pixels = np.load(image)  # one at a time: pixels are not the memory of the runtime
        started = time.perf_counter()
        if kind == "network":
            subject.network()
        else:
            subject.boxes(pixels)
        seconds.append(time.perf_counter() - started)
    gc.enable()
    return seconds


def open_subject(request: Mapping[str, Any], pixels: Pixels) -> Subject:
    """PyTorch with weights by name, or an exported file in its runtime.

    request: "runtime", "file" (name of the weights or path of the export), "threads".
    """
    if request["runtime"] == "torch":
        return _torch_subject(request["file"], request["threads"], pixels)
    return _exported_subject(request, pixels)


def _torch_subject(weights: str, threads: int, first: Pixels) -> Subject:
    import torch

    from vovnet.engine.detector import load_network

    torch.set_num_threads(threads)
    detector = load_network(weights, "cpu")

    def tensor(pixels: Pixels) -> torch.Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def detect(pixels: Pixels) -> Any:
        (found,) = detector.detect([tensor(pixels)])
        return found.boxes.numpy(), found.labels.numpy(), found.scores.numpy()

    batch = detector.prepare([tensor(first)])
    return Subject(lambda: detector.forward(batch), lambda pixels: detector.predict(tensor(pixels)), detect)


def _exported_subject(request: Mapping[str, Any], first: Pixels) -> Subject:
    from vovnet.runtime.detector import load
    from vovnet.runtime.resize import to_input

    detector = load(request["file"], runtime=request["runtime"], threads=request["threads"])
    info, session = detector.info, detector.session

    def detect(pixels: Pixels) -> Any:
        found = detector.predict(pixels, score_threshold=info.score_threshold, top_k=info.top_k)
        return found.boxes, found.labels, found.scores

    batch = to_input(first, info)[None]
    # No score is above 1, so NMS, which may be inside the file, has nothing to do.
    return Subject(lambda: session.run(batch, 1.0), detector.predict, detect)


def memory_mib() -> dict[str, float | None]:
    """Resident memory of this process now and at its peak, in MiB; None where the system does not report it.

    `resource` would not do: the peak of a child begins at what its parent held.
    """
    names = {"resident_mib": "VmRSS", "peak_mib": "VmHWM"}
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return dict.fromkeys(names)
    values = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {name: int(values[key]) / 1024 if key in values else None for name, key in names.items()}


if __name__ == "__main__":
    main()
