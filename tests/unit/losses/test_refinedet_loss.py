"""RefineDet's loss against plain NumPy loops, and each rule of its two steps."""

import numpy as np
import pytest
import torch

from vovnet.losses import refinedet as losses_refinedet
from vovnet.losses.refinedet import RefineDetLoss
from vovnet.matching import MIN_OBJECTNESS
from vovnet.models.detectors import refinedet
from vovnet.structures import Target

NAMES = ("arm_class_loss", "arm_box_loss", "class_loss", "box_loss")


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def corners(cx, cy, w, h):
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def log_softmax(x):
    x = x - x.max()
    return x - np.log(np.exp(x).sum())


def move(anchor, delta):
    cx, cy, w, h = anchor
    return (cx + 0.1 * delta[0] * w, cy + 0.1 * delta[1] * h, w * np.exp(0.2 * delta[2]), h * np.exp(0.2 * delta[3]))


def multibox(logits, deltas, anchors, targets, threshold, negative_threshold, likely=None):
    """(class loss, box loss) of SSD's layer. anchors: (N, A, 4) as cx cy w h; likely: (N, A), which may be negative."""
    class_loss = box_loss = 0.0
    matched = 0
    for image, (boxes, labels) in enumerate(targets):
        if not len(boxes):
            continue
        a = len(anchors[image])
        overlap = np.array([[iou(box, corners(*anchor)) for anchor in anchors[image]] for box in boxes])
        owner = [-1] * a
        pairs = sorted(((-overlap[g, p], p, g) for g in range(len(boxes)) for p in range(a)), key=lambda t: t)
        taken = set()
        for negative_overlap, p, g in pairs:  # greedy: the best pair of an unmatched object and an unmatched anchor
            if -negative_overlap > 1e-6 and owner[p] < 0 and g not in taken:
                owner[p] = g
                taken.add(g)
        for p in range(a):
            if owner[p] < 0 and overlap[:, p].max() >= threshold:
                owner[p] = int(overlap[:, p].argmax())
        log_p = [log_softmax(logits[image, p]) for p in range(a)]
        positives = [p for p in range(a) if owner[p] >= 0]
        negatives = [
            p
            for p in range(a)
            if owner[p] < 0 and overlap[:, p].max() < negative_threshold and (likely is None or likely[image, p])
        ]
        negatives.sort(key=lambda p: log_p[p][0])
        class_loss -= sum(log_p[p][0] for p in negatives[: 3 * len(positives)])
        for p in positives:
            x1, y1, x2, y2 = boxes[owner[p]]
            cx, cy, w, h = anchors[image][p]
            class_loss -= log_p[p][labels[owner[p]] + 1]
            expected = (
                ((x1 + x2) / 2 - cx) / w / 0.1,
                ((y1 + y2) / 2 - cy) / h / 0.1,
                np.log((x2 - x1) / w) / 0.2,
                np.log((y2 - y1) / h) / 0.2,
            )
            for value, delta in zip(expected, deltas[image, p], strict=True):
                gap = abs(value - delta)
                box_loss += gap**2 / 2 if gap < 1 else gap - 0.5
        matched += len(positives)
    return class_loss / max(matched, 1), box_loss / max(matched, 1)


def oracle(outputs, targets, arm_threshold=0.5, arm_negative_threshold=0.5):
    values = {key: value.detach().double().numpy() for key, value in outputs.items()}
    anchors, objectness = values["anchors_cxcywh"], values["objectness_logits"]
    n, a = objectness.shape[:2]
    fixed = np.repeat(anchors[None], n, axis=0)
    refined = np.array([[move(anchors[p], values["anchor_deltas"][i, p]) for p in range(a)] for i in range(n)])
    likely = np.array([[np.exp(log_softmax(objectness[i, p])[1]) >= 0.01 for p in range(a)] for i in range(n)])
    kept = [t[~t.difficult & ~t.crowd] for t in targets]
    objects = [(t.boxes.double().numpy(), t.labels.numpy()) for t in kept]
    one_class = [(boxes, np.zeros(len(labels), int)) for boxes, labels in objects]
    arm = multibox(objectness, values["anchor_deltas"], fixed, one_class, arm_threshold, arm_negative_threshold)
    odm = multibox(values["class_logits"], values["box_deltas"], refined, objects, 0.5, 0.5, likely)
    return dict(zip(NAMES, (*arm, *odm), strict=True))


