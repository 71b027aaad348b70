"""Runs exported detectors with ONNX Runtime, OpenVINO or MNN, without PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vovnet.runtime.detections import Detections as Detections
    from vovnet.runtime.detector import Detector as Detector
    from vovnet.runtime.detector import load as load

# Imported when first used, because the package itself needs only parts of this one.
_HOME = {
    "Detections": "vovnet.runtime.detections",
    "Detector": "vovnet.runtime.detector",
    "load": "vovnet.runtime.detector",
}
__all__ = ["Detections", "Detector", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vovnet.runtime' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
