"""Accuracy of finished runs, beside what the paper prints."""

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
from vovnet.files import replacing
from vovnet.paper.cells import Answer
from vovnet.paper.published import PublishedRow
from vovnet.provenance import command_line, device_name, record_header
from vovnet.weights.shipped import load_weights

SPLITS = {"voc": ("test",), "coco": ("minival2014", "val2017")}  # the last two have the same images
PLACES = {"voc": "VOCdevkit/VOC2007", "coco": "coco"}  # of the data, in the configs
# Column → where an evaluation's dictionary has the figure.
FIGURES: dict[str, tuple[str, ...]] = {
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
    """Evaluates a run when its figures are first asked for, and writes them into `output`/evaluations.

    runs: folder of runs that are called as their configs. data: folder of VOC and of COCO by "voc", "coco". records:
    where evaluations of earlier are, taken where there is no run or no data.
    """

    output: Path | None = None
    runs: Path | None = None
    data: dict[str, Path] = field(default_factory=dict)
    records: Path | None = None
    device: str = "auto"
    on_step: Callable[[str], object] = lambda what: None
    _known: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    def answer(self, table: str, row: PublishedRow, column: str) -> Answer:
        assert row.config is not None
        kind = "voc" if row.config.startswith("voc_") else "coco"
        name = row.config + ("_multi_scale" if row.multi_scale else "")
        if name not in self._known:
            self._known[name] = self._evaluate(row, kind, name) or self._recorded(name)
        found = self._known[name]
        if found is None:
            return Answer("needs", note=_command(table, row, kind))
        figure: Any = found
        for key in FIGURES[column]:
            figure = None if figure is None else figure[key]
        where = f"{name} on {Path(found['data']).name}, {found['split']}, {found['images']} images"
        where += ", with soft-NMS" if found["soft_nms"] else ""
        beside = "; the paper's is COCO test-dev" if table in ("table4", "table6", "table7") else ""
        if figure is None:
            return Answer("needs", note=f"objects of this kind, which {where} lacks")
        device = f"; evaluated on {found['device']}" if "device" in found else ""
        note = f"{where}{device}; evaluations/{name}.json{beside}"
        return Answer("measured", f"{100 * figure:.1f}", 100 * figure, note)

    def _evaluate(self, row: PublishedRow, kind: str, name: str) -> dict[str, Any] | None:
        if self.runs is None or kind not in self.data or row.config is None:
            return None
        path, root = self.runs / row.config, self.data[kind]
        if not ((path / "best.safetensors").is_file() and (path / "record.json").is_file()):
            return None  # a run that is not finished has no record yet
        loaded = load_weights(path)
        if loaded.info.name != row.model:
            raise UsageError(f"{path} must hold a {row.model}, as its name says, got {loaded.info.name}")
        split = next((one for one in SPLITS[kind] if one in splits(root)), SPLITS[kind][0])
        dataset = open_dataset(root, split, class_names=loaded.info.class_names, masks=loaded.model.masks)

        def told(count: int) -> None:
            self.on_step(f"{name}: {count} of {len(dataset)} images")

        info = loaded.info
        detector = Detector(loaded.model, info.class_names, info.category_ids, loaded.record, device=self.device)
        found = evaluate(
            detector,
            dataset,
            soft_nms=kind == "coco" and loaded.info.name.startswith("refinedet") and not row.multi_scale,
            multi_scale=published_multi_scale(loaded.model, "coco") if row.multi_scale else None,
            on_image=told,
        )
        source = {
            **record_header(command_line()),
            "device": device_name(detector.device),
        }
        content = {**source, "weights": str(path), "run": dict(loaded.record), **found.to_dict()}
        if self.output is not None:
            with replacing(self.output / "evaluations" / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n")
        return content

    def _recorded(self, name: str) -> dict[str, Any] | None:
        path = self.records / "evaluations" / f"{name}.json" if self.records else None
        return json.loads(path.read_text()) if path is not None and path.is_file() else None


def _command(table: str, row: PublishedRow, kind: str) -> str:
    train = f"`vovnet train configs/{row.config}.yaml output=runs/{row.config}`"
    return f"{train}, then `vovnet reproduce {table} --runs runs --{kind} {PLACES[kind]}`"