def random_case(seed, images=2, anchors=40, max_objects=5, classes=3):
    rng = np.random.default_rng(seed)

    def boxes(count):
        corner = rng.uniform(0, 60, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(8, 40, (count, 2))], axis=1)

    targets = []
    for _ in range(images):
        count = int(rng.integers(0, max_objects + 1))
        flags = {"difficult": rng.random(count) < 0.2, "crowd": rng.random(count) < 0.2}
        targets.append(Target.make(boxes(count), rng.integers(0, classes, count), **flags))
    corner = boxes(anchors)
    centre_size = np.concatenate([(corner[:, :2] + corner[:, 2:]) / 2, corner[:, 2:] - corner[:, :2]], axis=1)
    outputs = {
        # So large that some anchors have an objectness below 1 %.
        "objectness_logits": rng.normal(0, 3, (images, anchors, 2)),
        "anchor_deltas": rng.normal(0, 1, (images, anchors, 4)),
        "class_logits": rng.normal(0, 1, (images, anchors, classes + 1)),
        "box_deltas": rng.normal(0, 1, (images, anchors, 4)),
        "anchors_cxcywh": centre_size,
    }
    return {key: torch.from_numpy(value).float() for key, value in outputs.items()}, targets


def leaves(outputs):
    return {key: value.clone().requires_grad_(key != "anchors_cxcywh") for key, value in outputs.items()}


@pytest.mark.parametrize("thresholds", [(0.5, 0.5), (0.7, 0.3)])
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_oracle(seed, thresholds):
    outputs, targets = random_case(seed)
    losses = RefineDetLoss(*thresholds)(outputs, targets)
    assert tuple(losses) == NAMES
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(oracle(outputs, targets, *thresholds), rel=1e-4)


def test_the_random_cases_cover_the_rules():
    """The seeds above include filtered anchors, images without objects, and thresholds that change the loss."""
    filtered = empty = moved = 0
    for seed in range(40):
        outputs, targets = random_case(seed)
        filtered += int((outputs["objectness_logits"].softmax(-1)[..., 1] < MIN_OBJECTNESS).sum())
        empty += sum(len(t) == 0 for t in targets)
        paper, scripts = oracle(outputs, targets), oracle(outputs, targets, 0.7, 0.3)
        moved += paper["arm_class_loss"] != scripts["arm_class_loss"]
        assert paper["class_loss"] == scripts["class_loss"]  # the second step keeps 0.5
    assert filtered > 100
    assert empty > 3
    assert moved > 20


def test_one_filter_in_training_and_testing():
    assert losses_refinedet.MIN_OBJECTNESS == refinedet.MIN_OBJECTNESS == 0.01


def test_refined_anchors_are_constants_in_the_second_step():
    outputs, targets = random_case(1)
    moving = leaves(outputs)
    losses = RefineDetLoss()(moving, targets)
    (losses["class_loss"] + losses["box_loss"]).backward()
    assert moving["anchor_deltas"].grad is None
    assert moving["objectness_logits"].grad is None
    assert moving["class_logits"].grad.abs().sum() > 0
    assert moving["box_deltas"].grad.abs().sum() > 0
    moving = leaves(outputs)
    losses = RefineDetLoss()(moving, targets)
    (losses["arm_class_loss"] + losses["arm_box_loss"]).backward()
    assert moving["anchor_deltas"].grad.abs().sum() > 0
    assert moving["class_logits"].grad is moving["box_deltas"].grad is None


def test_the_second_step_matches_the_refined_anchors():
    """The first step moves a distant anchor onto the object; the second step's delta targets are then zero."""
    target = Target.make([[40, 40, 60, 60]], [1])
    anchors = torch.tensor([[20.0, 20, 20, 20], [90, 90, 20, 20]])
    outputs = {
        "objectness_logits": torch.zeros(1, 2, 2),
        "anchor_deltas": torch.tensor([[[15.0, 15, 0, 0], [0, 0, 0, 0]]]),  # +1.5 widths: centre 50, 50
        "class_logits": torch.zeros(1, 2, 4),
        "box_deltas": torch.zeros(1, 2, 4),
        "anchors_cxcywh": anchors,
    }
    losses = RefineDetLoss()(outputs, [target])
    assert losses["box_loss"].item() == pytest.approx(0, abs=1e-5)
    assert losses["arm_box_loss"].item() == 0  # no fixed anchor overlaps the object
    assert losses["arm_class_loss"].item() == 0
    assert losses["class_loss"].item() == pytest.approx(2 * np.log(4))  # one positive, one negative, over one match


