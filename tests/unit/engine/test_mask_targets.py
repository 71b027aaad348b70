"""From a dataset's polygons and codes to the mask targets of Mask R-CNN, against plain loops and pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as oracle
from torch import Tensor
from torchvision.models.detection.roi_heads import maskrcnn_loss

from vovnet.data.batches.resizing import ResizeAugmentation
from vovnet.data.dataset import DetectionDataset
from vovnet.data.formats import open_dataset
from vovnet.data.loading import Batch, BatchStream, training_batches
from vovnet.losses.mask_rcnn import MaskRCNNLoss, _mask_targets
from vovnet.sizes import fit_size
from vovnet.structures import Target, TrainingMasks

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools'

SIZE = (60, 90)
SQUARE = [20.0, 10, 60, 10, 60, 50, 20, 50]


def runs(outlines: list[list[float]]) -> dict[str, Any]:
    """The same mask as a run-length object."""
    code = oracle.merge(oracle.frPyObjects(outlines, *SIZE))
    return {"size": list(SIZE), "counts": code["counts"].decode()}


def dataset(root: Path, images: list[list[dict[str, Any]]]) -> DetectionDataset:
    """Images with objects of these masks; their boxes are those of the masks."""
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    annotations: list[dict[str, Any]] = []
    for number, objects in enumerate(images):
        Image.new("RGB", SIZE[::-1], (number, 9, 9)).save(root / f"images/{number}.png")
        for entry in objects:
            mask = entry["segmentation"]
            code = mask if isinstance(mask, dict) else runs([part for part in mask if len(part) > 4])
            box = {"bbox": oracle.toBbox(code).tolist(), "area": 1, "iscrowd": 0, "category_id": 1}
            annotations.append({"id": len(annotations) + 1, "image_id": number, **box, **entry})
    entries = [
        {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
        for number in range(len(images))
    ]
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "annotations/train.json").write_text(json.dumps(content))
    return open_dataset(root, masks=True)


def batches_of(
    data: DetectionDataset, *, short: int = 60, flip: float = 0.0, workers: int = 0, start_step: int = 0
) -> list[Batch]:
    count = len(data)
    stream = BatchStream(count, batch_size=count, micro_batch_size=count, steps=2, seed=5, start_step=start_step)
    augment = ResizeAugmentation((short,), 1000, flip)
    return list(training_batches(data, augment, stream, workers=workers, pin_memory=False))


def training_masks(target: Target) -> TrainingMasks:
    assert isinstance(target.masks, Tensor | TrainingMasks)
    return TrainingMasks.of(target.masks)


def random_outlines(rng: np.random.Generator) -> list[list[float]]:
    """One to four parts, some of which may be beyond the image."""
    centre, size = rng.uniform(15, 45, 2), rng.uniform(4, 15)
    return [
        (centre + rng.normal(0, size, 2) * (part > 0) + rng.normal(0, size, (rng.integers(3, 30), 2))).ravel().tolist()
        for part in range(rng.integers(1, 5))
    ]


def drawn(outlines: list[list[float]], box: list[float], *, scale: tuple[float, float], width: float) -> np.ndarray:
    """The published recipe, part by part. width: that of the flipped image, 0 if it is not flipped."""
    x1, y1, x2, y2 = box
    moved = []
    for outline in outlines:
        xs, ys = [x * scale[0] for x in outline[::2]], [y * scale[1] for y in outline[1::2]]
        xs = [width - x for x in xs] if width else xs
        xs, ys = [(x - x1) * 28 / max(x2 - x1, 1) for x in xs], [(y - y1) * 28 / max(y2 - y1, 1) for y in ys]
        moved.append([value for point in zip(xs, ys, strict=True) for value in point])
    return oracle.decode(oracle.merge(oracle.frPyObjects(moved, 28, 28)))


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("seed", "short"), [(0, 60), (1, 60), (2, 97), (3, 31), (4, 240), (5, 13)])
def test_targets_are_drawn_by_coco(tmp_path: Path, seed: int, short: int, flip: float) -> None:
    rng = np.random.default_rng(seed)
    images = [[random_outlines(rng) for _ in range(5)] for _ in range(3)]
    data = dataset(tmp_path, [[{"segmentation": outlines} for outlines in objects] for objects in images])
    height, width = fit_size(SIZE, short, 1000)
    for batch in batches_of(data, short=short, flip=flip):
        for target, name in zip(batch.targets, batch.names, strict=True):
            objects = images[int(name[0])]
            matched = rng.integers(0, 5, 40)
            around = target.boxes[torch.from_numpy(matched)]
            proposals = around + torch.from_numpy(rng.normal(0, 0.1 * short, (40, 4))).float()
            proposals[:, 2:] = torch.maximum(proposals[:, 2:], proposals[:, :2] + 0.01)  # some are less than a pixel
            targets = _mask_targets(training_masks(target), proposals, torch.from_numpy(matched), 28)
            for found, box, index in zip(targets, proposals.tolist(), matched, strict=True):
                scale = (width / SIZE[1], height / SIZE[0])
                expected = drawn(objects[index], box, scale=scale, width=flip * width)
                assert np.array_equal(found.numpy(), expected)
            assert targets.any()


@pytest.mark.parametrize("kind", ["polygons", "codes"])
@pytest.mark.parametrize(("short", "flip"), [(60, 0.0), (60, 1.0), (120, 0.0), (30, 1.0)])
def test_the_target_of_a_rectangle_is_exact(tmp_path: Path, kind: str, short: int, flip: float) -> None:
    """With a dataset's codes only the border that RoIAlign blurs may differ."""
    data = dataset(tmp_path, [[{"segmentation": [SQUARE] if kind == "polygons" else runs([SQUARE])}]])
    (target,) = batches_of(data, short=short, flip=flip)[0].targets
    x1, y1, x2, y2 = target.boxes[0].tolist()
    middle = (x1 + x2) / 2
    proposals = torch.tensor([[x1, y1, x2, y2], [middle, y1, middle + (x2 - x1), y2], [x2 + 2, y1, x2 + 8, y2]])
    whole, half, beside = _mask_targets(training_masks(target), proposals, torch.zeros(3, dtype=torch.int64), 28)
    edge = 0 if kind == "polygons" else 3
    assert (whole[edge : 28 - edge, edge : 28 - edge] > 0.999).all()
    assert (half[edge : 28 - edge, : 14 - edge] > 0.999).all()
    assert (half[:, 14 + edge :] < 0.001).all()
    assert (beside < 0.001).all()


