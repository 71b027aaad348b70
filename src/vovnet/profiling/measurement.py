"""Everything measured of one model, with the conditions it was measured under; the schema of the JSON records.

Field names are the keys of the records, so renaming one makes old records unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from vovnet.files import write_json
from vovnet.parsing import naming, read_bounded
from vovnet.profiling.cost_types import ModelCost
from vovnet.profiling.energy.estimate import EstimatedEnergy
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.intervals import Interval
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.ranges import Fraction, NonNegative, Size
from vovnet.profiling.runs import Run
from vovnet.profiling.speed import Latency, MeasuredValue
from vovnet.profiling.surroundings import Surroundings
from vovnet.records import LONGEST_TEXT, first_fault


@dataclass(frozen=True)
class Conditions:
    """Where, when and how it was measured; the same for all models of one run. Only times of one run can be compared.

    run: random identifier.
    device, device_name: PyTorch's name, such as "cuda:0", and the maker's.
    cudnn_benchmark: whether cuDNN chose the fastest algorithm of each convolution by trying them during the warm-up;
        None without a GPU of NVIDIA.
    """

    run: str
    date: str
    device: str
    device_name: str
    threads: int
    system: str
    software: dict[str, str]
    peak: DevicePeak | None
    surroundings: Surroundings
    cudnn_benchmark: bool | None = None


@dataclass(frozen=True)
class Accuracy:
    """The accuracy on a split of a dataset, `data`.

    figures: name of the metric → value in 0…1. "AP" and "AP50" are COCO's, "VOC07" is the 11-point mAP.
    """

    data: str
    split: str
    images: int
    figures: dict[str, Fraction]


@dataclass(frozen=True)
class Measurement:
    """One model in one run, see `runs.py`.

    runtime: "PyTorch" or "ONNX Runtime".
    input_shape: (N, C, H, W); of an exported file with channels last (N, H, W, C).
    ratio: its time over the time of the model `ratio_to` in the same run, see `median_ratio`.
    layer_seconds: median time of each of `cost.layers`, in their order; None if the runtime does not report it.
    batches: batch size → time of a pass.
    stages: stage of a detection, from reading the file to drawing → its time.
    other_inputs: name of an input that takes no images → shape and number format of the ones that it was given.
    run: how its passes were run.
    run_ratio: its time over the time of the same model in the run `run_ratio_to`; None with a single run.
    compile_s: seconds that compilation took, with three passes.
    """

    name: str
    runtime: str
    input_shape: tuple[Size, Size, Size, Size]
    precision: str
    cost: ModelCost
    latency: Latency
    ratio_to: str
    ratio: MeasuredValue
    conditions: Conditions
    layer_seconds: tuple[NonNegative, ...] | None = None
    memory: MemoryUse | None = None
    energy: EnergyResult | None = None
    estimate: EstimatedEnergy | None = None
    batches: dict[Size, Latency] | None = None
    stages: dict[str, Latency] | None = None
    accuracy: Accuracy | None = None
    other_inputs: dict[str, str] | None = None
    run: Run = "eager"
    run_ratio: MeasuredValue | None = None
    run_ratio_to: Run | None = None
    compile_s: NonNegative | None = None

    @property
    def images_per_s(self) -> float:
        return self.latency.throughput(self.input_shape[0]).median

    @property
    def images_per_s_interval(self) -> Interval:
        return self.latency.throughput(self.input_shape[0]).interval

    @property
    def gmultiply_adds_per_s(self) -> float:
        """The paper's GPU-computation efficiency, which calls multiply-adds FLOPs. Real FLOP/s are twice this."""
        return self.latency.throughput(self.cost.total.multiply_adds / 1e9).median

    @property
    def gmultiply_adds_per_s_interval(self) -> Interval:
        return self.latency.throughput(self.cost.total.multiply_adds / 1e9).interval

    @property
    def gflop_per_s(self) -> float:
        return 2 * self.gmultiply_adds_per_s

    @property
    def gflop_per_s_interval(self) -> Interval:
        low, high = self.gmultiply_adds_per_s_interval
        return 2 * low, 2 * high

    @property
    def flops_per_byte(self) -> float | None:
        """Arithmetic intensity of all operations, see `Cost.flops_per_byte`."""
        return self.cost.total.flops_per_byte(self.cost.element_bytes)

    @property
    def peak_fraction(self) -> float | None:
        """FLOP/s as a fraction of the peak of this device; None if the peak was not measured."""
        peak = self.conditions.peak
        return self.gflop_per_s / peak.gflop_per_s if peak else None

    @property
    def bandwidth_fraction(self) -> float | None:
        """Bytes per second that all operations read and write, as a fraction of what a large copy reaches.

        Above 1 if caches hold what one operation passes to the next. None if the peak was not measured.
        """
        peak = self.conditions.peak
        gbyte = self.cost.total.elements * self.cost.element_bytes / 1e9
        return gbyte / (self.latency.median_ms / 1e3) / peak.gbyte_per_s if peak else None

    @property
    def energy_j_per_image(self) -> float | None:
        """Measured joules per image; None without a sensor. Never an estimate."""
        return None if self.energy is None else self.energy.energy_j_per_image

    @property
    def energy_interval_j(self) -> Interval | None:
        """95 % interval of `energy_j_per_image`; None also with a single trial."""
        return self.energy.figure.energy_interval_j if self.energy and self.energy.figure else None

    @property
    def above_idle_j_per_image(self) -> float | None:
        return self.energy.figure.above_idle_j_per_image if self.energy and self.energy.figure else None

    @property
    def above_idle_interval_j(self) -> Interval | None:
        return self.energy.figure.above_idle_interval_j if self.energy and self.energy.figure else None

    def to_dict(self) -> dict[str, Any]:
        """All fields with the values derived from them, ready for JSON."""
        batches, stages = self.batches or {}, self.stages or {}
        fields = asdict(self)
        for name in ("other_inputs", "run_ratio", "run_ratio_to", "compile_s"):  # older records do not have them
            if fields[name] is None:
                del fields[name]
        if self.conditions.cudnn_benchmark is None:
            del fields["conditions"]["cudnn_benchmark"]
        return {
            **fields,
            "cost": self.cost.to_dict(),
            "latency": self.latency.to_dict(),
            "batches": {size: latency.to_dict() for size, latency in batches.items()} or None,
            "stages": {name: latency.to_dict() for name, latency in stages.items()} or None,
            "images_per_s": self.images_per_s,
            "gmultiply_adds_per_s": self.gmultiply_adds_per_s,
            "gflop_per_s": self.gflop_per_s,
            "peak_fraction": self.peak_fraction,
            "bandwidth_fraction": self.bandwidth_fraction,
            "energy_j_per_image": self.energy_j_per_image,
        }