def filter_case():
    """Anchor 0 lies on the object; 1, 2 and 3 are far away, each a harder negative than the one before."""
    outputs = {
        "objectness_logits": torch.zeros(1, 4, 2),
        "anchor_deltas": torch.zeros(1, 4, 4),
        "class_logits": torch.tensor([[[0.0, 0, 0], [3, 0, 0], [2, 0, 0], [1, 0, 0]]]),
        "box_deltas": torch.zeros(1, 4, 4),
        "anchors_cxcywh": torch.tensor([[20.0, 20, 20, 20], [80, 20, 20, 20], [20, 80, 20, 20], [80, 80, 20, 20]]),
    }
    return outputs, [Target.make([[10, 10, 30, 30]], [0])]


def background(logits):
    return -torch.tensor(logits).log_softmax(0)[0].item()


def test_filter_removes_negatives():
    outputs, targets = filter_case()
    rows = outputs["class_logits"][0].tolist()
    positive = -torch.tensor(rows[0]).log_softmax(0)[1].item()
    everything = RefineDetLoss()(outputs, targets)["class_loss"].item()
    assert everything == pytest.approx(positive + sum(background(row) for row in rows[1:]), rel=1e-5)
    outputs["objectness_logits"][0, 3] = torch.tensor([10.0, 0.0])  # the hardest negative, certainly background
    without = RefineDetLoss()(outputs, targets)["class_loss"].item()
    assert without == pytest.approx(positive + background(rows[1]) + background(rows[2]), rel=1e-5)


def test_filter_keeps_positives():
    outputs, targets = filter_case()
    before = RefineDetLoss()(outputs, targets)
    outputs["objectness_logits"][0, 0] = torch.tensor([10.0, 0.0])
    after = RefineDetLoss()(outputs, targets)
    assert after["class_loss"] == before["class_loss"]
    assert after["box_loss"] == before["box_loss"]


@pytest.mark.parametrize(("objectness", "stays"), [(0.0099, False), (0.0101, True)])
def test_filter_is_at_one_per_cent(objectness, stays):
    outputs, targets = filter_case()
    before = RefineDetLoss()(outputs, targets)["class_loss"]
    outputs["objectness_logits"][0, 3] = torch.tensor([1 - objectness, objectness]).log()
    assert (RefineDetLoss()(outputs, targets)["class_loss"] == before) == stays