def mixed(root: Path) -> tuple[DetectionDataset, list[list[list[list[float]]]]]:
    """Images of polygons, of codes, of both with a crowd first, and without objects; the outlines of all objects."""
    rng = np.random.default_rng(3)
    images = [[random_outlines(rng) for _ in range(count)] for count in (3, 2, 6, 0)]
    entries: list[list[dict[str, Any]]] = [[{"segmentation": outlines} for outlines in image] for image in images]
    entries[1] = [{"segmentation": runs(outlines)} for outlines in images[1]]
    for index in (0, 2, 3):
        entries[2][index]["segmentation"] = runs(images[2][index])
    entries[2][0]["iscrowd"] = 1
    return dataset(root, entries), images


def test_polygons_and_codes_in_one_dataset(tmp_path: Path) -> None:
    """Every object gets its own target: drawn from polygons, or pooled from the bitmap of its code."""
    data, images = mixed(tmp_path)
    (batch, _) = batches_of(data)
    counts, labels, matched, proposals = [], [], [], []
    expected = []
    for target, name in zip(batch.targets, batch.names, strict=True):
        objects = target[~target.crowd]
        outlines = images[int(name[0])][int(target.crowd.sum()) :]
        assert len(objects) == len(outlines)
        order = list(range(len(outlines)))[::-1] * 2  # each twice, the last first
        counts.append(len(order) + 1)
        labels += [1] * len(order) + [0]
        matched += [*order, 0]
        boxes = [*objects.boxes[order].tolist(), [0.0, 0, 9, 9]]
        proposals += boxes
        with_code = {"0.png": [], "1.png": [0, 1], "2.png": [1, 2], "3.png": []}[name]
        for index, box in zip(order, boxes, strict=False):
            if index in with_code:
                bitmap = torch.from_numpy(oracle.decode(runs(outlines[index])))[None]
                canvas = torch.zeros(1, *batch.images.shape[-2:], dtype=torch.uint8)
                canvas[:, : SIZE[0], : SIZE[1]] = bitmap
                expected.append((canvas, box))
            else:
                expected.append((torch.from_numpy(drawn(outlines[index], box, scale=(1, 1), width=0)), box))
    torch.manual_seed(0)
    logits = torch.randn(len(expected), 2, 28, 28)
    losses = []
    for logit, (mask, box) in zip(logits, expected, strict=True):
        if mask.ndim == 3:
            zero, one = torch.tensor([0]), torch.tensor([1])
            losses.append(maskrcnn_loss(logit[None], [torch.tensor([box])], [mask], [one], [zero]))
        else:
            losses.append(torch.nn.functional.binary_cross_entropy_with_logits(logit[1], mask.float()))
    outputs = {
        "mask_logits": logits,
        "proposals": torch.tensor(proposals),
        "proposals_per_image": torch.tensor(counts),
        "proposal_labels": torch.tensor(labels),
        "proposal_objects": torch.tensor(matched),
    }
    objects_of = [target[~target.crowd] for target in batch.targets]
    loss = MaskRCNNLoss()._mask_loss(outputs, objects_of)
    assert float(loss) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-6)


