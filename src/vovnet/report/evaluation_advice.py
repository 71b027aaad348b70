"""What the numbers of an evaluation say, one sentence each, and what helps where the most is lost."""

from __future__ import annotations

import numpy as np

from vovnet.engine.evaluate import Evaluation
from vovnet.errors import counted
from vovnet.metrics.calibration import Calibration
from vovnet.metrics.errors import ErrorAnalysis
from vovnet.metrics.properties import FEW, Group, Property
from vovnet.metrics.thresholds import f1_at
from vovnet.printing import line
from vovnet.runtime.options import SCORE_THRESHOLD

KINDS = {
    "class": "wrong class",
    "location": "wrong place",
    "class_and_location": "both wrong",
    "duplicate": "duplicates",
    "background": "background",
    "missed": "missed",
}
_LOST_TO = {
    "class": "objects that are found as another class",
    "location": "boxes that are not quite in place",
    "class_and_location": "boxes of another class that are not quite in place",
    "duplicate": "objects that are found twice",
    "background": "detections where there is no object",
    "missed": "objects that are not found",
}
_LITTLE = 0.005  # of AP50 or F1
_MUCH = 0.1  # of AP50, between groups of objects
_POOR = 0.5  # AP50
_ENOUGH = 50  # detections, of which a share says something


def on_losses(evaluation: Evaluation) -> str:
    """The kind of errors that costs most, and what to do about it."""
    errors = evaluation.analysis.errors
    if errors is None:
        return "There is no object to find, so nothing can be lost."
    kind = errors.largest
    missed = next(item for item in errors.kinds if item.name == "missed")
    if kind.lost_ap < _LITTLE and missed.count and errors.ap50 < _POOR:  # of a class of which nothing is found
        return f"AP50 is {errors.ap50:.3f}. {_where_missed(evaluation)}"
    if kind.lost_ap < _LITTLE:
        return f"No kind of error costs more than {_LITTLE:g} of AP50, which is {errors.ap50:.3f}."
    return (
        f"Most is lost to {_LOST_TO[kind.name]}: without them AP50 would be {errors.ap50 + kind.lost_ap:.3f} instead "
        f"of {errors.ap50:.3f}. {_remedy(kind.name, evaluation, errors)}"
    )


def on_classes(evaluation: Evaluation) -> str:
    """The class with the lowest average precision."""
    rows = [(result.ap11, name, result.n_objects) for name, result, _, _ in evaluation.classes()]
    known = [(ap, name, objects) for ap, name, objects in rows if ap is not None]
    if not known:
        return "No class has objects."
    ap, name, objects = min(known)
    others = f"; the mean of all classes is {evaluation.voc.mean_ap11:.3f}" if len(known) > 1 else ""
    return f"{line(name, 60)} has the lowest 11-point AP, {ap:.3f}, with {counted(objects, 'object')}{others}."


def on_thresholds(evaluation: Evaluation) -> str:
    """What the best thresholds gain over the default."""
    pairs = [
        (best.f1, f1_at(result, SCORE_THRESHOLD))
        for best, result in zip(evaluation.best_thresholds, evaluation.voc.classes, strict=True)
        if best is not None
    ]
    if not pairs:
        return "No class has a best threshold, because nothing is found that is an object."
    best, default = np.mean(pairs, axis=0)
    gain = f"The mean F1 of the classes is {best:.3f} at their best thresholds and {default:.3f} at {SCORE_THRESHOLD:g}"
    if best - default < _LITTLE:
        return f"{gain}, the default, which is as good."
    return (
        f"{gain}, the default. Predictions use the best thresholds once they are stored in the weights: "
        "`vovnet train DIR` stores those of val, and so does `vovnet evaluate` with `--split val --store-thresholds`."
    )


def on_calibration(calibration: Calibration) -> str:
    """Where scores differ most from what they are worth."""
    gaps = [
        (item.score - item.precision, item)
        for item in calibration.bins
        if item.score is not None and item.precision is not None and item.detections >= _ENOUGH
    ]
    if not gaps or calibration.error is None:
        return f"No bin has {_ENOUGH} detections, too few to say what scores are worth."
    gap, item = max(gaps, key=lambda pair: abs(pair[0]))
    verdict = "promise too much" if gap > 0 else "promise too little"
    return (
        f"The expected calibration error is {calibration.error:.3f} in {len(calibration.bins)} bins. It is largest for "
        f"scores of {item.low:g} to {item.high:g}, which {verdict}: {item.precision:.0%} of those "
        f"{item.detections:,} detections are right."
    )