def test_filter_does_not_affect_the_first_step():
    outputs, targets = filter_case()
    outputs["objectness_logits"][0, 1:] = torch.tensor([10.0, 0.0])
    rows = [[0.0, 0.0]] + [[10.0, 0.0]] * 3
    expected = np.log(2) + sum(background(row) for row in rows[1:])
    assert RefineDetLoss()(outputs, targets)["arm_class_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_first_step_has_one_class():
    outputs, targets = random_case(3, max_objects=5)
    other_classes = [Target.make(t.boxes, (t.labels + 1) % 3, t.difficult, t.crowd) for t in targets]
    loss = RefineDetLoss()
    a, b = loss(outputs, targets), loss(outputs, other_classes)
    assert a["arm_class_loss"] == b["arm_class_loss"]
    assert a["class_loss"] != b["class_loss"]


def test_arm_thresholds():
    """IoU 0.6 is positive at 0.5, and neither positive nor negative at 0.7 / 0.3; IoU 0.4 is negative only at 0.5."""
    target = Target.make([[0, 0, 100, 100]], [0])
    heights = (100.0, 60.0, 40.0, 20.0)
    outputs = {
        "objectness_logits": torch.zeros(1, 4, 2),
        "anchor_deltas": torch.zeros(1, 4, 4),
        "class_logits": torch.zeros(1, 4, 2),
        "box_deltas": torch.zeros(1, 4, 4),
        "anchors_cxcywh": torch.tensor([[50, h / 2, 100, h] for h in heights]),
    }
    paper, scripts = RefineDetLoss()(outputs, [target]), RefineDetLoss(0.7, 0.3)(outputs, [target])
    assert paper["arm_class_loss"].item() == pytest.approx((2 + 2) * np.log(2) / 2)
    assert scripts["arm_class_loss"].item() == pytest.approx((1 + 1) * np.log(2) / 1)
    assert paper["class_loss"] == scripts["class_loss"]


def test_each_step_has_its_own_normaliser():
    outputs, targets = filter_case()
    both = torch.tensor([[20.0, 20, 20, 20], [21, 20, 20, 20], [20, 80, 20, 20], [80, 80, 20, 20]])
    outputs["anchors_cxcywh"] = both  # both match in the first step, which then moves the second anchor away
    outputs["anchor_deltas"][0, 1, 0] = 30.0
    losses = RefineDetLoss()(outputs, targets)
    assert losses["arm_class_loss"].item() == pytest.approx(4 * np.log(2) / 2)
    assert losses["class_loss"].item() == pytest.approx(
        np.log(3) + sum(background(row) for row in outputs["class_logits"][0, 1:].tolist()), rel=1e-5
    )


def test_difficult_objects_and_crowds_are_left_out():
    outputs, _ = random_case(1)
    boxes, labels = [[0, 0, 30, 30], [20, 20, 60, 60]], [1, 2]
    plain, both = Target.make(boxes[:1], labels[:1]), Target.make(boxes, labels)
    second = [False, True]
    difficult = Target.make(boxes, labels, difficult=second)
    loss = RefineDetLoss()
    alone = loss(outputs, [plain] * 2)
    torch.testing.assert_close(loss(outputs, [difficult] * 2), alone)
    torch.testing.assert_close(loss(outputs, [Target.make(boxes, labels, crowd=second)] * 2), alone)
    learnt = RefineDetLoss(use_difficult=True)(outputs, [difficult] * 2)
    torch.testing.assert_close(learnt, loss(outputs, [both] * 2))
    assert all(learnt[name] != alone[name] for name in NAMES)


def test_images_without_objects():
    outputs, _ = random_case(2)
    moving = leaves(outputs)
    losses = RefineDetLoss()(moving, [Target.make(), Target.make()])
    assert [loss.item() for loss in losses.values()] == [0] * 4
    sum(losses.values()).backward()
    assert all(not moving[k].grad.any() for k in moving if k != "anchors_cxcywh")
    # In a batch with an image that has objects, it does not change the loss of that image.
    target = Target.make([[0, 0, 30, 30]], [1])
    first = {key: value if key == "anchors_cxcywh" else value[:1] for key, value in outputs.items()}
    torch.testing.assert_close(RefineDetLoss()(outputs, [target, Target.make()]), RefineDetLoss()(first, [target]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    """6,375 anchors with large logits: their exponentials and sums exceed float16's 65,504."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(6375, 2, generator=generator) * 320
    outputs = {
        "objectness_logits": (torch.randn(2, 6375, 2, generator=generator) * 200).to(dtype),
        "anchor_deltas": torch.randn(2, 6375, 4, generator=generator).to(dtype),
        "class_logits": (torch.randn(2, 6375, 81, generator=generator) * 200).to(dtype),
        "box_deltas": (torch.randn(2, 6375, 4, generator=generator) * 1000).to(dtype),
        "anchors_cxcywh": torch.cat([centres, torch.rand(6375, 2, generator=generator) * 200 + 20], dim=1),
    }
    targets = [Target.make([[20, 20, 150, 150], [100, 50, 300, 290]], [3, 70])] * 2
    moving = {k: v.requires_grad_(k != "anchors_cxcywh") for k, v in outputs.items()}
    losses = RefineDetLoss()(moving, targets)
    wide = RefineDetLoss()({k: v.detach().float() for k, v in outputs.items()}, targets)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    torch.testing.assert_close(losses, wide)
    sum(losses.values()).backward()
    assert all(moving[k].grad.isfinite().all() for k in moving if k != "anchors_cxcywh")


def test_wild_refinements_stay_finite():
    """An untrained or diverging first step may move anchors anywhere; the second step's loss must stay finite."""
    outputs, targets = random_case(4)
    for scale in (1e2, 1e4, -1e4):
        outputs["anchor_deltas"] = torch.full_like(outputs["anchor_deltas"], scale)
        assert all(loss.isfinite() for loss in RefineDetLoss()(outputs, targets).values())
