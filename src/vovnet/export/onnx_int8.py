"""int8 networks for ONNX Runtime: post-training quantisation with ranges from example images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vovnet.errors import is_out_of_memory
from vovnet.export.onnx_file import set_info
from vovnet.export.quiet import quiet
from vovnet.libraries import needs_extra
from vovnet.printing import line
from vovnet.runtime.cpu import int8_saturates
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.without_telemetry import import_onnxruntime

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

# Convolutions, and what lies between them, so that a map stays in int8 on its way from one to the next.
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_QUANTISED = (*_CONVOLUTIONS, "Add", "AveragePool", "Clip", "Concat", "GlobalAveragePool", "MaxPool", "Relu", "Resize")


def quantise_onnx(network: ModelProto, info: ExportInfo, calibration: Sequence[npt.NDArray[np.uint8]]) -> ModelProto:
    """The network of `make_onnx` with int8 convolutions; the predictions, decoding and NMS stay in float32.

    Weights have a scale per output channel, activations a range from their least to their greatest value on the
    calibration images. On processors whose 8-bit products saturate, weights keep to 7 bits.

    info: of the result; its precision becomes int8.
    calibration: network inputs, uint8 RGB (1, 3, H, W) each, of the training.

    Raises ValueError without images or if quantisation fails, ModuleNotFoundError without the packages.
    """
    if not calibration:
        raise ValueError("int8 needs at least one image of the training to find the ranges of its numbers, got none")
    with needs_extra("onnx", "int8 for ONNX Runtime needs the packages onnx and onnxruntime"):
        import onnx

        import_onnxruntime()
        from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs = _inputs(calibration)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.inputs, None)

    with quiet(), TemporaryDirectory(prefix="vovnet-int8-") as folder:
        path = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                _copy(network),
                path,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                nodes_to_exclude=sorted(predictions(network.graph)),
                per_channel=True,
                reduce_range=int8_saturates(),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        except Exception as error:  # of many types
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"{info.detector} cannot be quantised for ONNX Runtime ({line(str(error), 200)}): export it in float32"
            ) from error
        quantised: ModelProto = onnx.load(path)
    del quantised.graph.value_info[:], quantised.metadata_props[:]
    quantised.producer_name, quantised.producer_version = network.producer_name, network.producer_version
    set_info(quantised, replace(info, precision="int8"))
    return quantised


def _inputs(calibration: Sequence[npt.NDArray[np.uint8]]) -> Iterator[dict[str, Any]]:
    for images in calibration:
        yield {"images": images, "score_threshold": np.array([1.0], np.float32)}


def _copy(network: ModelProto) -> ModelProto:
    """The quantiser changes what it is given."""
    copied = type(network)()
    copied.CopyFrom(network)
    return copied


def predictions(graph: GraphProto) -> set[str]:
    """The names of the nodes from the last convolutions, which predict boxes and classes, to the outputs."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    open_names = [value.name for value in graph.output]
    while open_names:
        node = makers.get(open_names.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            if node.op_type not in _CONVOLUTIONS:
                open_names += node.input
    return found
