"""Time, memory and energy of a table's models: measuring them by the paper's protocol, and answers from the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vovnet.engine.distributed import choose_device
from vovnet.files import write_json
from vovnet.paper.answers import Answer
from vovnet.paper.gpu_tables import PAPERS_DEVICE as PAPERS_DEVICE
from vovnet.paper.published import TABLES
from vovnet.paper.recomputed import foreground_classes
from vovnet.paper.wording import foreign
from vovnet.profiling.energy.find_sensor import find_sensor
from vovnet.profiling.energy.sensors import Method, NoSensor
from vovnet.profiling.measure import measure_models
from vovnet.profiling.measurement import Measurement, read_measurements
from vovnet.profiling.speed import median_ratio
from vovnet.provenance import command_line, count_threads, record_header
from vovnet.zoo import create_model

MEASURED_TABLES = ("table2", "table3", "table4", "table5", "table6", "table7")
MEASURED_COLUMNS = ("fps", "time", "memory", "energy", "efficiency")


@dataclass(frozen=True)
class Record:
    """The models of a table, measured in one run. name: of the file."""

    name: str
    measurements: dict[str, Measurement]


def measure_table(
    table: str,
    path: Path,
    *,
    device: str = "auto",
    repetitions: int = 200,
    energy: bool = True,
    on_step: Callable[[str], object] = lambda what: None,
) -> None:
    """Measure the models of a table interleaved, at batch 1 in float32, and write the record.

    The weights are random, which costs the same as trained ones except for Mask R-CNN: its number of proposals
    depends on the weights.
    """
    models = dict.fromkeys(row.model for row in TABLES[table].rows if row.model)  # each once
    modules = {model: create_model(model, foreground_classes(model)) for model in models}
    chosen_device = choose_device(device)
    sensor = find_sensor(chosen_device)
    without_papers_method = isinstance(sensor, NoSensor) or "paper" not in sensor.sources
    method: Method | Literal["auto"] = "auto" if without_papers_method else "paper"
    measurements = measure_models(
        modules,
        {name: (1, 3, *module.preprocessing.image_size) for name, module in modules.items()},
        device=chosen_device,
        repetitions=repetitions,
        energy=method if energy else None,
        on_step=on_step,
    )
    content = record_header(command_line()) | {"measurements": [m.to_dict() for m in measurements]}
    write_json(path, content, indent=None)


def read_record(table: str, folder: Path) -> Record | None:
    """The record of a table, None if the folder has none."""
    path = folder / f"{table}.json"
    if not path.is_file():
        return None
    measurements = read_measurements(path)
    if len({len(measurement.latency.seconds) for measurement in measurements}) > 1:
        raise ValueError(f"{path} is not a record of one run: its models have different numbers of passes")
    return Record(path.name, {measurement.name: measurement for measurement in measurements})


def measured_answer(record: Record | None, table: str, model: str, column: str) -> Answer:
    """The value of one of `MEASURED_COLUMNS`, or the command that measures it."""
    command = f"`vovnet reproduce {table} --measure`"
    on_gpu = f"{command} on a GPU{' with a power sensor' if column == 'energy' else ''}"
    if record is None or model not in record.measurements:
        return Answer("needs", note=on_gpu)
    measurement = record.measurements[model]
    if column == "memory":
        memory = measurement.memory
        if memory is None or memory.peak_mib is None:
            reason = "not requested" if memory is None else foreign(memory.reason or "")
            return Answer("needs", note=f"{command}; {record.name} has no memory values ({reason})")
        # Not memory of the whole process, which also holds the table's other models.
        note = f"MiB: {foreign(memory.method)}; {record.name}"
        unit = "MiB of RAM" if measurement.conditions.device.startswith("cpu") else "MiB"
        return Answer("measured", f"{memory.peak_mib:.0f}", memory.peak_mib, note, remark=unit)
    note = conditions(record, measurement)
    if column == "energy":
        energy = measurement.energy
        if energy is None or energy.figure is None:
            reason = "not requested" if energy is None else foreign(energy.reason or "")
            return Answer("needs", note=f"{on_gpu}; {record.name} has no energy values ({reason})")
        value, note = energy.figure.energy_j_per_image, f"method {energy.figure.method}; {note}"
    else:
        value = {
            "fps": measurement.images_per_s,
            "time": measurement.latency.median_ms,
            "efficiency": measurement.gmultiply_adds_per_s,
        }[column]
    if is_lower_bound(record, model, column):
        note = f"a lower bound: {foreign(', '.join(measurement.cost.uncounted))} not counted; {note}"
        return Answer("measured", f"≥ {value:#.3g}" if value < 100 else f"≥ {value:.0f}", value, note, "lower bound")
    # The column is called GPU time.
    remark = "CPU time" if column == "time" and measurement.conditions.device.startswith("cpu") else ""
    return Answer("measured", f"{value:#.3g}" if value < 100 else f"{value:.0f}", value, note, remark)


def is_lower_bound(record: Record, model: str, column: str) -> bool:
    """Whether a value of the record follows from multiply-adds that are a lower bound."""
    return column == "efficiency" and record.measurements[model].cost.is_lower_bound


def measured_speed_ratio(record: Record | None, table: str, model: str, reference: str) -> Answer:
    """The speed of a model relative to `reference` in the same run."""
    if record is None or not {model, reference} <= record.measurements.keys():
        return Answer("needs", note=f"`vovnet reproduce {table} --measure` on a GPU")
    measurement = record.measurements[model]
    note = conditions(record, measurement)
    if model == reference:
        return Answer("measured", "1.00", 1.0, note)
    ratio = median_ratio(record.measurements[reference].latency, measurement.latency)
    low, high = ratio.interval
    return Answer("measured", f"{ratio.median:.2f} ({low:.2f} – {high:.2f})", ratio.median, note)


def conditions(record: Record, measurement: Measurement) -> str:
    """Device, settings and record of a measurement, and what it can be compared with."""
    where = measurement.conditions
    device = f"{foreign(where.device_name)} ({foreign(where.device)}), {count_threads(where.threads)}"
    passes = len(measurement.latency.seconds)
    settings = (
        f"batch {measurement.input_shape[0]}, {foreign(measurement.precision)}, network only, median of {passes} passes"
    )
    comparable = (
        f"only ratios within this run are comparable with the {PAPERS_DEVICE} results"
        if where.device.startswith("cpu")
        else f"the paper used a {PAPERS_DEVICE}"
    )
    return f"{device}, {settings}; {record.name}, run {foreign(where.run)}; {comparable}"
