"""`vovnet data boxes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vovnet.cli.app import data_app
from vovnet.cli.options import Json, Repeated
from vovnet.cli.output import Output
from vovnet.names import DETECTORS

if TYPE_CHECKING:
    from vovnet.data.dataset import DetectionDataset

HEADER = ["% of objects that default boxes match", "own", "fitted", "own, small", "fitted, small"]

_NAMED_SETS = {"dsod300_vovnet27_slim": ("voc", "coco")}  # of default boxes
_USUAL = (  # one of each grid of feature maps
    "dsod300_vovnet27_slim",
    *(name for name in DETECTORS if name.startswith(("ssd", "pelee"))),
    "refinedet320_vovnet27_slim",
)


@data_app.command
def boxes(root: Path, *, split: str | None = None, model: Repeated = None, json_file: Json = None) -> None:
    """Show how many objects the default boxes of detectors match, and how many if they are fitted to the data.

    A detector learns an object from the default boxes with an IoU of at least 0.5. Small objects are those below 32
    pixels (√area) in its input. Training with default_boxes=data fits the boxes, also to how augmentation changes them.

    Parameters
    ----------
    root:
        Folder of a dataset in any format that is read, or a split file.
    split:
        The split whose objects are looked at; by default that for training.
    model:
        Name of a one-stage detector; repeat the option for more. Without it, one of each kind.
    """
    out = Output(json_file)
    from vovnet.data.formats import open_dataset
    from vovnet.planning.splits import find_splits

    split = split or find_splits(root).train
    found = match_boxes(open_dataset(root, split), model or _USUAL)
    out.table(HEADER, [row_of(detector) for detector in found])
    out.say("default_boxes=data trains with fitted boxes")
    out.json({"split": split, "detectors": found})


def match_boxes(dataset: DetectionDataset, models: Sequence[str] = _USUAL) -> list[dict[str, Any]]:
    """For each set of default boxes: the share of objects that it matches, and that fitted boxes match."""
    from vovnet.engine.training.default_boxes import fit_to_data
    from vovnet.weights.detector import ModelInfo

    found = []
    for name in models:
        for own in _NAMED_SETS.get(name, (None,)):
            options = {} if own is None else {"anchors": own}
            fitted = fit_to_data(ModelInfo(name, options, dataset.class_names, dataset.category_ids), dataset)
            row = {"model": name, "anchors": own, "fitted": fitted.anchors}
            found.append({**row, "before": asdict(fitted.before), "after": asdict(fitted.after)})
    return found


def row_of(detector: Mapping[str, Any]) -> list[str]:
    """The row of the table for one of `match_boxes`."""
    name, own = detector["model"], detector["anchors"]
    shares = [detector[when][which] for which in ("objects", "small") for when in ("before", "after")]
    return [name if own is None else f"{name} ({own})", *map(_percent, shares)]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
