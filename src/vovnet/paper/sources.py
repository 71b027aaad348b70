"""Where measured values come from: records, and evaluations of finished training runs as the paper tests them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vovnet.data.formats import open_dataset, splits
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.multi_scale import published_multi_scale
from vovnet.errors import UsageError
from vovnet.files import write_json
from vovnet.paper.answers import Answer
from vovnet.paper.blood_cells import Study, read_studies
from vovnet.paper.gpu_tables import GpuTables, gpu_answer, read_gpu_tables
from vovnet.paper.measured import Record, measured_answer, read_record
from vovnet.paper.published import PublishedRow
from vovnet.paper.records import read_evaluation
from vovnet.paper.wording import foreign
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
class Sources:
    """Folders to read measured values from. A run is evaluated when one of its values is first asked for.

    records: earlier records and evaluations, used where nothing newer is there.
    output: records of the tables in `measured`; evaluations are written into its subfolder evaluations/.
    runs: finished runs, each named like its config. Their last weights are evaluated, as in the paper.
    data: "voc" and "coco" → folder of the dataset.
    """

    records: Path | None = None
    output: Path | None = None
    measured: Sequence[str] = ()
    runs: Path | None = None
    data: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    on_step: Callable[[str], None] = lambda what: None
    _records: dict[str, Record | None] = field(default_factory=dict)
    _evaluations: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def record(self, table: str) -> Record | None:
        """The measurements of a table's models."""
        if table not in self._records:
            folder = self.output if table in self.measured else self.records
            self._records[table] = read_record(table, folder) if folder else None
        return self._records[table]

    @cached_property
    def _gpu(self) -> GpuTables | None:
        return read_gpu_tables(self.records)

    def gpu(self, table: str) -> GpuTables | None:
        """The record of `make gpu`; None if there is none, or if the table was measured anew."""
        return None if table in self.measured else self._gpu

    def cost(self, table: str, model: str, column: str) -> Answer:
        """Time, memory, energy or efficiency: on a GPU if that was measured, else from the table's own record."""
        on_gpu = gpu_answer(self.gpu(table), model, column)
        return on_gpu or measured_answer(self.record(table), table, model, column)

    @cached_property
    def studies(self) -> Mapping[str, Study]:
        """The detectors on blood cells, by model."""
        return read_studies(self.records) if self.records else {}

    def accuracy(self, table: str, row: PublishedRow, column: str) -> Answer:
        """The accuracy of the row's model. column: a key of METRICS."""
        dataset = row.config.partition("_")[0]
        name = row.config + ("_multi_scale" if row.multi_scale else "")
        if name not in self._evaluations:
            self._evaluations[name] = self._evaluate(row, dataset, name) or self._recorded(name)
        evaluation = self._evaluations[name]
        if evaluation is None:
            train = f"`vovnet train configs/{row.config}.yaml output=runs/{row.config}`"
            reproduce = f"`vovnet reproduce {table} --runs runs --{dataset} {DATA_FOLDERS[dataset]}`"
            return Answer("needs", note=f"{train}, then {reproduce}")
        root, split = foreign(Path(evaluation["data"]).name), foreign(evaluation["split"])
        data = f"{name} on {root}, {split}, {evaluation['images']} images"
        data += ", with soft-NMS" if evaluation["soft_nms"] else ""
        if Path(evaluation.get("weights", "")).name == "best.safetensors":
            data += ", the weights that were best on this split: an older version kept no last.safetensors"
        value: Any = evaluation
        for key in METRICS[column]:
            value = None if value is None else value[key]
        if value is None:
            return Answer("needs", note=f"objects that this metric covers; there are none in {data}")
        device = f"; evaluated on {foreign(evaluation['device'])}" if "device" in evaluation else ""
        papers_split = "; the paper used COCO test-dev" if table in TEST_DEV_TABLES else ""
        note = f"{data}{device}; evaluations/{name}.json{papers_split}"
        return Answer("measured", f"{100 * value:.1f}", 100 * value, note)

    def _evaluate(self, row: PublishedRow, dataset_name: str, name: str) -> dict[str, Any] | None:
        """Evaluate the row's run and write the evaluation; None if the run or its dataset is missing."""
        if self.runs is None or dataset_name not in self.data:
            return None
        run, root = self.runs / row.config, self.data[dataset_name]
        if not (run / "record.json").is_file():
            return None  # not finished
        # The published results are those of the last weights; in the configs, val is the split that they are tested on.
        weights = next((path for path in (run / "last.safetensors", run / "best.safetensors") if path.is_file()), None)
        if weights is None:
            return None
        loaded = load_weights(weights)
        model, info = loaded.model, loaded.info
        if info.name != row.model:
            raise UsageError(f"{run} must hold a {row.model}, as its name says, got {info.name}")
        split = next((split for split in SPLITS[dataset_name] if split in splits(root)), SPLITS[dataset_name][0])
        dataset = open_dataset(root, split, class_names=info.class_names, masks=model.masks)
        detector = Detector(model, info.class_names, info.category_ids, loaded.record, device=self.device)
        result = evaluate(
            detector,
            dataset,
            soft_nms=info.name.startswith("refinedet") and not row.multi_scale,
            multi_scale=published_multi_scale(model, "coco") if row.multi_scale else None,
            on_image=lambda count: self.on_step(f"{name}: {count} of {len(dataset)} images"),
        )
        evaluation = {
            **record_header(command_line()),
            "device": device_name(detector.device),
            "weights": str(weights),
            "run": dict(loaded.record),
            **result.to_dict(),
        }
        if self.output is not None:
            write_json(self.output / "evaluations" / f"{name}.json", evaluation)
        return evaluation

    def _recorded(self, name: str) -> dict[str, Any] | None:
        path = self.records / "evaluations" / f"{name}.json" if self.records else None
        return read_evaluation(path) if path is not None and path.is_file() else None
