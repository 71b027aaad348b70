"""From a PyTorch module to an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vovnet.errors import is_out_of_memory
from vovnet.export.quiet import quiet
from vovnet.libraries import needs_extra
from vovnet.printing import line

if TYPE_CHECKING:
    from onnx import ModelProto

_OPSET = 18


def make_graph(
    network: nn.Module,
    inputs: Sequence[Tensor],
    *,
    dynamic_shapes: tuple[Any, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    name: str,
    translations: Mapping[Any, Any] | None = None,
) -> ModelProto:
    """The module as an ONNX model, with nothing in it but the network.

    inputs: examples for `forward`.
    dynamic_shapes: see `torch.export.export`.
    name: of the detector, for messages.
    translations: PyTorch operations of our own and the functions that write them in ONNX.

    Raises ValueError if PyTorch cannot export it, ModuleNotFoundError without the packages that this takes.
    """
    _check_installed()
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                network,
                tuple(inputs),
                dynamo=True,
                dynamic_shapes=dynamic_shapes,
                input_names=input_names,
                output_names=output_names,
                opset_version=_OPSET,
                custom_translation_table=dict(translations or {}),
                verbose=False,
            )
        except Exception as error:  # of many types: whatever the tracing of a network meets
            if is_out_of_memory(error):
                raise
            cause = error.__cause__ or error
            if isinstance(cause, ImportError):
                raise ValueError(
                    f"the installed onnxscript does not fit the installed PyTorch ({line(str(cause), 200)}): "
                    "pip install --upgrade onnxscript"
                ) from error
            raise ValueError(
                f"{name} cannot be exported to ONNX ({line(f'{type(cause).__name__}: {cause}', 200)}): "
                "its network takes steps that ONNX or inputs of any number and size do not allow; use another backbone"
            ) from error
    assert program is not None
    graph: ModelProto = program.model_proto
    _tidy(graph)
    return graph


def _check_installed() -> None:
    with needs_extra("onnx", "export to ONNX needs the packages onnx and onnxscript"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401


def _tidy(network: ModelProto) -> None:
    """Remove what the exporter notes for debugging: the source lines and folders of this machine, and all shapes."""
    from vovnet import __version__

    graph = network.graph
    network.producer_name, network.producer_version, graph.name = "vovnet", __version__, "pixels_to_boxes"
    network.doc_string = graph.doc_string = ""
    for field in (network.metadata_props, graph.metadata_props, graph.value_info):
        del field[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
