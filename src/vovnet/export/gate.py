"""The proof that an exported file finds what the PyTorch model finds, on images, before anybody gets the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vovnet.data.images import read_image
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.errors import UsageError, counted
from vovnet.export.accuracy import accuracy_changes
from vovnet.export.findings import FailedError, Findings, before_nms, find_all
from vovnet.export.gate_report import AccuracyChange
from vovnet.export.judging_images import JudgingImages
from vovnet.export.parity import BeforeNms, Parity, Rules, Tolerance, compare_image, total
from vovnet.export.trials import LOOSE, batch_differences, blank_differences, rows_below, times_ms
from vovnet.printing import quoted
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.options import SCORE_THRESHOLD
from vovnet.structures import Detections

_GREY_LEVELS = 2  # by which Pillow's resizing and torchvision's may differ
_TIES, _SHARE_OF_TIES = 2, 0.05  # so many boxes, or this part of all, may differ by ties: two change places


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `judge` found. The fields are those of `vovnet.export.gate_report.GateReport`."""

    reasons: tuple[str, ...]
    images: int
    threshold: float
    exact: bool
    parity: Parity = field(default_factory=Parity)
    accuracy: tuple[AccuracyChange, ...] = ()
    blank_boxes: int | None = None
    ms_before: float | None = None
    ms_after: float | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.reasons


def judge(
    detector: Detector,
    candidate: ExportedDetector,
    images: JudgingImages,
    expected: ExportInfo,
    *,
    max_drop: float,
    on_image: Callable[[int], None] = lambda count: None,
) -> Verdict:
    """Compare an exported file with the PyTorch model from which it was made.

    In float32 each detection above the threshold must have its partner, see `vovnet.export.parity`; in other precisions
    the differences inform. With labelled images, no metric may drop by more than `max_drop`. In any precision the
    description, a batch of three, an image without objects and the score threshold are tried too.

    expected: the description that the file must have.

    UsageError if the images prove too little: the detector finds nothing in them, or what is found in them or in the
    image without objects differs only in ties and in too many of them.
    """
    started = time.perf_counter()
    exact = expected.precision == "float32"
    reasons = _wrong_description(candidate.session.info, expected)
    try:
        findings = find_all(detector, candidate, images.paths, accuracy=images.dataset is not None, on_image=on_image)
    except FailedError as error:
        return Verdict(
            reasons=(*reasons, f"it fails on an image: {error}"),
            images=len(images.paths),
            threshold=SCORE_THRESHOLD,
            exact=exact,
            seconds=time.perf_counter() - started,
        )
    threshold = _threshold(findings.expected, images, expected)
    rules = Rules(
        threshold=threshold,
        floor=expected.score_threshold,
        top_k=expected.top_k,
        nms_threshold=expected.nms_threshold,
        tolerance=Tolerance() if exact else LOOSE,
    )
    parity = _compare(detector, candidate, images.paths, findings, rules, exact)
    if findings.grey_levels > _GREY_LEVELS:
        reasons.append(
            f"its images are resized otherwise: pixels differ from PyTorch's by up to {findings.grey_levels} of 255"
        )
    if exact:
        reasons += _differences(parity, rules)
        where = f"{counted(len(images.paths), 'image')} of {_where(images)}"
        if not reasons and (ties := _too_many_ties(parity, where)):
            raise UsageError(
                f"{ties}. Give other images of what it detects with --data; if as many differ there, the detector is "
                "hardly trained or the file is wrong"
            )
    accuracy: tuple[AccuracyChange, ...] = ()
    if images.dataset is not None and findings.usual is not None:
        accuracy = accuracy_changes(findings.usual, findings.found, images.dataset)
        reasons += _drops(accuracy, max_drop)
    richest = max(range(len(images.paths)), key=lambda index: _count(findings.expected[index], threshold))
    image = candidate.preprocessing.resize(read_image(images.paths[richest])).contiguous()
    trials = _trials(detector, candidate, image, rules, exact)
    reasons += trials.reasons
    if trials.ties and not reasons:
        raise UsageError(
            f"{trials.ties}. A detector that finds so much where nothing is has hardly been trained: train it further"
        )
    reasons += [trials.ties] if trials.ties else []
    ms_before, ms_after = times_ms(detector, candidate, image, threshold)
    return Verdict(
        reasons=tuple(reasons),
        images=len(images.paths),
        threshold=threshold,
        exact=exact,
        parity=parity,
        accuracy=accuracy,
        blank_boxes=trials.blank_boxes,
        ms_before=ms_before,
        ms_after=ms_after,
        seconds=time.perf_counter() - started,
    )


def _wrong_description(stated: ExportInfo, expected: ExportInfo) -> list[str]:
    found, right = asdict(stated), asdict(expected)
    return [
        f"its description says {name} {quoted(found[name])}, and the model has {quoted(right[name])}"
        for name in right
        if name not in ("gate", "record") and found[name] != right[name]
    ]