@pytest.mark.parametrize(("workers", "start_step"), [(2, 0), (1, 1), (0, 1)])
def test_batches_do_not_depend_on_workers_and_restarts(tmp_path: Path, workers: int, start_step: int) -> None:
    data, _ = mixed(tmp_path)
    alone = batches_of(data, flip=0.5)
    shared = batches_of(data, flip=0.5, workers=workers, start_step=start_step)
    assert len(alone) == 2
    for one, other in zip(alone[start_step:], shared, strict=True):
        assert one.names == other.names
        for a, b in zip(one.targets, other.targets, strict=True):
            a_masks, b_masks = training_masks(a), training_masks(b)
            assert torch.equal(a_masks.bitmaps, b_masks.bitmaps)
            assert np.array_equal(a_masks.polygons.points, b_masks.polygons.points)
            assert np.array_equal(a_masks.polygons.parts, b_masks.polygons.parts)
            assert np.array_equal(a_masks.polygons.corners, b_masks.polygons.corners)


def test_batches_of_polygons_are_smaller(tmp_path: Path) -> None:
    """Than those with the same masks as codes, in pixels of the batch."""
    rng = np.random.default_rng(0)
    outlines = [random_outlines(rng) for _ in range(8)]
    (drawn_batch, _) = batches_of(dataset(tmp_path / "a", [[{"segmentation": o} for o in outlines]]), short=400)
    (coded_batch, _) = batches_of(dataset(tmp_path / "b", [[{"segmentation": runs(o)} for o in outlines]]), short=400)
    assert drawn_batch.packed_masks is not None
    assert coded_batch.packed_masks is not None
    assert drawn_batch.polygons is not None
    assert drawn_batch.packed_masks.numel() == 0
    assert drawn_batch.polygons.points.nbytes < coded_batch.packed_masks.nbytes / 10


@pytest.mark.parametrize(
    ("segmentation", "outlines"),
    [
        ([SQUARE], [SQUARE]),
        ([SQUARE, [1.0, 2, 3, 4]], [SQUARE]),  # a stray line
        ([[[20, 10], [60, 10], [60, 50], [20, 50]]], [SQUARE]),  # points
        (runs([SQUARE]), []),
        ([SQUARE[:2] * 10_000 + SQUARE], None),  # too many corners to draw in every proposal
    ],
    ids=["polygon", "line", "points", "code", "corners"],
)
def test_which_objects_have_polygons(tmp_path: Path, segmentation: Any, outlines: list[list[float]] | None) -> None:
    box = {"bbox": [20, 10, 40, 40]}
    root = tmp_path / "data"
    dataset(root, [[{"segmentation": [SQUARE]}]])
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"segmentation": segmentation, **box}
    path.write_text(json.dumps(content))
    masks: Any = open_dataset(root, masks=True)[0].target.masks
    polygons = masks.polygons
    found = [] if polygons is None or not polygons.parts.any() else polygons.points.ravel().tolist()
    assert found == [value for outline in outlines or [] for value in outline]
    (target,) = batches_of(open_dataset(root, masks=True))[0].targets
    assert len(training_masks(target).bitmaps) == (not outlines)
