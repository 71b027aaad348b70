"""The options that several commands share: type, range and help text, once each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number


def _file_or_dash(_: object, value: str | None) -> None:
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f'expected a file or "-", got {value}')


Fraction = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=Number(gte=0))]
Positive = Annotated[int, Parameter(validator=Number(gte=1))]
Repetitions = Annotated[int, Parameter(validator=Number(gte=2))]
Switch = Annotated[bool, Parameter(negative="")]
Repeated = Annotated[list[str] | None, Parameter(negative="")]  # --name A --name B
Several = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]  # --name A B

Weights = Annotated[
    str,
    Parameter(help="Bundled weights by name, a file, a run's folder, a URL, hf:OWNER/NAME, or an exported detector."),
]
Split = Annotated[str | None, Parameter(help="Split of the dataset, such as test.")]
BatchSize = Annotated[int, Parameter(validator=Number(gte=1), help="Images per forward pass.")]
Tiles = Annotated[
    int | None,
    Parameter(validator=Number(gte=32), help="Detect in overlapping tiles of this many pixels too, for small objects."),
]
Overlap = Annotated[
    float | None,
    Parameter(validator=Number(gte=0, lte=0.9), help="Share of its side that a tile has in common with the next: 0.2."),
]
TopK = Annotated[int, Parameter(validator=Number(gte=1), help="Keep at most this many detections per image.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:N or mps.")]
Threads = Annotated[int | None, Parameter(validator=Number(gte=1), help="CPU threads that run the network.")]
Runtime = Literal["auto", "torch", "onnxruntime", "openvino", "mnn"]
Json = Annotated[
    str | None,
    Parameter(
        name="--json",
        allow_leading_hyphen=True,
        validator=_file_or_dash,
        help='Write the results as JSON to this file, or "-" for standard output.',
    ),
]
ConfigFile = Annotated[
    Path, Parameter(help="YAML file of the run, or the name of a published config, see `vovnet list`.")
]
