"""The detectors of Tables 2 and 3 trained on blood cells (BCCD) for the same number of epochs, by
benchmarks/bccd_study.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vovnet.paper.measured import Record, measured_answer
from vovnet.paper.published import TABLES, PublishedRow
from vovnet.paper.records import read_blood_cells
from vovnet.paper.wording import foreign
from vovnet.report.document import Table

FOLDER = "bccd_study"
COMMAND = "`python benchmarks/bccd_study.py`"
DEFAULT_BOXES = (
    "both DSODs use their set of smaller default boxes (`anchors: coco`), which suits platelets; SSD and Pelee have "
    "only one set"
)


@dataclass(frozen=True)
class Study:
    """The records of one model by seed, the lowest seed first."""

    model: str
    records: Mapping[int, Mapping[str, Any]]

    @property
    def mean_aps(self) -> dict[int, float]:
        """Seed → mean over the classes of the 11-point AP in percent, as the paper prints it."""
        return {seed: 100 * record["test"]["voc07_map"] for seed, record in self.records.items()}

    @property
    def mean_ap(self) -> float:
        """The mean over the seeds."""
        return statistics.mean(self.mean_aps.values())

    def class_ap(self, name: str) -> float:
        """The mean over the seeds in percent."""
        return statistics.mean(100 * record["test"]["classes"][name]["voc07_ap"] for record in self.records.values())

    @property
    def first(self) -> Mapping[str, Any]:
        return next(iter(self.records.values()))


def read_studies(folder: Path) -> dict[str, Study]:
    """Model → its study, from a folder of records."""
    all_records = [(read_blood_cells(path), path) for path in sorted((folder / FOLDER).glob("*_[0-9]*.json"))]
    by_model: dict[str, dict[int, Any]] = {}
    for record, path in sorted(all_records, key=lambda found: found[0]["seed"]):
        first, first_path = all_records[0]
        if record["test"]["classes"].keys() != first["test"]["classes"].keys():
            raise ValueError(f"{path} has other classes than {first_path}: keep the records of one study there")
        by_model.setdefault(record["model"], {})[record["seed"]] = record
    return {model: Study(model, records) for model, records in by_model.items()}


def equal_budget_table(studies: Mapping[str, Study], record: Record | None) -> Table:
    """Accuracy and counts of Table 2's detectors; time and memory from a record of Table 2, if there is one."""
    published = TABLES["table2"].rows
    present = _present(studies, published)
    classes = list(present[0].first["test"]["classes"]) if present else []
    header = [
        "detector",
        *(f"AP {foreign(name, 40)}" for name in classes),
        "mAP",
        "parameters",
        "multiply-adds",
        "memory access (M elements)",
        "time, 20-class model (ms)",  # the models that Table 2 measures
        "memory, 20-class model (MiB)",
    ]
    rows = []
    for row in published:
        study = studies.get(row.model)
        results = ["needs"] * (len(header) - 3)
        if study is not None:
            first = study.first
            results = [f"{value:.1f}" for value in (*map(study.class_ap, classes), study.mean_ap)]
            results += [f"{first[count]:,}" for count in ("parameters", "multiply_adds")]
            results.append(f"{first['memory_access_cost'] / 1e6:.2f}")
        cost = [measured_answer(record, "table2", row.model, column).text or "needs" for column in ("time", "memory")]
        rows.append([row.name, *results, *cost])
    notes = [_conditions(present), DEFAULT_BOXES] if present else []
    if len(present) < len(published):
        notes.append(f"accuracy needs {COMMAND}")
    if record is None:
        notes.append("time and memory need `vovnet reproduce table2 --measure`")
    else:
        notes += [f"time: {measured_answer(record, 'table2', study.model, 'time').note}" for study in present[:1]]
        notes.append(f"memory: {record.name}; measured as in Table 2 above")
    title = "The same detectors on blood cells, trained for the same number of epochs (measured)"
    return Table(header, rows, title, notes, _data(present))


def bottleneck_table(studies: Mapping[str, Study]) -> Table:
    """Table 3 on blood cells: the mean over the seeds, and the difference of runs with the same seed."""
    published = TABLES["table3"].rows
    present = _present(studies, published)
    rows = []
    for row in published:
        study = studies.get(row.model)
        values = study.mean_aps.values() if study else ()
        rows.append([row.name, f"{study.mean_ap:.2f}" if study else "needs", "; ".join(f"{v:.2f}" for v in values)])
    notes, data = [_conditions(present)] if present else [], _data(present)
    if len(present) < 2:
        notes.append(f"mAP needs {COMMAND}")
    else:
        plain, bottleneck = (study.mean_aps for study in present)
        differences = [bottleneck[seed] - plain[seed] for seed in sorted(plain.keys() & bottleneck.keys())]
        if differences:
            mean = _signed(statistics.mean(differences))
            rows.append(["difference (paired by seed)", mean, "; ".join(map(_signed, differences))])
            spread = f"{_signed(min(differences))} … {_signed(max(differences))} over {len(differences)} seeds"
            if len(differences) >= 3:
                spread += f", standard deviation {statistics.stdev(differences):.2f}"
            plain_map, bottleneck_map = (float(row.values["map"]) for row in published)
            printed = _signed(bottleneck_map - plain_map, 1)
            notes.append(f"difference: {spread}; in the paper, {printed} on VOC07")
        data["differences"] = differences
    header = ["DSOD300 with", "mAP, mean over seeds", "mAP by seed"]
    return Table(header, rows, "The bottleneck on blood cells (measured)", notes, data)


def _present(studies: Mapping[str, Study], rows: Sequence[PublishedRow]) -> list[Study]:
    return [studies[row.model] for row in rows if row.model in studies]


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _conditions(studies: Sequence[Study]) -> str:
    """How the runs were trained and tested, according to their records."""
    settings = set()
    for record in (record for study in studies for record in study.records.values()):
        config = record["config"]
        settings.add(
            f"BCCD, {config['schedule']['epochs']:g} epochs from scratch, batch {config['batch_size']}, "
            f"{foreign(config['precision'])}, {record['test']['images']} test images, 11-point AP; "
            f"{foreign(record['trained_on'])}"
        )
    seeds = {seed for study in studies for seed in study.records}
    by_model = ", ".join(f"{study.model} {' and '.join(map(str, study.records))}" for study in studies)
    seeds_text = f"seed {min(seeds)}" if len(seeds) == 1 else f"seeds by model: {by_model}"
    return f"{' / '.join(sorted(settings))}; {seeds_text}; records {FOLDER}/MODEL_SEED.json, written by {COMMAND}"


def _data(studies: Sequence[Study]) -> dict[str, Any]:
    return {study.model: {"map": study.mean_aps} for study in studies}
