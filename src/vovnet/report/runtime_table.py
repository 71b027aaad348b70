"""One detector in several runtimes: the table, what it holds for, and the files of a report."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from vovnet.errors import counted
from vovnet.export.measuring.runtime_measurement import RuntimeRow, RuntimesMeasurement
from vovnet.files import write_json, write_text
from vovnet.printing import PARAGRAPH, line
from vovnet.profiling.memory import MIB
from vovnet.profiling.speed import Latency
from vovnet.report.document import BulletList, Table, parts_to_markdown
from vovnet.report.table import Column, Interval, make_table, to_csv

Row = RuntimeRow


def _times(kind: str, title: str, of: Callable[[Row], Latency | None]) -> list[Column[Row]]:
    """Median with its interval, p90 and p99 of these times."""

    def percentile(percent: int) -> Callable[[Row], float | None]:
        def value(row: Row) -> float | None:
            latency = of(row)
            return latency.percentile_ms(percent) if latency and latency.resolves(percent) else None

        return value

    def median(row: Row) -> float | None:
        latency = of(row)
        return latency.median_ms if latency else None

    def interval(row: Row) -> Interval | None:
        latency = of(row)
        return latency.interval_ms if latency else None

    high = [
        Column(f"{kind}_p{percent}_ms", f"{kind} p{percent}", percentile(percent), unit="ms") for percent in (90, 99)
    ]
    return [Column(f"{kind}_median_ms", title, median, unit="ms", interval=interval), *high]


def _start_s(row: Row) -> float | None:
    return statistics.median(row.start_s) if row.start_s else None


def _energy_j(row: Row) -> float | None:
    return row.energy.energy_j_per_image if row.energy else None


COLUMNS: list[Column[Row]] = [
    Column("runtime", "runtime", lambda row: row.runtime),
    Column("precision", "precision", lambda row: row.precision),
    Column("voc07_map", "mAP", lambda row: row.map, unit="%", scale=0.01, limits=(0, 1)),
    *_times("boxes", "pixels → boxes", lambda row: row.boxes),
    Column(
        "ratio_to_first",
        "× first",
        lambda row: row.ratio.median if row.ratio else None,
        interval=lambda row: row.ratio.interval if row.ratio else None,
    ),
    *_times("network", "network alone", lambda row: row.network),
    Column("start_s", "start → first boxes", _start_s, unit="s"),
    Column("resident_mib", "resident", lambda row: row.resident_mib, unit="MiB"),
    Column("peak_mib", "peak", lambda row: row.peak_mib, unit="MiB"),
    Column("file_bytes", "file", lambda row: row.file_bytes, unit="MiB", scale=MIB),
    Column("energy_j_per_image", "energy", _energy_j, unit="J/image"),
]


def runtime_table(measurement: RuntimesMeasurement) -> Table:
    return make_table(f"{measurement.model} in {counted(len(measurement.rows), 'runtime')}", COLUMNS, measurement.rows)


def runtime_remarks(measurement: RuntimesMeasurement) -> list[str]:
    """What the table holds for, in sentences: machine, images, what is missing and why; the warnings last."""
    conditions, rows = measurement.conditions, measurement.rows
    software = ", ".join(f"{name} {version}" for name, version in conditions.software.items())
    device = f"{conditions.device_name} ({measurement.instructions})"
    threads = counted(conditions.threads, "thread")
    sentences = [
        f"Measured on {device}, {threads}, {conditions.system}; {software}; {conditions.date}, run {conditions.run}.",
        f"Timed in turn, one process for each row and one running at a time, on {_images(measurement)}.",
        "Pixels → boxes: resize, normalise, network, decode and NMS of one image in memory. Network alone: one pass on "
        "a resized image; exported files decode in it.",
        "Start → first boxes: from the start of a process, with its imports, to the boxes of a first image, median. "
        "Resident and peak: the whole process.",
    ]
    accuracies = {(row.accuracy.data, row.accuracy.split, row.accuracy.images) for row in rows if row.accuracy}
    sentences += [
        f"mAP: VOC07, IoU 0.5, on the {images} images of {split} of {data}." for data, split, images in accuracies
    ]
    if not accuracies:
        sentences.append("mAP: not measured, because no dataset was given.")
    if first := next(iter(measurement.timed), None):
        sentences.append(f"× first: the time over that of {first.name}, median over pairs of passes.")
        if len(first.boxes.seconds if first.boxes else ()) < 100:
            sentences.append("p99 needs at least 100 passes.")
    energies = dict.fromkeys(str(row.energy) for row in rows if row.energy and row.energy.figure is None)
    sentences += [f"{sentence[0].upper()}{sentence[1:]}." for sentence in energies]
    sentences += [
        f"{row.name}: energy: {part}"
        for row in rows
        if row.energy and row.energy.figure
        for part in str(row.energy).split("\n")
    ]
    sentences += [f"{row.name}: not measured: {row.reason}" for row in rows if row.reason]
    sentences += [f"Warning: {warning}" for warning in conditions.surroundings.doubts]
    return [line(sentence, PARAGRAPH) for sentence in sentences]


def _images(measurement: RuntimesMeasurement) -> str:
    if measurement.images == 1:
        return measurement.image_source
    return f"{measurement.images} images ({measurement.image_source})"


def runtimes_to_markdown(measurement: RuntimesMeasurement) -> str:
    return parts_to_markdown([runtime_table(measurement), BulletList("Conditions", runtime_remarks(measurement))])


def write_runtimes(measurement: RuntimesMeasurement, header: dict[str, object], folder: Path) -> None:
    """Write runtimes.json, .csv and .md. header: the first entries of the record."""
    write_json(folder / "runtimes.json", {**header, "runtimes": measurement.to_dict()})
    write_text(folder / "runtimes.csv", to_csv(COLUMNS, measurement.rows))
    write_text(folder / "runtimes.md", runtimes_to_markdown(measurement))
