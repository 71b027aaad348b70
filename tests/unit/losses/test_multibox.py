"""The MultiBox loss against plain NumPy loops that follow the description of the Caffe layer step by step."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from vovnet import matching
from vovnet.boxes import cxcywh_to_xyxy
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.matching import hard_negatives, match
from vovnet.padded_targets import PaddedTargets
from vovnet.structures import Target


def oracle_iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return np.float32(0)
    inter = np.float32(w) * np.float32(h)
    return np.float32(inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter))


def oracle_match(boxes, anchors, threshold):
    overlaps = np.array([[oracle_iou(box, anchor) for anchor in anchors] for box in boxes], np.float32)
    matches = [-1] * len(anchors)
    free_objects, free_anchors = set(range(len(boxes))), set(range(len(anchors)))
    while free_objects and free_anchors:
        best = max((overlaps[g, p], -p, -g) for g in free_objects for p in free_anchors)
        if best[0] <= 1e-6:
            break
        p, g = -best[1], -best[2]
        matches[p] = g
        free_objects.remove(g)
        free_anchors.remove(p)
    best_overlap = overlaps.max(axis=0) if len(boxes) else np.zeros(len(anchors))
    for p in sorted(free_anchors):
        if len(boxes) and best_overlap[p] >= threshold:
            matches[p] = int(overlaps[:, p].argmax())
    return matches, best_overlap


def oracle_decode(deltas, anchor):
    cx, cy = (anchor[i] + 0.1 * float(deltas[i]) * anchor[i + 2] for i in (0, 1))
    w, h = (anchor[i] * math.exp(0.2 * float(deltas[i])) for i in (2, 3))
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def oracle_loss(logits, deltas, anchors_cxcywh, targets, threshold=0.5, negative_threshold=0.5, *, iou_targets=False):
    total_class = total_box = 0.0
    matched = 0
    corners = np.concatenate(
        [anchors_cxcywh[:, :2] - anchors_cxcywh[:, 2:] / 2, anchors_cxcywh[:, :2] + anchors_cxcywh[:, 2:] / 2], axis=1
    )
    for image, target in enumerate(targets):
        boxes, labels = target.boxes.numpy(), target.labels.numpy()
        if not len(boxes):
            continue
        matches, overlap = oracle_match(boxes, corners, threshold)
        x = logits[image].astype(np.float64)
        log_p = x - x.max(axis=1, keepdims=True)
        log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        positives = [p for p, g in enumerate(matches) if g >= 0]
        negatives = [p for p, g in enumerate(matches) if g < 0 and overlap[p] < negative_threshold]
        negatives.sort(key=lambda p: (log_p[p, 0], p))
        for p in negatives[: 3 * len(positives)]:
            total_class -= log_p[p, 0]
        for p in positives:
            g = matches[p]
            reached = 1.0
            if iou_targets:
                reached = float(oracle_iou(oracle_decode(deltas[image, p], anchors_cxcywh[p]), boxes[g]))
            total_class -= reached * log_p[p, labels[g] + 1] + (1 - reached) * log_p[p, 0]
            cx, cy, w, h = anchors_cxcywh[p]
            x1, y1, x2, y2 = boxes[g]
            expected = [
                ((x1 + x2) / 2 - cx) / w / 0.1,
                ((y1 + y2) / 2 - cy) / h / 0.1,
                math.log((x2 - x1) / w) / 0.2,
                math.log((y2 - y1) / h) / 0.2,
            ]
            for e, d in zip(expected, deltas[image, p], strict=True):
                gap = abs(float(d) - e)
                total_box += 0.5 * gap * gap if gap < 1 else gap - 0.5
        matched += len(positives)
    return total_class / max(matched, 1), total_box / max(matched, 1)


def random_case(rng, *, images, anchors, max_objects, classes=3, integer=False):
    def some_boxes(count):
        corner = rng.uniform(0, 60, (count, 2))
        size = rng.uniform(4, 40, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        # Integer coordinates on a coarse grid produce exact ties and repeated boxes.
        return (np.round(boxes / 8) * 8 + [0, 0, 8, 8] if integer else boxes).astype(np.float32)

    targets = []
    for _ in range(images):
        count = int(rng.integers(0, max_objects + 1))
        targets.append(Target.make(some_boxes(count), rng.integers(0, classes, count)))
    corners = some_boxes(anchors)
    centre_size = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    logits = rng.normal(size=(images, anchors, classes + 1)).astype(np.float32)
    deltas = rng.normal(size=(images, anchors, 4)).astype(np.float32)
    return logits, deltas, centre_size.astype(np.float32), targets


def check(case, **options):
    logits, deltas, anchors, targets = case
    outputs = {
        "class_logits": torch.from_numpy(logits),
        "box_deltas": torch.from_numpy(deltas),
        "anchors_cxcywh": torch.from_numpy(anchors),
    }
    losses = MultiBoxLoss(**options)(outputs, targets)
    expected_class, expected_box = oracle_loss(logits, deltas, anchors, targets, **options)
    assert losses["class_loss"].item() == pytest.approx(expected_class, rel=1e-4, abs=1e-5)
    assert losses["box_loss"].item() == pytest.approx(expected_box, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("seed", range(240))
def test_agrees_with_the_oracle(seed):
    rng = np.random.default_rng(seed)
    kinds = [
        {"images": 3, "anchors": 40, "max_objects": 6},
        {"images": 2, "anchors": 60, "max_objects": 1},  # one object or none
        {"images": 2, "anchors": 5, "max_objects": 12},  # more objects than default boxes
        {"images": 3, "anchors": 30, "max_objects": 6, "integer": True},  # ties
    ]
    check(random_case(rng, **kinds[seed % len(kinds)]))


@pytest.mark.parametrize("seed", range(20))
def test_the_iou_as_target_agrees_with_the_oracle(seed):
    case = random_case(np.random.default_rng(seed), images=3, anchors=40, max_objects=6)
    check(case, iou_targets=True)


def test_the_iou_as_target_moves_no_box():
    """It only tells the classes how well the box is placed."""
    logits, deltas, anchors, targets = random_case(np.random.default_rng(1), images=2, anchors=40, max_objects=6)
    box_deltas = torch.from_numpy(deltas).requires_grad_()
    outputs = {"class_logits": torch.from_numpy(logits), "box_deltas": box_deltas}
    outputs["anchors_cxcywh"] = torch.from_numpy(anchors)
    losses = MultiBoxLoss(iou_targets=True)(outputs, targets)
    assert losses["box_loss"].requires_grad
    assert not losses["class_loss"].requires_grad


def test_image_without_objects_contributes_nothing():
    rng = np.random.default_rng(0)
    logits, deltas, anchors, _ = random_case(rng, images=2, anchors=20, max_objects=4)
    outputs = {
        "class_logits": torch.from_numpy(logits).requires_grad_(),
        "box_deltas": torch.from_numpy(deltas).requires_grad_(),
        "anchors_cxcywh": torch.from_numpy(anchors),
    }
    losses = MultiBoxLoss()(outputs, [Target.make(), Target.make()])
    assert losses["class_loss"].item() == losses["box_loss"].item() == 0
    (losses["class_loss"] + losses["box_loss"]).backward()
    assert outputs["class_logits"].grad.abs().sum() == 0

    # In a batch with an image that has objects, it does not change the loss of that image.
    target = Target.make([[0, 0, 30, 30]], [1])
    outputs = {key: value.detach() for key, value in outputs.items()}
    together = MultiBoxLoss()(outputs, [target, Target.make()])
    first = {key: value[:1] if key != "anchors_cxcywh" else value for key, value in outputs.items()}
    alone = MultiBoxLoss()(first, [target])
    torch.testing.assert_close(together, alone)


def test_crowds_are_ignored_and_difficult_objects_can_be():
    rng = np.random.default_rng(1)
    logits, deltas, anchors, _ = random_case(rng, images=1, anchors=20, max_objects=4)
    outputs = {
        "class_logits": torch.from_numpy(logits),
        "box_deltas": torch.from_numpy(deltas),
        "anchors_cxcywh": torch.from_numpy(anchors),
    }
    plain = Target.make([[0, 0, 30, 30]], [1])
    boxes, labels = [[0, 0, 30, 30], [20, 20, 60, 60]], [1, 2]
    crowd = Target.make(boxes, labels, crowd=[False, True])
    difficult = Target.make(boxes, labels, difficult=[False, True])
    loss = MultiBoxLoss()
    torch.testing.assert_close(loss(outputs, [crowd]), loss(outputs, [plain]))
    torch.testing.assert_close(MultiBoxLoss(use_difficult=False)(outputs, [difficult]), loss(outputs, [plain]))
    assert loss(outputs, [difficult])["class_loss"] != loss(outputs, [plain])["class_loss"]


def test_match_by_hand():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [100, 100, 110, 110]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [19, 19, 40, 40]]])
    matches, best = match(boxes, torch.tensor([[True, True]]), anchors, 0.5)
    # Anchor 2 overlaps object 1 by less than 0.5 and is matched only because each object gets its best anchor.
    assert matches.tolist() == [[0, 0, 1, -1]]
    torch.testing.assert_close(best, torch.tensor([[1.0, 0.8, 100 / 441, 0.0]]))


def test_competing_objects_share_the_anchors_in_order_of_overlap():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    boxes = torch.tensor([[[0.0, 0, 10, 9], [0, 0, 10, 10]]])  # both prefer anchor 0, object 1 has the larger IoU
    matches, _ = match(boxes, torch.tensor([[True, True]]), anchors, 0.99)
    assert matches.tolist() == [[1, 0]]


def test_hard_negatives_by_hand():
    candidates = torch.tensor([[True, True, False, True], [True, True, True, True]])
    difficulty = torch.tensor([[1.0, 3.0, 9.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    kept = hard_negatives(candidates, difficulty, torch.tensor([2, 0]))
    assert kept.tolist() == [[False, True, False, True], [False] * 4]
    everything = hard_negatives(candidates, difficulty, torch.tensor([99, 99]))
    assert (everything == candidates).all()


def test_gradients_reach_positives_and_hard_negatives_only():
    rng = np.random.default_rng(5)
    logits, deltas, anchors, _ = random_case(rng, images=1, anchors=200, max_objects=1)
    target = Target.make([[10, 10, 30, 30]], [0])
    outputs = {
        "class_logits": torch.from_numpy(logits).requires_grad_(),
        "box_deltas": torch.from_numpy(deltas).requires_grad_(),
        "anchors_cxcywh": torch.from_numpy(anchors),
    }
    sum(MultiBoxLoss()(outputs, [target]).values()).backward()
    matches, _ = match(target.boxes[None], torch.tensor([[True]]), cxcywh_to_xyxy(torch.from_numpy(anchors)), 0.5)
    positives = int((matches >= 0).sum())
    assert (outputs["class_logits"].grad[0].abs().sum(dim=1) > 0).sum() == 4 * positives
    assert (outputs["box_deltas"].grad[0].abs().sum(dim=1) > 0).sum() == positives


@pytest.mark.parametrize("refined", [False, True])
def test_groups_are_passes_of_their_own(refined):
    """A normaliser for every two images of six: the mean of three losses, with the same gradient."""
    rng = np.random.default_rng(2)
    logits, deltas, anchors, targets = random_case(rng, images=6, anchors=60, max_objects=6)
    targets[2] = targets[3] = Target.make()  # a group without objects
    tensors = {"class_logits": torch.from_numpy(logits), "box_deltas": torch.from_numpy(deltas)}
    make = MultiBoxLoss
    if refined:
        make = RefineDetLoss
        objectness, moves = rng.normal(size=(6, 60, 2)), rng.normal(size=(6, 60, 4))
        tensors |= {"objectness_logits": torch.tensor(objectness).float(), "anchor_deltas": torch.tensor(moves).float()}
    fixed = {"anchors_cxcywh": torch.from_numpy(anchors)}
    for tensor in tensors.values():
        tensor.requires_grad_()

    grouped = make(images_per_group=2)({**tensors, **fixed}, targets)
    sum(grouped.values()).backward()
    gradients = {name: tensor.grad.clone() for name, tensor in tensors.items()}
    for tensor in tensors.values():
        tensor.grad = None
    passes = []
    for start in (0, 2, 4):
        part = {name: tensor[start : start + 2] for name, tensor in tensors.items()}
        passes.append(make()({**part, **fixed}, targets[start : start + 2]))
        (sum(passes[-1].values()) / 3).backward()
    for name, loss in grouped.items():
        torch.testing.assert_close(loss, sum(losses[name] for losses in passes) / 3)
        assert loss != make()({**tensors, **fixed}, targets)[name]
    for name, tensor in tensors.items():
        torch.testing.assert_close(gradients[name], tensor.grad)


@pytest.mark.parametrize("looks", [True, False], ids=["cpu", "gpu"])
def test_padding_changes_nothing(monkeypatch, looks):
    """However much there is, and in the gradient too, which must not become NaN from the logarithm of an empty box."""
    monkeypatch.setattr(matching, "_can_look_at", lambda _: looks)
    rng = np.random.default_rng(3)
    logits, deltas, anchors, targets = random_case(rng, images=3, anchors=60, max_objects=5)
    padded = PaddedTargets.of(targets)
    more = {field.name: torch.cat([getattr(padded, field.name)] * 2, dim=1) for field in fields(padded)}
    more["valid"][:, padded.valid.shape[1] :] = False
    found = []
    for given in (targets, padded, PaddedTargets(**more)):
        outputs = {
            "class_logits": torch.from_numpy(logits).requires_grad_(),
            "box_deltas": torch.from_numpy(deltas).clone().requires_grad_(),
            "anchors_cxcywh": torch.from_numpy(anchors),
        }
        losses = MultiBoxLoss()(outputs, given)
        sum(losses.values()).backward()
        found.append([*losses.values(), outputs["class_logits"].grad.clone(), outputs["box_deltas"].grad])
        outputs["class_logits"].grad = None
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.isfinite().all()
            assert torch.equal(a, b)
