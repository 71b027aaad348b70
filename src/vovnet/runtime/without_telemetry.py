"""Imports OpenVINO and NNCF without `openvino_telemetry`, which comes with them and reports to Google Analytics.

OpenVINO sends an event whenever it is imported, unless the user has refused that in a file in the home folder. Without
the package `openvino_telemetry`, OpenVINO and NNCF put a stub in its place. So they are told that it is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from vovnet.errors import install_extra

_PACKAGE = "openvino_telemetry"


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
    try:
        with without_telemetry():
            import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise
        text = f"OpenVINO needs an extra: {install_extra('openvino')}"
        raise ModuleNotFoundError(text, name=error.name) from error
    return openvino
