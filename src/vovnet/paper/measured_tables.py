"""Measuring the models of a table by the paper's protocol, and what a record of that says beside printed figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vovnet.engine.distributed import choose_device
from vovnet.files import write_json
from vovnet.paper.cells import Answer
from vovnet.paper.published import TABLES
from vovnet.paper.structure import classes_of
from vovnet.profiling.find_sensor import find_sensor
from vovnet.profiling.measure import measure_models
from vovnet.profiling.measurement import Measurement, read_measurements
from vovnet.profiling.sensors import Method, NoSensor
from vovnet.profiling.speed import median_ratio
from vovnet.provenance import command_line, record_header
from vovnet.zoo import create_model

MEASURED_TABLES = ("table2", "table3", "table4", "table5", "table6", "table7")
PAPERS_DEVICE = "TITAN X (Pascal)"


@dataclass(frozen=True)
class Record:
    """A table's models, measured in one run. name: of its file. table: whose."""

    name: str
    table: str
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
    """Measure the models of a table at batch 1 in float32, in turn, and write the record.

    The random weights cost what trained ones cost; Mask R-CNN's regions are as many as random weights propose.
    """
    models = list(dict.fromkeys(row.model for row in TABLES[table].rows if row.model))
    modules = {model: create_model(model, classes_of(model)) for model in models}
    where = choose_device(device)
    sensor = find_sensor(where)
    none_of_papers = isinstance(sensor, NoSensor) or "paper" not in sensor.sources
    method: Method | Literal["auto"] = "auto" if none_of_papers else "paper"
    measured = measure_models(
        modules,
        {name: (1, 3, *module.preprocessing.image_size) for name, module in modules.items()},
        device=where,
        repetitions=repetitions,
        energy=method if energy else None,
        on_step=on_step,
    )
    content = {
        **record_header(command_line()),
        "measurements": [one.to_dict() for one in measured],
    }
    write_json(path, content, indent=None)


def read_record(table: str, folder: Path) -> Record | None:
    """The record of a table, if the folder has one."""
    path = folder / f"{table}.json"
    if not path.is_file():
        return None
    return Record(path.name, table, {one.name: one for one in read_measurements(path)})


def measured_answer(record: Record | None, table: str, model: str, column: str) -> Answer:
    """The figure of a column that depends on a device: fps, time, memory, energy or efficiency."""
    command = f"`vovnet reproduce {table} --measure`"
    one = record.measurements.get(model) if record else None
    if record is None or one is None:
        where = "a GPU with a power sensor" if column == "energy" else "a GPU"
        return Answer("needs", note=f"{command} on {where}")
    how = conditions(record, one)
    if column in ("fps", "time", "efficiency"):
        speeds = {"fps": one.images_per_s, "time": one.latency.median_ms, "efficiency": one.gmultiply_adds_per_s}
        return Answer("measured", _text(speeds[column]), speeds[column], how)
    if column == "memory":
        memory = one.memory
        if memory is None or memory.peak_mib is None:
            reason = "it was not asked for" if memory is None else memory.reason
            return Answer("needs", note=f"{command}: memory was not measured in {record.name}, {reason}")
        # The whole process also holds the table's other models.
        return Answer("measured", f"{memory.peak_mib:.0f}", memory.peak_mib, f"MiB, {memory.method}; {record.name}")
    assert column == "energy", column
    if one.energy is None or one.energy.figure is None:
        why = "it was not asked for" if one.energy is None else one.energy.reason
        note = f"{command} on a GPU with a power sensor; for {record.name}: {why}"
        return Answer("needs", note=note)
    joules = one.energy.figure.energy_j_per_image
    return Answer("measured", _text(joules), joules, f"method {one.energy.figure.method}; {how}")


def measured_speed(record: Record | None, table: str, model: str, reference: str) -> Answer:
    """How many times as fast as `reference` a model is in the same run."""
    if record is None or not {model, reference} <= record.measurements.keys():
        return Answer("needs", note=f"`vovnet reproduce {table} --measure` on a GPU")
    one, other = record.measurements[model], record.measurements[reference]
    if model == reference:
        return Answer("measured", "1.00", 1.0, conditions(record, one))
    ratio = median_ratio(other.latency, one.latency)
    text = f"{ratio.median:.2f} ({ratio.interval[0]:.2f} – {ratio.interval[1]:.2f})"
    return Answer("measured", text, ratio.median, conditions(record, one))


def conditions(record: Record, one: Measurement) -> str:
    where = one.conditions
    name = where.device_name.replace("`", "'")  # a record may be a stranger's
    on = f"{name} ({where.device}), {where.threads} thread{'s' if where.threads > 1 else ''}"
    how = f"batch {one.input_shape[0]}, {one.precision}, network alone, median of {len(one.latency.seconds)} passes"
    beside = (
        f"not comparable with a {PAPERS_DEVICE}, ratios within the run are"
        if where.device.startswith("cpu")
        else f"the paper's is a {PAPERS_DEVICE}"
    )
    return f"{on}, {how}; {record.name}, run {where.run}; {beside}"


def _text(value: float) -> str:
    return f"{value:#.3g}" if value < 100 else f"{value:.0f}"
