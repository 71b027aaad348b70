"""All that was measured of one model, with the conditions it was measured under; the form of the JSON records."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from vovnet.files import replacing
from vovnet.profiling.cost import Cost, ModelCost
from vovnet.profiling.energy import EnergyResult
from vovnet.profiling.estimate import EstimatedEnergy
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.speed import Latency, Ratio
from vovnet.profiling.surroundings import Surroundings


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

    __pydantic_config__: ClassVar = {"allow_inf_nan": False}  # all the way down
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
        measurements = TypeAdapter(Record).validate_json(Path(path).read_bytes()).measurements
        _check(measurements)
        return measurements
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{path} is no record of `vovnet measure`: {where}: {first['msg']}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no record of `vovnet measure`: {error}") from None


# Ranges of figures. Their ends are far from what is real and from what overflows where figures are divided.
_POSITIVE = 1e-30, 1e30
_NOT_NEGATIVE = 0.0, 1e30
_WHOLE = 1.0, 1e30
_FRACTION = 0.0, 1.0


def _check(measurements: Sequence[Measurement]) -> None:
    """Raises ValueError, which names the place, for what has the right types and yet cannot have been measured."""
    if not measurements:
        raise ValueError("measurements is empty")
    for i, one in enumerate(measurements):
        for place, figures, (least, most) in _figures(one):
            wrong = [value for value in figures if value is not None and not least <= value <= most]
            if wrong:
                got = reprlib.repr(wrong[0])
                raise ValueError(f"measurements.{i}.{place} must be from {least:g} to {most:g}, got {got}")
        for place, latency in _latencies(one).items():
            if not latency.seconds:
                raise ValueError(f"measurements.{i}.{place}.seconds must have a time, got none")
        layers = one.cost.layers
        if one.layer_seconds is not None and len(one.layer_seconds) != len(layers):
            count = len(one.layer_seconds)
            raise ValueError(f"measurements.{i}.layer_seconds must have one time a layer, {len(layers)}, got {count}")
        one.cost.element_bytes  # noqa: B018  # raises for a number format that does not exist


def _latencies(one: Measurement) -> dict[str, Latency]:
    batches = {f"batches.{size}": latency for size, latency in (one.batches or {}).items()}
    stages = {f"stages.{name}": latency for name, latency in (one.stages or {}).items()}
    return {"latency": one.latency, **batches, **stages}


def _figures(one: Measurement) -> Iterator[tuple[str, Iterable[float | None], tuple[float, float]]]:
    """Place, figures and range; None is a figure that is not known."""
    yield "input_shape", one.input_shape, _WHOLE
    yield "batches", one.batches or (), _WHOLE
    for place, latency in _latencies(one).items():
        yield f"{place}.seconds", latency.seconds, _POSITIVE
    yield "layer_seconds", one.layer_seconds or (), _NOT_NEGATIVE
    yield "ratio", (one.ratio.median, *one.ratio.interval), _POSITIVE
    for i, layer in enumerate(one.cost.layers):
        yield f"cost.layers.{i}", (getattr(layer, count.name) for count in fields(Cost)), _NOT_NEGATIVE
    if peak := one.conditions.peak:
        yield "conditions.peak", (peak.gflop_per_s, peak.gbyte_per_s), _POSITIVE
    if use := one.memory:
        sizes = use.parameters_mib, use.peak_mib, use.live_mib, use.reserved_mib, use.process_mib
        yield "memory", sizes, _NOT_NEGATIVE
    if energy := one.energy:
        yield "energy", (energy.energy_j_per_image, energy.images_per_second), _NOT_NEGATIVE
        for figure in filter(None, (energy.figure, energy.check)):  # above idle may come out below zero
            yield f"energy.{figure.method}", (figure.energy_j_per_image, figure.power_w), _NOT_NEGATIVE
    if guess := one.estimate:
        joules = guess.estimated_j_per_image, guess.estimated_arithmetic_j, guess.estimated_memory_j
        yield "estimate", joules, _NOT_NEGATIVE
    if one.accuracy:
        yield "accuracy.figures", one.accuracy.figures.values(), _FRACTION
