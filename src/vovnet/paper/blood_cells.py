"""The detectors of Tables 2 and 3 on blood cells at equal budget, from the records of benchmarks/bccd_study.py."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vovnet.paper.measured_tables import Record, measured_answer
from vovnet.paper.published import TABLE_2, TABLE_3, PublishedTable
from vovnet.report.document import Table

FOLDER = "bccd_study"
TIMED = ("time with VOC's classes (ms)", "memory with VOC's classes (MiB)")  # of the networks that table 2 measures
COMMAND = "`python benchmarks/bccd_study.py`"
NEEDED = f"needs {COMMAND}"


@dataclass(frozen=True)
class Study:
    """The records of one model, by seed."""

    model: str
    records: Mapping[int, Mapping[str, Any]]

    @property
    def mean_aps(self) -> dict[int, float]:
        """Seed → mean of the classes' 11-point AP, in percent, as the paper prints it."""
        return {seed: 100 * record["test"]["voc07_map"] for seed, record in sorted(self.records.items())}

    def class_ap(self, name: str) -> float:
        """Mean over the seeds, in percent."""
        return statistics.mean(100 * record["test"]["classes"][name]["voc07_ap"] for record in self.records.values())

    @property
    def first(self) -> Mapping[str, Any]:
        return self.records[min(self.records)]


def read_studies(folder: Path) -> dict[str, Study]:
    """Model → its records in the folder of records."""
    found: dict[str, dict[int, Any]] = {}
    for path in sorted((folder / FOLDER).glob("*_[0-9]*.json")):
        record = json.loads(path.read_text())
        found.setdefault(record["model"], {})[record["seed"]] = record
    return {model: Study(model, records) for model, records in found.items()}


def equal_budget_table(studies: Mapping[str, Study], times: Record | None) -> Table:
    """Table 2's detectors: accuracy, counts, and time and memory where the table's models were measured."""
    known = [study for row in TABLE_2.rows if row.model and (study := studies.get(row.model))]
    classes = list(known[0].first["test"]["classes"]) if known else []
    counted = ["parameters", "multiply-adds", "memory access (M)"]
    header = ["detector", *(f"AP {name}" for name in classes), "mAP", *counted, *TIMED]
    rows = []
    for row in TABLE_2.rows:
        assert row.model is not None
        study = studies.get(row.model)
        cost = [measured_answer(times, "table2", row.model, key).text or "needs" for key in ("time", "memory")]
        if study is None:
            rows.append([row.name, *["needs"] * (len(header) - 3), *cost])
            continue
        first, means = study.first, list(study.mean_aps.values())
        counts = [f"{first['parameters']:,}", f"{first['multiply_adds']:,}", f"{first['memory_access_cost'] / 1e6:.2f}"]
        accuracy = [f"{value:.1f}" for value in (*map(study.class_ap, classes), statistics.mean(means))]
        rows.append([row.name, *accuracy, *counts, *cost])
    notes = [_conditions(known)] if known else []
    if len(known) < len(TABLE_2.rows):
        notes.append(f"accuracy {NEEDED}")
    if times is None:
        notes.append("time and memory need `vovnet reproduce table2 --measure`")
    else:
        notes += [f"time: {measured_answer(times, 'table2', study.model, 'time').note}" for study in known[:1]]
        notes.append(f"memory: {times.name}; table 2 above says how it was measured")
    title = "The same detectors on blood cells at equal budget (measured)"
    return Table(header, rows, title, notes, _data(known))


def bottleneck_table(studies: Mapping[str, Study]) -> Table:
    """Table 3 on blood cells: the mean over seeds, and the difference paired by seed with its spread."""
    plain, bottleneck = (studies.get(row.model or "") for row in TABLE_3.rows)
    title = "The bottleneck on blood cells (measured)"
    header = ["DSOD300 on", "mAP, mean over seeds", "each seed"]
    known = [study for study in (plain, bottleneck) if study]
    rows = []
    for row in TABLE_3.rows:
        study = studies.get(row.model or "")
        values = list(study.mean_aps.values()) if study else []
        mean = f"{statistics.mean(values):.2f}" if values else "needs"
        rows.append([row.name, mean, "; ".join(f"{value:.2f}" for value in values)])
    notes = [_conditions(known)] if known else []
    if plain is None or bottleneck is None:
        return Table(header, rows, title, [*notes, f"it {NEEDED}"], _data(known))
    seeds = sorted(plain.mean_aps.keys() & bottleneck.mean_aps.keys())
    differences = [bottleneck.mean_aps[seed] - plain.mean_aps[seed] for seed in seeds]
    if differences:
        rows.append(
            ["difference, seed by seed", signed(statistics.mean(differences)), "; ".join(map(signed, differences))]
        )
        spread = f"the difference is {signed(min(differences))} … {signed(max(differences))} over {len(seeds)} seeds"
        if len(differences) >= 3:
            spread += f", standard deviation {statistics.stdev(differences):.2f}"
        notes.append(f"{spread}; the paper prints {published_loss(TABLE_3)} on VOC07")
    return Table(header, rows, title, notes, _data(known) | {"differences": differences})


def published_loss(table: PublishedTable) -> str:
    plain, bottleneck = (float(row.figures["map"]) for row in table.rows)
    return signed(bottleneck - plain, 1)


def signed(value: float, after_point: int = 2) -> str:
    return f"{value:+.{after_point}f}".replace("-", "−")


def _conditions(studies: Sequence[Study]) -> str:
    """What all the records say of how they came about."""
    records = [record for study in studies for record in study.records.values()]
    said = {
        f"BCCD, {config['schedule']['epochs']:g} epochs from scratch, batch {config['batch_size']}, "
        f"{config['precision']}, {record['test']['images']} test images, 11-point AP; {record['trained_on']}"
        for record in records
        for config in [record["config"]]
    }
    seeds = sorted({seed for study in studies for seed in study.records})
    each = ", ".join(f"{study.model}: {', '.join(map(str, sorted(study.records)))}" for study in studies)
    listed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds ({each})"
    return f"{' / '.join(sorted(said))}; {listed}; records {FOLDER}/MODEL_SEED.json, by {COMMAND}"


def _data(studies: Sequence[Study]) -> dict[str, Any]:
    return {study.model: {"map": study.mean_aps} for study in studies}
