"""Networks for OpenVINO in int8, quantised after training by NNCF.

NNCF runs in a process of its own: it imports PyTorch and may change its functions, replaces the class of all loggers,
and prints progress. There it finds neither PyTorch, which it does not need for this, nor its telemetry.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vovnet.errors import UsageError, install_extra, typed
from vovnet.printing import line
from vovnet.runtime.without_telemetry import import_openvino, without_telemetry

# The operations of an L2 normalisation. Eight bits are too few for the sum of squares of hundreds of channels, and
# these operations take little time.
_KEPT_IN_FLOAT = ("Power", "ReduceSum", "ReduceL2", "Sqrt", "Divide", "NormalizeL2")
_NETWORK, _CALIBRATION, _RESULT = "network.onnx", "calibration.npz", "model.xml"


def quantise(
    network: bytes, calibration: Sequence[npt.NDArray[np.uint8]], *, score_threshold: float, folder: Path
) -> Path:
    """The model.xml, beside its model.bin, of the network in int8; decoding and NMS stay in float32.

    network: content of an ONNX file as of `make_onnx`.
    calibration: inputs of the network, from which the ranges of its activations are taken.
    folder: an empty one for this and for what comes before it.

    UsageError without calibration images, ModuleNotFoundError without NNCF.
    """
    if not len(calibration):
        raise UsageError("int8 needs training images to calibrate with, got none: pass their folder with --data")
    if find_spec("nncf") is None:
        raise ModuleNotFoundError(f"int8 for OpenVINO needs an extra: {install_extra('openvino')}", name="nncf")
    (folder / _NETWORK).write_bytes(network)
    np.savez(folder / _CALIBRATION, *calibration)
    command = [sys.executable, "-P", "-m", __name__, str(folder), str(score_threshold)]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    child = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": paths, "NNCF_CI": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if child.returncode:
        last_line = child.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(
            f"NNCF could not quantise the network (status {child.returncode}: {line(last_line, 300)}): "
            "export it with --precision float32 or bf16, or --to onnx"
        )
    return folder / _RESULT


def _main() -> None:
    """The program of the process."""
    folder, threshold = Path(sys.argv[1]), np.array([float(sys.argv[2])], np.float32)
    openvino = import_openvino()
    sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed, which saves seconds
    with without_telemetry():
        import nncf

    with np.load(folder / _CALIBRATION) as images:
        inputs = [{"images": images[name], "score_threshold": threshold} for name in images.files]
    quantised = nncf.quantize(
        openvino.Core().read_model(folder / _NETWORK),
        nncf.Dataset(inputs),
        subset_size=len(inputs),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(types=list(_KEPT_IN_FLOAT), validate=False),
    )
    openvino.save_model(quantised, folder / _RESULT, compress_to_fp16=False)


if __name__ == "__main__":
    try:
        _main()
    except Exception as error:
        sys.exit(line(typed(error), 300))
