"""Whether two runtimes find the same: the detections of one, matched with those of the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vovnet.boxes import pairwise_iou
from vovnet.masks import RleMasks, decode
from vovnet.structures import Detections

_LEAST_IOU = 0.5  # of detections that are the same one, moved
_CLOSE = 1 / 5000  # of the longer side of the image: corners that close are equal, also of a box without area
_TIE = 1e-3  # an IoU this close to the threshold of NMS may round to either side


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far two detections of the same object may be apart: least IoU of boxes, largest difference of scores."""

    iou: float = 0.99
    score: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What decides which detections exist.

    threshold: lowest score that is compared.
    floor: score down to which both runtimes report; a partner may have any score above it.
    top_k: most detections of an image.
    nms_threshold: IoU above which a detection suppresses a lower one of its class.
    """

    threshold: float
    floor: float
    top_k: int
    nms_threshold: float
    tolerance: Tolerance = Tolerance()

    @property
    def raw_floor(self) -> float:
        """Score down to which detections before NMS can explain a tie."""
        return self.threshold - 2 * self.tolerance.score


@dataclass(frozen=True)
class BeforeNms:
    """PyTorch's detections before NMS.

    certain: (D,), which of them are there whichever way ties turn before; None is all.
    """

    detections: Detections
    certain: Tensor | None = None


@dataclass(frozen=True)
class MaskBounds:
    """The masks that PyTorch predicts in the boxes of an exported file: pixels that are in each (`inner`), and pixels
    that are in it or so near the limit that they may be (`outer`)."""

    inner: RleMasks
    outer: RleMasks


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Counts of detections above the threshold, over all images.

    compared: pairs of the same class and place.
    missing, extra: those that only PyTorch, or only the exported file, has.
    moved, rescored: pairs whose boxes or scores are further apart than the tolerance.
    reshaped: masks of the exported file that differ in pixels that rounding does not explain.
    relabelled: missing ones that are there as another class.
    tied: differences that rounding explains, see `compare_image`; counted nowhere else.
    worst_iou, worst_score: of all pairs except ties; None without pairs.
    worst_mask_pixels: the most pixels in which a mask differs; None without masks.
    """

    compared: int = 0
    missing: int = 0
    extra: int = 0
    moved: int = 0
    rescored: int = 0
    reshaped: int = 0
    relabelled: int = 0
    tied: int = 0
    worst_iou: float | None = None
    worst_score: float | None = None
    worst_mask_pixels: int | None = None

    @property
    def differences(self) -> int:
        return self.missing + self.extra + self.moved + self.rescored + self.reshaped


def total(parts: Sequence[Parity]) -> Parity:
    """The counts of several images together."""
    counts = ("compared", "missing", "extra", "moved", "rescored", "reshaped", "relabelled", "tied")

    def worst(name: str, choose: Callable[[list[float]], float]) -> float | None:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        return choose(values) if values else None

    return Parity(
        **{name: sum(getattr(part, name) for part in parts) for name in counts},
        worst_iou=worst("worst_iou", min),
        worst_score=worst("worst_score", max),
        worst_mask_pixels=None if (pixels := worst("worst_mask_pixels", max)) is None else int(pixels),
    )