def _threshold(expected: Sequence[Detections], images: JudgingImages, info: ExportInfo) -> float:
    """That of a prediction if it leaves a detection per image on average, else the detector's own."""
    if sum(_count(detections, SCORE_THRESHOLD) for detections in expected) >= len(expected):
        return SCORE_THRESHOLD
    if any(_count(detections, info.score_threshold) for detections in expected):
        return info.score_threshold
    raise UsageError(
        f"the detector finds nothing in {counted(len(expected), 'image')} of {_where(images)}, so nothing could be "
        "compared: give images of what it detects with --data"
    )


def _where(images: JudgingImages) -> str:
    return "the images that ship with vovnet" if images.data is None else images.data


def _count(detections: Detections, threshold: float) -> int:
    return int((detections.scores > threshold).sum())


def _compare(
    detector: Detector,
    candidate: ExportedDetector,
    paths: Sequence[Path],
    findings: Findings,
    rules: Rules,
    exact: bool,
) -> Parity:
    """Of all images. Ties are looked for only where parity decides."""

    def compare(index: int) -> Parity:
        def raw() -> BeforeNms | None:
            if not exact:
                return None
            image = candidate.preprocessing.resize(read_image(paths[index]))
            return before_nms(detector, image, findings.expected[index].image_size, rules.raw_floor)

        return compare_image(findings.expected[index], findings.found[index], rules, raw, findings.bounds[index])

    return total([compare(index) for index in range(len(paths))])


def _differences(parity: Parity, rules: Rules, where: str = "") -> list[str]:
    """A sentence for each kind of difference."""
    tolerance = rules.tolerance
    of = f"of {parity.compared + parity.missing} boxes{where}"
    as_another = f", {parity.relabelled} of them are there as another class" if parity.relabelled else ""
    kinds = (
        (parity.missing, f"{parity.missing} {of} are missing{as_another}"),
        (parity.extra, f"{counted(parity.extra, 'box', 'boxes')}{where} should not be there"),
        (parity.moved, f"{parity.moved} {of} have moved: the lowest IoU is {parity.worst_iou or 0:.4f}, allowed is "
                       f"{tolerance.iou}"),
        (parity.rescored, f"{parity.rescored} {of} have other scores: they differ by up to "
                          f"{parity.worst_score or 0:.2g}, allowed is {tolerance.score}"),
        (parity.reshaped, f"{parity.reshaped} {of} have other masks: they differ in up to "
                          f"{counted(parity.worst_mask_pixels or 0, 'pixel')} that rounding does not explain"),
    )  # fmt: skip
    return [sentence for count, sentence in kinds if count]


def _too_many_ties(parity: Parity, where: str) -> str | None:
    """What is wrong if rounding may explain so many differences that those of a wrong file might hide among them."""
    most = max(_TIES, int(_SHARE_OF_TIES * (parity.compared + parity.missing)))
    if parity.tied <= most:
        return None
    return (
        f"{parity.tied} differences in {where} may be ties, which rounding turns either way: too many to prove that "
        f"the file is right, with {counted(parity.compared, 'box', 'boxes')} compared at most {most} may be"
    )


def _drops(accuracy: Sequence[AccuracyChange], max_drop: float) -> list[str]:
    return [
        f"{change.metric} drops by {change.drop:.4f}, from {change.before:.4f} to {change.after:.4f}; allowed is "
        f"{max_drop:g}"
        for change in accuracy
        if change.drop > max_drop
    ]


class _Trials(NamedTuple):
    """blank_boxes: how many boxes PyTorch finds in an image without objects; None if that failed.
    reasons: what is wrong with a batch, with that image, and with the use of the score threshold.
    ties: a sentence if too many differences in that image may be ties, which proves nothing.
    """

    blank_boxes: int | None
    reasons: list[str]
    ties: str | None


def _trials(detector: Detector, candidate: ExportedDetector, image: Tensor, rules: Rules, exact: bool) -> _Trials:
    reasons, boxes, ties = list[str](), None, None
    try:
        reasons += _differences(batch_differences(detector, candidate, image, rules), rules, " in a batch of three")
    except ValueError as error:
        reasons.append(f"it fails on a batch of three: {error}")
    blank = "an image of faint noise" if detector.model.two_stage else "a grey image"
    try:
        expected, found, parity = blank_differences(detector, candidate, image, rules)
        boxes = _count(expected, rules.threshold)
        reasons += _differences(parity, rules, f" in {blank}")
        ties = _too_many_ties(parity, blank) if exact else None
        if detector.model.two_stage and bool(boxes) != bool(_count(found, rules.threshold)):
            reasons.append(f"of PyTorch and the file only one finds something in {blank}")
        if below := rows_below(candidate, image, max(rules.threshold, SCORE_THRESHOLD)):
            reasons.append(f"it ignores the score threshold: {counted(below, 'detection')} have a lower score")
    except ValueError as error:
        reasons.append(f"it fails on {blank} or on a high score threshold: {error}")
    return _Trials(boxes, reasons, ties)
