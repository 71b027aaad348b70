"""What was measured of one detector in several runtimes, in one run; the schema of the JSON records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from vovnet.errors import UsageError, unknown_name
from vovnet.parsing import naming, read_bounded
from vovnet.printing import quoted
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.measurement import Accuracy, Conditions
from vovnet.profiling.ranges import Positive, Size
from vovnet.profiling.speed import Latency, MeasuredValue
from vovnet.records import LONGEST_TEXT, first_fault
from vovnet.runtime.export_info import PRECISIONS, RUNTIMES

TORCH = "torch"


@dataclass(frozen=True)
class RuntimeName:
    """A runtime and the precision of the network in it: a row of the table."""

    runtime: str
    precision: str = "float32"

    def __str__(self) -> str:
        return self.runtime if self.precision == "float32" else f"{self.runtime}:{self.precision}"

    @classmethod
    def parse(cls, text: str) -> RuntimeName:
        """From RUNTIME or RUNTIME:PRECISION; UsageError for an unknown one."""
        runtime, colon, precision = text.partition(":")
        precision = precision if colon else "float32"
        if runtime not in (TORCH, *RUNTIMES):
            raise unknown_name("runtime", runtime, (TORCH, *RUNTIMES))
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS)
        if runtime == TORCH and precision != "float32":
            raise UsageError(f"torch is measured in float32, as the weights are; got {quoted(text)}")
        return cls(runtime, precision)


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime. What could not be measured is None, for the `reason`.

    network: one pass on a resized image; in an exported file decoding, and NMS without a candidate, belong to it.
    boxes: from the pixels of an image to its detections: resize, normalise, network, decode, NMS.
    ratio: `boxes` over that of the first row that was timed.
    file: the weights, or the exported file or folder.
    start_s: from the start of a process to its first boxes, of several processes.
    resident_mib, peak_mib: of the whole process.
    accuracy: of the boxes on a dataset; None without one.
    version: of the runtime.
    """

    runtime: str
    precision: str
    reason: str | None = None
    version: str | None = None
    file: str | None = None
    file_bytes: Size | None = None
    network: Latency | None = None
    boxes: Latency | None = None
    ratio: MeasuredValue | None = None
    start_s: tuple[Positive, ...] | None = None
    resident_mib: Positive | None = None
    peak_mib: Positive | None = None
    energy: EnergyResult | None = None
    accuracy: Accuracy | None = None

    @property
    def name(self) -> str:
        return str(RuntimeName(self.runtime, self.precision))

    @property
    def map(self) -> float | None:
        """VOC07 mAP."""
        return None if self.accuracy is None else self.accuracy.figures.get("VOC07")

    def to_dict(self) -> dict[str, Any]:
        """All fields with the statistics of the times, ready for JSON."""
        times = {name: getattr(self, name) for name in ("network", "boxes")}
        return {
            **asdict(self),
            **{name: latency and latency.to_dict() for name, latency in times.items()},
            "start_s": self.start_s and list(self.start_s),
        }


@dataclass(frozen=True)
class RuntimesMeasurement:
    """One detector in several runtimes.

    instructions: see `instruction_set`.
    images: on how many images it was timed, and `image_source` what they are.
    """

    model: str
    detector: str
    instructions: str
    images: Size
    image_source: str
    conditions: Conditions
    rows: Annotated[tuple[RuntimeRow, ...], Field(min_length=1, max_length=100)]

    @property
    def timed(self) -> list[RuntimeRow]:
        return [row for row in self.rows if row.boxes is not None]

    @property
    def fastest(self) -> RuntimeRow | None:
        """The row with the shortest median from pixels to boxes."""
        return min(self.timed, key=lambda row: row.boxes.median_ms if row.boxes else 0.0, default=None)

    def row(self, name: str) -> RuntimeRow | None:
        return next((row for row in self.rows if row.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rows": [row.to_dict() for row in self.rows]}


@dataclass(frozen=True)
class _Record:
    """A JSON file with a measurement of runtimes; other keys in it are ignored."""

    # Also for everything inside.
    __pydantic_config__: ClassVar = {"allow_inf_nan": False, "str_max_length": LONGEST_TEXT}
    runtimes: RuntimesMeasurement


def read_runtimes(path: str | Path) -> RuntimesMeasurement:
    """The measurement in a JSON record. Raises ValueError that names the first fault of the file."""
    with naming(Path(path)):
        data = read_bounded(Path(path), "record_bytes")
        try:
            return TypeAdapter(_Record).validate_json(data).runtimes
        except ValidationError as error:
            raise ValueError(f"is not a record of `vovnet measure --runtimes`: {first_fault(error)}") from None


def parse_names(names: Sequence[str]) -> list[RuntimeName]:
    """The rows of a table, each once, in their order."""
    return list(dict.fromkeys(map(RuntimeName.parse, names)))