@dataclass(frozen=True)
class Record:
    """A JSON file of measurements; other keys in it are ignored."""

    # Also for everything inside.
    __pydantic_config__: ClassVar = {"allow_inf_nan": False, "str_max_length": LONGEST_TEXT}
    measurements: Annotated[list[Measurement], Field(min_length=1, max_length=1_000)]


def write_measurements(measurements: Sequence[Measurement], path: str | Path) -> None:
    """Write a JSON file that `read_measurements` reads, completely or not at all. Raises ValueError for NaN."""
    write_json(path, {"measurements": [measurement.to_dict() for measurement in measurements]})


def read_measurements(path: str | Path) -> list[Measurement]:
    """The measurements of a JSON record.

    Raises ValueError that names the first value that is missing, has the wrong type or cannot have been measured, or
    that says why the file cannot be read.
    """
    with naming(Path(path)):
        data = read_bounded(Path(path), "record_bytes")
        try:
            measurements = TypeAdapter(Record).validate_json(data).measurements
        except ValidationError as error:
            raise ValueError(f"is not a record of `vovnet measure`: {first_fault(error)}") from None
    for index, measurement in enumerate(measurements):
        times, layers = measurement.layer_seconds, measurement.cost.layers
        if times is not None and len(times) != len(layers):
            fault = f"must have one time for each of the {len(layers)} layers, got {len(times)}"
            raise ValueError(f"{path} is not a record of `vovnet measure`: measurements.{index}.layer_seconds {fault}")
    return measurements
