"""All that was measured of one model, with the conditions it was measured under; the form of the JSON records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vovnet.files import replacing
from vovnet.measure.cost import ModelCost
from vovnet.measure.energy import EnergyResult
from vovnet.measure.estimate import EstimatedEnergy
from vovnet.measure.memory import MemoryUse
from vovnet.measure.peak import DevicePeak
from vovnet.measure.speed import Latency, Ratio
from vovnet.measure.surroundings import Surroundings


@dataclass(frozen=True)
class Conditions:
    """Where, when and how; the same for all models of one run, and only times of one run make fair ratios.

    run: a random name of the run. device: as PyTorch calls it; device_name: as its maker does.
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


@dataclass(frozen=True)
class Accuracy:
    """Figures in 0…1 by name, "AP", "AP50" (both COCO's) and "VOC07" (11-point mAP), and the data they hold for."""

    data: str
    split: str
    images: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Measurement:
    """One model. Counts are for the whole batch; `ratio` is its time over that of `ratio_to`, pair by pair.

    runtime: "PyTorch" or "ONNX Runtime". layer_seconds: the median time of each of `cost.layers` by itself, in their
    order, None where the runtime does not tell. batches: batch size → its time, of a sweep. stages: name of a part of
    the way from file to picture → its time.
    """

    name: str
    runtime: str
    input_shape: tuple[int, int, int, int]
    precision: str
    cost: ModelCost
    latency: Latency
    ratio_to: str
    ratio: Ratio
    conditions: Conditions
    layer_seconds: tuple[float, ...] | None = None
    memory: MemoryUse | None = None
    energy: EnergyResult | None = None
    estimate: EstimatedEnergy | None = None
    batches: dict[int, Latency] | None = None
    stages: dict[str, Latency] | None = None
    accuracy: Accuracy | None = None

    @property
    def images_per_s(self) -> float:
        return self.input_shape[0] / self.latency.median_ms * 1e3

    @property
    def gmultiply_adds_per_s(self) -> float:
        """The paper's GPU-computation efficiency: it calls multiply-adds FLOPs. True FLOP/s are twice this."""
        return self.cost.total.multiply_adds / self.latency.median_ms / 1e6

    @property
    def gflop_per_s(self) -> float:
        return 2 * self.gmultiply_adds_per_s

    @property
    def peak_fraction(self) -> float | None:
        """FLOP/s over what a matrix product reaches on this device; None where that was not measured."""
        peak = self.conditions.peak
        return self.gflop_per_s / peak.gflop_per_s if peak else None

    @property
    def bandwidth_fraction(self) -> float | None:
        """Bytes that all operations read and write, over the time and over what a large copy reaches on this device.

        Above 1 where caches hold what one operation hands to the next. None where the peak was not measured.
        """
        peak, total = self.conditions.peak, self.cost.total
        gbyte = (total.memory_access_cost + total.other_elements) * self.cost.element_bytes / 1e9
        return gbyte / (self.latency.median_ms / 1e3) / peak.gbyte_per_s if peak else None

    @property
    def energy_j_per_image(self) -> float | None:
        """Joules an image, measured; None without a sensor. An estimate never stands here."""
        return None if self.energy is None else self.energy.energy_j_per_image

    def to_dict(self) -> dict[str, Any]:
        """All of it with the derived figures, ready for JSON."""
        batches, stages = self.batches or {}, self.stages or {}
        return {
            **asdict(self),
            "cost": self.cost.to_dict(),
            "latency": _latency(self.latency),
            "batches": {size: _latency(one) for size, one in batches.items()} or None,
            "stages": {name: _latency(one) for name, one in stages.items()} or None,
            "images_per_s": self.images_per_s,
            "gmultiply_adds_per_s": self.gmultiply_adds_per_s,
            "gflop_per_s": self.gflop_per_s,
            "peak_fraction": self.peak_fraction,
            "bandwidth_fraction": self.bandwidth_fraction,
            "energy_j_per_image": self.energy_j_per_image,
        }


def _latency(latency: Latency) -> dict[str, Any]:
    figures = {f"p{percent}_ms": latency.percentile_ms(percent) for percent in (10, 90, 99)}
    figures |= {"median_ms": latency.median_ms, "spread": latency.spread}
    return figures | {"interval_ms": latency.interval_ms, "seconds": latency.seconds}


@dataclass(frozen=True)
class Record:
    """A JSON file of measurements."""

    measurements: list[Measurement]


def write_measurements(measurements: Sequence[Measurement], path: str | Path) -> None:
    """Write a JSON file that `read_measurements` reads, whole or not at all."""
    with replacing(path) as temporary:
        content = {"measurements": [one.to_dict() for one in measurements]}
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_measurements(path: str | Path) -> list[Measurement]:
    """The measurements of a JSON record. Raises ValueError that names what is wrong with it, OSError if unreadable."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Record).validate_json(Path(path).read_bytes()).measurements
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path} is no record of `vovnet measure`: {where}: {first['msg']}") from None