def compare_image(
    expected: Detections,
    found: Detections,
    rules: Rules,
    before_nms: Callable[[], BeforeNms | None] = lambda: None,
    bounds: MaskBounds | None = None,
) -> Parity:
    """What of the detections of PyTorch an exported file finds in one image, and what else.

    Partners are of one class, one to one, best first. A detection may do without one, or have one that is too far away,
    if rounding explains it:

    - its score is that of the lowest that the other runtime reports, within the tolerance: at the threshold down to
      which it reports, or at the last place among the `top_k`;
    - NMS was a tie. Then the other runtime has a detection of this class in its place that PyTorch has too before NMS
      (which nothing moved, rescored or invented has), whose score is at least as high within the tolerance, and whose
      IoU is the threshold, or lies above it while PyTorch in turn lacks that one. So a changed threshold, or NMS that
      keeps a worse detection, is no tie, while what follows from a tie is;
    - it comes from a proposal that a tie in the first stage decides about. What only the exported file has must also be
      among PyTorch's detections before NMS, and not be suppressed by another of its class.

    before_nms: PyTorch's detections without NMS, which takes time and is asked for only if something differs; without
        them there are no ties of NMS.
    bounds: of the masks of `found`; without them masks must be equal.
    """
    tolerance = rules.tolerance
    iou = _iou(expected, found)
    rows, columns = _partners(iou, expected, found)
    pair_iou = iou[rows, columns]
    pair_score = (expected.scores[rows] - found.scores[columns]).abs()
    counts = (expected.scores[rows] > rules.threshold) | (found.scores[columns] > rules.threshold)
    moved, rescored = pair_iou < tolerance.iou, pair_score > tolerance.score
    near = ~moved & ~rescored

    lonely = torch.ones(len(expected), dtype=torch.bool)
    lonely[rows[near]] = False
    surplus = torch.ones(len(found), dtype=torch.bool)
    surplus[columns[near]] = False
    excused_expected = _at_the_edge(expected, found, rules)
    excused_found = _at_the_edge(found, expected, rules)
    judged = (lonely & (expected.scores > rules.threshold) & ~excused_expected).any()
    judged |= (surplus & (found.scores > rules.threshold) & ~excused_found).any()
    raw = before_nms() if judged else None
    if raw is not None:
        real, certain = _in_raw(found, raw, tolerance)
        known, certain_expected = _in_raw(expected, raw, tolerance)
        excused_expected |= _ties(expected, found, iou, rules, unpaired=surplus, usable=real)
        excused_expected |= known & ~certain_expected
        excused_found |= real & _ties(found, expected, iou.T, rules, unpaired=lonely, usable=torch.ones_like(lonely))
        excused_found |= real & ~certain & ~_overlapping(found, rules)

    paired_expected = torch.zeros(len(expected), dtype=torch.bool).index_fill_(0, rows, True)
    paired_found = torch.zeros(len(found), dtype=torch.bool).index_fill_(0, columns, True)
    # Of a pair that is none, a member below the threshold needs no excuse.
    pair_excused = excused_expected[rows] | (expected.scores[rows] <= rules.threshold)
    pair_excused &= excused_found[columns] | (found.scores[columns] <= rules.threshold)
    missing = ~paired_expected & (expected.scores > rules.threshold)
    extra = ~paired_found & (found.scores > rules.threshold)
    wrong = counts & ~pair_excused
    shown = counts & (near | ~pair_excused)
    pixels = _mask_pixels(expected, found, rows[near & counts], columns[near & counts], rules, bounds)
    tied = (counts & ~near & pair_excused).sum() + (missing & excused_expected).sum() + (extra & excused_found).sum()
    missing, extra = missing & ~excused_expected, extra & ~excused_found
    same_place = (iou >= tolerance.iou) & (expected.labels[:, None] != found.labels[None]) & extra[None]
    return Parity(
        compared=int(counts.sum()),
        missing=int(missing.sum()),
        extra=int(extra.sum()),
        moved=int((moved & wrong).sum()),
        rescored=int((rescored & wrong).sum()),
        reshaped=sum(count > 0 for count in pixels),
        relabelled=int((same_place.any(dim=1) & missing).sum()),
        tied=int(tied),
        worst_iou=float(pair_iou[shown].min()) if shown.any() else None,
        worst_score=float(pair_score[shown].max()) if shown.any() else None,
        worst_mask_pixels=max(pixels, default=None),
    )