def on_property(item: Property) -> str:
    """The group of objects with the lowest AP50, and what helps if it is far behind."""
    judged = [(group.ap50, group) for group in item.groups if group.ap50 is not None and not group.is_few]
    if len(judged) < 2:
        return f"Fewer than two groups have at least {FEW} objects, too few to compare them."
    (low, worst), (high, best) = min(judged, key=lambda pair: pair[0]), max(judged, key=lambda pair: pair[0])
    if f"{low:.3f}" == f"{high:.3f}":
        return f"AP50 is {low:.3f} for all groups of at least {FEW} objects."
    found = f"AP50 is {low:.3f} for {_named(item, worst)} and {high:.3f} for {_named(item, best)}"
    help = _HELP[item.title].get(worst.name)
    return f"{found}: {help}." if help and high - low >= _MUCH else f"{found}."


def on_confusion(evaluation: Evaluation) -> str:
    """How many objects are missed and taken for others, and how many false positives there are."""
    matrix = evaluation.confusion
    objects, missed = int(matrix[:-1].sum()), int(matrix[:-1, -1].sum())
    confused = objects - missed - int(np.trace(matrix[:-1, :-1]))
    text = (
        f"With scores of at least {evaluation.score_threshold:g}, {missed:,} of {counted(objects, 'object')} are "
        f"missed, {confused:,} found as another class, and {int(matrix[-1].sum()):,} detections are false positives."
    )
    pair = _most_confused(evaluation)
    return f"{text} {pair}." if pair else text


_HELP = {
    "size": {"small": "try tiles (`--tiles`), or a detector with a larger input"},
    "shape": dict.fromkeys(
        ("very tall", "tall", "wide", "very wide"), "try default boxes that fit the data (`default_boxes: data`)"
    ),
    "neighbours": {},
}


def _named(item: Property, group: Group) -> str:
    """For example "small objects" or "objects with 2 neighbours"."""
    if item.title == "neighbours":
        return f"objects with {group.name} neighbour{'' if group.name == '1' else 's'}"
    return f"{group.name} objects"


def _remedy(kind: str, evaluation: Evaluation, errors: ErrorAnalysis) -> str:
    if kind == "missed":
        return _where_missed(evaluation)
    if kind == "background":
        false = evaluation.confusion[-1, :-1]
        most = f", {int(false.max()):,} of them {line(evaluation.dataset.class_names[int(false.argmax())], 60)}"
        return (
            f"Scores of at least {evaluation.score_threshold:g} have {counted(int(false.sum()), 'false positive')}"
            f"{most if false.any() else ''}: look in the worst images for objects that nobody labelled, and train with "
            "images that hold none."
        )
    if kind in ("class", "class_and_location"):
        pair = _most_confused(evaluation)
        return f"{pair}: check the labels of both, and train with more of them." if pair else "Check the labels."
    if kind == "location":
        strict = evaluation.coco.figures["AP75"] or 0.0
        return (
            f"At IoU 0.75 the AP is {strict:.3f}: train longer, fit the default boxes to the data "
            "(`default_boxes: data`), and check that the labelled boxes are tight."
        )
    count = next(item.count for item in errors.kinds if item.name == kind)
    return (
        f"There {'is' if count == 1 else 'are'} {count:,}: `vovnet data check` finds objects that are labelled twice."
    )


def _where_missed(evaluation: Evaluation) -> str:
    """The property that most missed objects have, if half of them have one in common that has a remedy."""
    for item in evaluation.analysis.properties:
        total = sum(group.missed for group in item.groups)
        for group in item.groups:
            help = _HELP[item.title].get(group.name)
            if help and total and 2 * group.missed >= total:
                return f"{group.missed:,} of {counted(total, 'object')} that no score finds are {group.name}: {help}."
    total = sum(group.missed for group in evaluation.analysis.properties[-1].groups)
    return f"No score finds {counted(total, 'object')}: train longer, and label more images like the worst ones."


def _most_confused(evaluation: Evaluation) -> str:
    """The pair of classes that is confused most often; nothing if none is."""
    pairs = evaluation.confusion[:-1, :-1].copy()
    np.fill_diagonal(pairs, 0)
    if not pairs.any():
        return ""
    true, found = np.unravel_index(int(pairs.argmax()), pairs.shape)
    names = evaluation.dataset.class_names
    times = counted(int(pairs.max()), "time")
    return f"Most often {line(names[int(true)], 60)} is taken for {line(names[int(found)], 60)}, {times}"
