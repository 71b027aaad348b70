"""The greedy matching against plain loops, on the path of the CPU and on that of a GPU, which looks at no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vovnet import matching
from vovnet.boxes import pairwise_iou
from vovnet.matching import match


def greedy(iou: np.ndarray, threshold: float) -> list[int]:
    """Every pair once, from the largest IoU to the smallest: IoU (M, A) → the object of each anchor, or -1."""
    objects, anchors = iou.shape
    pairs = [(-iou[o, a], a, o) for o in range(objects) for a in range(anchors) if iou[o, a] > 1e-6]
    matches, matched = [-1] * anchors, set()
    for _, a, o in sorted(pairs):
        if matches[a] < 0 and o not in matched:
            matches[a] = o
            matched.add(o)
    for a in range(anchors):
        if matches[a] < 0 and objects and iou[:, a].max() >= threshold:
            matches[a] = int(iou[:, a].argmax())
    return matches


def some_boxes(rng: np.random.Generator, shape: tuple[int, ...], grid: int) -> torch.Tensor:
    """On a coarse grid: many have the same IoU, many are equal, and some are empty."""
    corner = rng.integers(0, grid, (*shape, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 3, (*shape, 2))], axis=-1) * 4.0
    return torch.from_numpy(boxes.astype(np.float32))


def random_batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images, objects, anchors = (int(rng.integers(1, most)) for most in (4, 14, 24))
    boxes = some_boxes(rng, (images, objects), grid := int(rng.integers(2, 8)))
    valid = torch.from_numpy(rng.random((images, objects)) < rng.choice([0.2, 0.7, 1]))
    return boxes, valid, some_boxes(rng, (images, anchors)[int(rng.integers(2)) :], grid)


@pytest.mark.parametrize(
    ("looks", "most_pairs"), [(True, 2**24), (False, 2**24), (False, 150)], ids=["cpu", "gpu", "parts"]
)
def test_agrees_with_the_greedy_order(monkeypatch: pytest.MonkeyPatch, looks: bool, most_pairs: int) -> None:
    monkeypatch.setattr(matching, "_can_look_at", lambda _: looks)
    monkeypatch.setattr(matching, "_MOST_PAIRS", most_pairs)
    ties = displaced = 0
    for seed in range(2500):
        boxes, valid, anchors = random_batch(seed)
        matches, best = match(boxes, valid, anchors, 0.5)
        overlaps = pairwise_iou(boxes, anchors)
        for row, (iou, is_valid) in enumerate(zip(overlaps.numpy(), valid.numpy(), strict=True)):
            expected = np.array(greedy(iou[is_valid], 0.5))
            numbers = np.append(np.flatnonzero(is_valid), -1)  # of the valid objects among all
            assert matches[row].tolist() == numbers[expected].tolist(), seed
            assert best[row].tolist() == (iou[is_valid].max(axis=0) if is_valid.any() else 0 * iou[0]).tolist()
            positive = iou[is_valid][iou[is_valid] > 0]
            ties += len(positive) - len(set(positive.tolist()))
            first_choices = iou[is_valid].argmax(axis=1).tolist()
            displaced += len(first_choices) - len(set(first_choices))
    assert min(ties, displaced) > 5000  # the batches are what they are for


@pytest.mark.parametrize("looks", [True, False], ids=["cpu", "gpu"])
def test_values_that_are_no_numbers_match_nothing(monkeypatch: pytest.MonkeyPatch, looks: bool) -> None:
    """A network that diverges moves anchors anywhere; the loss must then become infinite, not fail."""
    monkeypatch.setattr(matching, "_can_look_at", lambda _: looks)
    boxes = torch.tensor([[[0.0, 0, 8, 8], [0, 0, 0, 0]]])
    anchors = torch.tensor([[float("nan")] * 4, [0, 0, 8, 8], [float("inf")] * 4])
    matches, _ = match(boxes, torch.tensor([[True, False]]), anchors, 0.5)
    assert matches.tolist() == [[-1, 0, -1]]


class LargestResult(TorchDispatchMode):
    values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and not tensor._is_view():
                self.values = max(self.values, tensor.numel())
        return result


def test_a_crowded_batch_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_MOST_PAIRS", 2 * 8 * 500)
    rng = np.random.default_rng(0)
    boxes, anchors = some_boxes(rng, (40, 8), 9), some_boxes(rng, (500,), 9)
    with LargestResult() as largest:
        match(boxes, torch.ones(40, 8, dtype=torch.bool), anchors, 0.5)
    assert largest.values < 40 * 8 * 500 / 4


def test_mps_is_spared_sorting_integers() -> None:
    assert [matching._sorts_integers(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [True, True, False]
