from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bccd_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped detector as an ONNX file; writing it takes seconds."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from vovnet.export.onnx_file import make_onnx
    from vovnet.export.source import describe_export
    from vovnet.weights.detector import load_weights

    path = tmp_path_factory.mktemp("exported") / "bccd.onnx"
    loaded = load_weights("bccd")
    onnx.save(make_onnx(loaded.model, describe_export(loaded, "float32")), path)
    return path
