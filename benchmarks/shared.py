"""What several benchmarks do: read a run's log, test weights for a record, check claims."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vovnet.cli.output import Output
from vovnet.data.formats import open_dataset
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import Evaluation, evaluate
from vovnet.files import write_json
from vovnet.models.detectors.contract import DetectionModel
from vovnet.weights.detector import ModelInfo

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs/records"


def read_log(run: Path) -> list[dict[str, Any]]:
    """The entries of a training run."""
    return read_entries(run / "log.jsonl")


def read_entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_on(root: Path, split: str, model: DetectionModel, info: ModelInfo) -> Evaluation:
    dataset = open_dataset(root, split, class_names=info.class_names, masks=model.masks)
    return evaluate(Detector(model, dataset.class_names, dataset.category_ids), dataset, workers=0)


def for_record(evaluation: Evaluation, data: str) -> dict[str, Any]:
    """The evaluation without its speed, which needs a quiet machine. data: the dataset's folder as in the config."""
    return {key: value for key, value in evaluation.to_dict().items() if key != "images_per_s"} | {"data": data}


@dataclass(frozen=True)
class Checked:
    """Results beside their claims.

    name: of the record's file.
    record: with "claims", the text of each result's claim.
    header: of the name of a result and of its values.
    rows: the name of a result and its values; its claim is added.
    broken: the results whose claims do not hold.
    """

    name: str
    record: Mapping[str, Any]
    header: Sequence[str]
    rows: Sequence[list[str]]
    broken: Sequence[str]


def finish(*parts: Checked) -> None:
    """Print the results and write the records; exit with status 1 if a claim is broken."""
    for part in parts:
        Output().table([*part.header, "claim"], [[*row, part.record["claims"].get(row[0], "")] for row in part.rows])
        write_json(RECORDS / f"{part.name}.json", part.record)
    if broken := [name for part in parts for name in part.broken]:
        sys.exit(f"claims that do not hold: {', '.join(broken)}")
