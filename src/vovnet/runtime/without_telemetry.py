"""Imports ONNX Runtime, OpenVINO and NNCF without their telemetry, which their makers switch on.

ONNX Runtime (seen with 1.32 on Linux) keeps a number of the machine in the home folder and reports to Microsoft, unless
a variable forbids it before the import. OpenVINO reports to Google Analytics whenever it is imported, unless the user
has refused that in a file in the home folder; so does NNCF when it quantises. Both do it with the package
`openvino_telemetry`, and take a stub where that is missing. So they are told that it is missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from vovnet.libraries import needs_extra

_PACKAGE = "openvino_telemetry"
_ORT_VARIABLE = "ORT_DISABLE_TELEMETRY"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """In the block, importing `openvino_telemetry` fails, as if it were not installed.

    What is imported in the block keeps its stub for good. If the package has been imported before, nothing changes.
    """
    if sys.modules.get(_PACKAGE) is not None:
        yield
        return
    sys.modules[_PACKAGE] = None  # type: ignore[assignment]  # which makes an import of it fail
    try:
        yield
    finally:
        sys.modules.pop(_PACKAGE, None)


def import_openvino() -> ModuleType:
    """The package openvino. ModuleNotFoundError with the remedy if it is not installed."""
    with needs_extra("openvino", "OpenVINO needs an extra"), without_telemetry():
        import openvino
    return openvino


def import_onnxruntime() -> ModuleType:
    """The package onnxruntime. ModuleNotFoundError if it is not installed."""
    os.environ[_ORT_VARIABLE] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where it has been imported before; on Windows, what the variable leaves
    return onnxruntime