def _iou(a: Detections, b: Detections) -> Tensor:
    """(A, B): the IoU of each pair, 1 where all corners are equal."""
    iou = pairwise_iou(a.boxes.double(), b.boxes.double())
    apart = (a.boxes[:, None] - b.boxes[None]).abs().amax(dim=-1)
    return iou.masked_fill(apart <= _CLOSE * max(a.image_size), 1.0)


def _partners(iou: Tensor, expected: Detections, found: Detections) -> tuple[Tensor, Tensor]:
    """Indices of partners: of one class, one to one, by IoU and then by score, the nearest pair first."""
    apart = (expected.scores[:, None] - found.scores[None]).abs()
    free = torch.where((iou >= _LEAST_IOU) & (expected.labels[:, None] == found.labels[None]), iou - apart, -torch.inf)
    rows, columns = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, dtype=torch.int64)]
    while free.numel():
        # Pairs whose members prefer each other are those that the order "nearest pair first" reaches, many at once.
        best, choice = free.max(dim=1)
        row = torch.arange(len(free))
        mutual = (best > -torch.inf) & (free.argmax(dim=0)[choice] == row)
        if not mutual.any():
            break
        rows.append(row[mutual])
        columns.append(choice[mutual])
        free[row[mutual]] = -torch.inf
        free[:, choice[mutual]] = -torch.inf
    return torch.cat(rows), torch.cat(columns)


def _mask_pixels(
    expected: Detections, found: Detections, rows: Tensor, columns: Tensor, rules: Rules, bounds: MaskBounds | None
) -> list[int]:
    """In how many pixels each mask is outside its bounds; without bounds, is not that of its partner."""
    if expected.masks is None or found.masks is None:
        return []
    shown = found.scores > rules.threshold
    least, own, most = (
        (expected.masks[rows], found.masks[columns], expected.masks[rows])
        if bounds is None
        else (bounds.inner[shown], found.masks[shown], bounds.outer[shown])
    )
    counts = []
    for index in torch.arange(len(own))[:, None]:  # one at a time: their pixels may be many
        inner, mask, outer = (decode(masks[index]).bool() for masks in (least, own, most))
        counts.append(int(((inner & ~mask) | (mask & ~outer)).sum()))
    return counts


def _at_the_edge(own: Detections, other: Detections, rules: Rules) -> Tensor:
    """Which of `own` may be below the lowest score that the other runtime reports."""
    lowest = rules.floor
    if len(other) >= rules.top_k:
        lowest = max(lowest, float(other.scores.min()))
    return own.scores <= lowest + rules.tolerance.score


def _in_raw(own: Detections, raw: BeforeNms, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Which detections PyTorch has too before NMS, and which of them for certain."""
    others = raw.detections
    same = own.labels[:, None] == others.labels[None]
    same &= (own.scores[:, None] - others.scores[None]).abs() <= tolerance.score
    same &= _iou(own, others) >= tolerance.iou
    certain = same if raw.certain is None else same & raw.certain
    return same.any(dim=1), certain.any(dim=1)


def _overlapping(own: Detections, rules: Rules) -> Tensor:
    """Which detections another one of their class should have suppressed, or they it."""
    close = (_iou(own, own) > rules.nms_threshold + _TIE) & (own.labels[:, None] == own.labels[None])
    return close.fill_diagonal_(False).any(dim=1)


def _ties(own: Detections, other: Detections, iou: Tensor, rules: Rules, *, unpaired: Tensor, usable: Tensor) -> Tensor:
    """Which of `own` one of `other` may have suppressed in a tie, see `compare_image`.

    iou: of each pair.
    unpaired, usable: which of `other` have no near partner, and which may be an explanation.
    """
    close = usable[None] & (own.labels[:, None] == other.labels[None])
    close &= other.scores[None] >= own.scores[:, None] - 2 * rules.tolerance.score
    at_threshold = (iou - rules.nms_threshold).abs() <= _TIE
    close &= at_threshold | (unpaired[None] & (iou > rules.nms_threshold))
    return close.any(dim=1)
