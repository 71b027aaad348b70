"""Accuracy of finished training runs: evaluating them as the paper does, and answers from the evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vovnet.data.formats import open_dataset, splits
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.multi_scale import published_multi_scale
from vovnet.errors import UsageError
from vovnet.files import write_json
from vovnet.paper.answers import Answer
from vovnet.paper.published import PublishedRow
from vovnet.provenance import command_line, device_name, record_header
from vovnet.weights.detector import load_weights

SPLITS = {"voc": ("test",), "coco": ("minival2014", "val2017")}  # the two of COCO have the same images
DATA_FOLDERS = {"voc": "VOCdevkit/VOC2007", "coco": "coco"}  # as in the configs
TEST_DEV_TABLES = ("table4", "table6", "table7")
# Column key → keys of the value in an evaluation's dictionary.
METRICS: dict[str, tuple[str, ...]] = {
    "map": ("voc07_map",),
    "ap": ("coco", "AP"),
    "ap50": ("coco", "AP50"),
    "ap75": ("coco", "AP75"),
    "ap_small": ("coco", "APs"),
    "ap_medium": ("coco", "APm"),
    "ap_large": ("coco", "APl"),
    "mask_ap": ("coco_masks", "AP"),
    "mask_ap50": ("coco_masks", "AP50"),
    "mask_ap75": ("coco_masks", "AP75"),
}


@dataclass
class Accuracies:
    """Answers to the accuracy columns. A run is evaluated when one of its values is first asked for.

    output: evaluations are written into its subfolder evaluations/.
    runs: folder of finished runs, each named like its config.
    data: "voc" and "coco" → folder of the dataset.
    records: folder with earlier evaluations, used if the run or its dataset is missing.
    """

    output: Path | None = None
    runs: Path | None = None
    data: dict[str, Path] = field(default_factory=dict)
    records: Path | None = None
    device: str = "auto"
    on_step: Callable[[str], None] = lambda what: None
    _evaluations: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def answer(self, table: str, row: PublishedRow, column: str) -> Answer:
        assert row.config is not None
        kind = "voc" if row.config.startswith("voc_") else "coco"
        name = row.config + ("_multi_scale" if row.multi_scale else "")
        if name not in self._evaluations:
            self._evaluations[name] = self._evaluate(row, kind, name) or self._recorded(name)
        evaluation = self._evaluations[name]
        if evaluation is None:
            return Answer("needs", note=_command(table, row, kind))
        data = f"{name} on {Path(evaluation['data']).name}, {evaluation['split']}, {evaluation['images']} images"
        data += ", with soft-NMS" if evaluation["soft_nms"] else ""
        value: Any = evaluation
        for key in METRICS[column]:
            value = None if value is None else value[key]
        if value is None:
            return Answer("needs", note=f"objects that this metric covers; there are none in {data}")
        device = f"; evaluated on {evaluation['device']}" if "device" in evaluation else ""
        papers_split = "; the paper used COCO test-dev" if table in TEST_DEV_TABLES else ""
        note = f"{data}{device}; evaluations/{name}.json{papers_split}"
        return Answer("measured", f"{100 * value:.1f}", 100 * value, note)

    def _evaluate(self, row: PublishedRow, kind: str, name: str) -> dict[str, Any] | None:
        """Evaluate the row's run and write the evaluation; None if the run or its dataset is missing."""
        if self.runs is None or kind not in self.data or row.config is None:
            return None
        run, root = self.runs / row.config, self.data[kind]
        if not ((run / "best.safetensors").is_file() and (run / "record.json").is_file()):
            return None  # a run without record.json is not finished
        loaded = load_weights(run)
        if loaded.info.name != row.model:
            raise UsageError(f"{run} must hold a {row.model}, as its name says, got {loaded.info.name}")
        split = next((split for split in SPLITS[kind] if split in splits(root)), SPLITS[kind][0])
        dataset = open_dataset(root, split, class_names=loaded.info.class_names, masks=loaded.model.masks)
        info = loaded.info
        detector = Detector(loaded.model, info.class_names, info.category_ids, loaded.record, device=self.device)
        result = evaluate(
            detector,
            dataset,
            soft_nms=kind == "coco" and loaded.info.name.startswith("refinedet") and not row.multi_scale,
            multi_scale=published_multi_scale(loaded.model, "coco") if row.multi_scale else None,
            on_image=lambda count: self.on_step(f"{name}: {count} of {len(dataset)} images"),
        )
        evaluation = {
            **record_header(command_line()),
            "device": device_name(detector.device),
            "weights": str(run),
            "run": dict(loaded.record),
            **result.to_dict(),
        }
        if self.output is not None:
            write_json(self.output / "evaluations" / f"{name}.json", evaluation)
        return evaluation

    def _recorded(self, name: str) -> dict[str, Any] | None:
        path = self.records / "evaluations" / f"{name}.json" if self.records else None
        return json.loads(path.read_text()) if path is not None and path.is_file() else None


def _command(table: str, row: PublishedRow, kind: str) -> str:
    train = f"`vovnet train configs/{row.config}.yaml output=runs/{row.config}`"
    return f"{train}, then `vovnet reproduce {table} --runs runs --{kind} {DATA_FOLDERS[kind]}`"
