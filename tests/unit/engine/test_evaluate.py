from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
from PIL import Image
from torch import Tensor

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.engine.detector import Detector
from vovnet.engine.distributed import Workers
from vovnet.engine.evaluate import detect_dataset, evaluate
from vovnet.masks import decode, encode
from vovnet.metrics.coco import evaluate_coco
from vovnet.metrics.confusion import confusion_matrix, image_errors
from vovnet.metrics.voc import evaluate_voc
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.preprocessing import Preprocessing
from vovnet.report.evaluation import write_evaluation
from vovnet.structures import Detections, Target

from ..small_disk import small_disk
from . import masking

NAMES = ("cat", "dog")
HEIGHT, WIDTH = 48, 64


class ScriptedModel(DetectionModel):
    """Recognises an image by its brightness and detects what `script` says: (x1, y1, x2, y2), label, score."""

    num_classes = len(NAMES)
    preprocessing = Preprocessing((8, 8), mean=(0.0, 0.0, 0.0))

    def __init__(self, script: Sequence[Sequence[tuple[tuple[int, int, int, int], int, float]]]) -> None:
        super().__init__()
        self.script = script
        self.batch_sizes: list[int] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert not self.training
        self.batch_sizes.append(len(images))
        return {"image": (images.mean(dim=(1, 2, 3)) / 10).round().long()}

    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float = 0.01,
        top_k: int = 200,
    ) -> list[Detections]:
        found = []
        for image, size in zip(outputs["image"].tolist(), image_sizes, strict=True):
            boxes, labels, scores = zip(*self.script[image], strict=True) if self.script[image] else ((), (), ())
            found.append(
                Detections(
                    torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                    torch.tensor(labels, dtype=torch.int64),
                    torch.tensor(scores, dtype=torch.float32),
                    size,
                )
            )
        return found


A, B, C = (0, 0, 20, 20), (30, 5, 50, 45), (10, 10, 60, 40)
TRUTH = [
    Target.make([A, B], [0, 1]),
    Target.make([C], [0]),
    Target.make(),
    Target.make([A, C], [1, 0], difficult=[True, False]),
    Target.make([B], [1]),
]
SCRIPT = [
    [(A, 0, 0.9), (B, 1, 0.8)],  # both right
    [(C, 1, 0.7)],  # taken for a dog
    [(B, 0, 0.6)],  # a false alarm
    [(A, 1, 0.95), (C, 0, 0.55)],  # the difficult one does not count
    [],  # missed
]


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Five images of brightness 0, 10, … 40 and different heights."""
    samples = []
    for index, target in enumerate(TRUTH):
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.full((HEIGHT + index, WIDTH, 3), 10 * index, dtype=np.uint8)).save(path)
        samples.append(Sample(path, f"{index}", target))
    return DetectionDataset(tmp_path, "voc", "test", NAMES, (1, 2), tuple(samples))


def scripted() -> Detector:
    return Detector(ScriptedModel(SCRIPT), NAMES, (1, 2))


def run_detect(dataset: DetectionDataset, batch_size: int, group: Workers | None = None) -> list[Detections]:
    group = group or Workers(0, 1, torch.device("cpu"))
    return detect_dataset(scripted(), dataset, batch_size=batch_size, workers=0, group=group)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_detections_come_in_the_order_of_the_images(dataset: DetectionDataset, batch_size: int) -> None:
    found = run_detect(dataset, batch_size)
    assert [item.image_size for item in found] == [(HEIGHT + index, WIDTH) for index in range(5)]
    for item, expected in zip(found, SCRIPT, strict=True):
        assert [tuple(box) for box in item.boxes.tolist()] == [box for box, _, _ in expected]
        assert item.labels.tolist() == [label for _, label, _ in expected]
        assert item.scores.tolist() == pytest.approx([score for _, _, score in expected])


def test_loader_processes_change_nothing(dataset: DetectionDataset) -> None:
    detector, seen = scripted(), []
    group = Workers(0, 1, torch.device("cpu"))
    found = detect_dataset(detector, dataset, batch_size=2, workers=1, group=group, on_image=seen.append)
    assert detector.model.batch_sizes == [2, 2, 1]
    assert seen == [2, 4, 5]
    for item, expected in zip(found, run_detect(dataset, 5), strict=True):
        assert torch.equal(item.boxes, expected.boxes)


def test_several_processes_share_the_images(dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two processes sees every second image; together they give all in order."""
    alone = run_detect(dataset, 2)
    handed: dict[int, list[Detections]] = {}

    def gather(group: Workers, found: list[Detections]) -> list[list[Detections]]:
        handed[group.rank] = found
        return [alone[0::2], alone[1::2]]

    monkeypatch.setattr(Workers, "gather", gather)
    for rank in (0, 1):
        together = run_detect(dataset, 2, Workers(rank, 2, torch.device("cpu")))
        assert [item.image_size for item in together] == [item.image_size for item in alone]
        assert [item.image_size for item in handed[rank]] == [item.image_size for item in alone[rank::2]]


def test_the_figures_are_those_of_the_metrics(dataset: DetectionDataset) -> None:
    result = evaluate(scripted(), dataset, batch_size=3, workers=0)
    found, num_classes = result.detections, len(NAMES)
    assert result.score_threshold == 0.5
    assert result.images_per_s > 0
    voc = evaluate_voc(found, TRUTH, num_classes)
    assert (result.voc.mean_ap11, result.voc.mean_ap_area) == (voc.mean_ap11, voc.mean_ap_area)
    assert result.coco.figures == evaluate_coco(found, TRUTH, num_classes).figures
    assert np.array_equal(result.confusion, confusion_matrix(found, TRUTH, num_classes, score_threshold=0.5))
    assert np.array_equal(result.errors, image_errors(found, TRUTH, score_threshold=0.5))

    # By hand. Cats: right, false alarm, right of three objects; dogs: right, wrong of two that are not difficult.
    cat, dog = voc.classes
    assert (cat.n_objects, dog.n_objects) == (3, 2)
    assert cat.ap_area == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert dog.ap_area == pytest.approx(1 / 2)
    assert result.confusion.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert result.errors.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_the_threshold_moves_the_confusion_but_not_the_precision(dataset: DetectionDataset) -> None:
    low, high = (evaluate(scripted(), dataset, workers=0, score_threshold=threshold) for threshold in (0.5, 0.85))
    assert low.voc.mean_ap11 == high.voc.mean_ap11
    assert high.confusion.tolist() == [[1, 0, 2], [0, 0, 2], [0, 0, 0]]


def test_the_dict_is_json_and_holds_the_figures(dataset: DetectionDataset) -> None:
    result = evaluate(scripted(), dataset, workers=0)
    content = json.loads(json.dumps(result.to_dict()))
    assert (content["split"], content["images"]) == ("test", 5)
    assert content["voc07_map"] == result.voc.mean_ap11
    assert content["classes"]["cat"]["objects"] == 3
    assert content["classes"]["dog"]["voc_area_ap"] == pytest.approx(1 / 2)
    assert len(content["coco"]) == 12
    assert content["confusion"] == {"score_threshold": 0.5, "matrix": result.confusion.tolist()}


def test_a_broken_image_is_named_with_the_remedy(dataset: DetectionDataset) -> None:
    path = dataset[3].image_path
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"3\.png is damaged or cut short .*: fetch it again or remove it"):
        evaluate(scripted(), dataset, workers=0)


def test_files(dataset: DetectionDataset, tmp_path: Path) -> None:
    """The worst images are those with mistakes, most first; a second run leaves nothing of the first."""
    folder = tmp_path / "out"
    result = evaluate(scripted(), dataset, workers=0)
    write_evaluation(result, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png", "confusion.svg", "detections.json", "evaluation.html", "evaluation.json",
        "precision_recall.png", "precision_recall.svg", "worst",
    ]  # fmt: skip
    assert sorted(path.name for path in (folder / "worst").iterdir()) == ["01_1.jpg", "02_2.jpg", "03_4.jpg"]
    with Image.open(folder / "worst" / "02_2.jpg") as shown:
        assert shown.size == (WIDTH, HEIGHT + 2)
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    detections = json.loads((folder / "detections.json").read_text())
    assert len(detections) == 6
    assert detections[0] == {"image_id": "0", "category_id": 1, "bbox": [0, 0, 20, 20], "score": 0.9}

    write_evaluation(result, folder, worst=1)
    assert [path.name for path in (folder / "worst").iterdir()] == ["01_1.jpg"]


def test_a_small_disk_keeps_all_of_an_older_evaluation(dataset: DetectionDataset, tmp_path: Path) -> None:
    """Also the images that the new one would remove, because its own come first."""
    result = evaluate(scripted(), dataset, workers=0)
    write_evaluation(result, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    largest = max(
        len(content) for path, content in before.items() if path.suffix != ".html"
    )  # of a page with all images
    for room in (10, largest // 2, largest - 1):
        with pytest.raises(OSError, match=r"could not write .*free some disk space"), small_disk(room):
            write_evaluation(result, tmp_path / "out", worst=1)
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("stem", ["a" * 251, "é" * 124 + "e", "n\nl"])
def test_the_longest_name_has_a_worst_image(dataset: DetectionDataset, tmp_path: Path, stem: str) -> None:
    result = evaluate(scripted(), dataset, workers=0)
    path = dataset[1].image_path
    renamed = path.rename(path.with_name(f"{stem}{path.suffix}"))
    samples = [replace(one, image_path=renamed) if one.image_path == path else one for one in dataset]
    write_evaluation(replace(result, dataset=replace(dataset, samples=tuple(samples))), tmp_path / "out", worst=1)
    (name,) = os.listdir(tmp_path / "out" / "worst")
    assert name.startswith(f"01_{stem[:100]}")


def ellipses() -> Detector:
    return Detector(masking.EllipseModel(), masking.NAMES, (3, 5))


SIZES = [(80, 120), (120, 80), (160, 240), (60, 200)]


@pytest.fixture
def masked(tmp_path: Path) -> DetectionDataset:
    """Images of four sizes. Their objects fill the boxes in which the detector finds ellipses."""
    root, samples = tmp_path / "masked", []
    root.mkdir()
    for index, size in enumerate(SIZES):
        path = root / f"{index}.png"
        pixels = np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        target = Target.make(masking.boxes_of(size), masking.LABELS, masks=encode(masking.rectangles(size)))
        samples.append(Sample(path, index, target, size))
    return DetectionDataset(root, "coco", "val", masking.NAMES, (3, 5), tuple(samples))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_images_of_different_sizes(masked: DetectionDataset, batch_size: int, workers: int) -> None:
    detector, group = ellipses(), Workers(0, 1, torch.device("cpu"))
    found = detect_dataset(detector, masked, batch_size=batch_size, workers=workers, group=group)
    assert [item.image_size for item in found] == SIZES
    together = {1: [1, 1, 1, 1], 3: [2, 1, 1], 4: [2, 1, 1]}
    assert [shape[0] for shape in detector.model.seen] == together[batch_size]
    for index, item in enumerate(found):
        (alone,) = detect_dataset(
            detector, replace(masked, samples=masked.samples[index : index + 1]), batch_size=1, workers=0, group=group
        )
        torch.testing.assert_close(item.scores, alone.scores, rtol=1e-5, atol=1e-6)
        assert item.masks == alone.masks


def test_boxes_and_masks_have_figures_of_their_own(masked: DetectionDataset) -> None:
    result = evaluate(ellipses(), masked, batch_size=3, workers=0)
    targets = [sample.target for sample in masked]
    assert result.coco.figures["AP"] == 1
    assert result.coco_masks == evaluate_coco(result.detections, targets, 2, masks=True)
    # By hand: an ellipse covers π / 4 = 0.785 of its box, which is enough for six of the ten thresholds.
    assert result.coco_masks is not None
    assert result.coco_masks.figures["AP"] == pytest.approx(0.6)
    assert [result.coco_masks.figures[name] for name in ("AP50", "AP75")] == [1, 1]
    content = json.loads(json.dumps(result.to_dict()))
    assert content["coco_masks"] == result.coco_masks.figures
    assert content["classes"]["dust"]["coco_ap"] == 1
    assert content["classes"]["dust"]["mask_ap"] == pytest.approx(0.6)
    assert content["classes"]["dust"]["mask_ap50"] == 1


def test_masks_are_compared_only_where_both_sides_have_them(
    masked: DetectionDataset, dataset: DetectionDataset
) -> None:
    boxes_only = replace(
        masked, samples=tuple(replace(one, target=replace(one.target, masks=None)) for one in masked.samples)
    )
    result = evaluate(ellipses(), boxes_only, workers=0)
    assert result.coco_masks is None
    assert result.coco.figures["AP"] == 1
    assert result.to_dict()["coco_masks"] is None
    boxes_found = evaluate(scripted(), dataset, workers=0)
    assert boxes_found.coco_masks is None
    assert boxes_found.to_dict()["classes"]["cat"]["mask_ap"] is None


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_files_show_masks(masked: DetectionDataset, tmp_path: Path) -> None:
    result = evaluate(ellipses(), masked, workers=0)
    folder = tmp_path / "out"
    write_evaluation(result, folder)
    entries = json.loads((folder / "detections.json").read_text())
    found = result.detections[0]
    assert found.masks is not None
    for entry, bitmap in zip(entries, decode(found.masks), strict=False):
        assert np.array_equal(pycocotools.mask.decode(entry["segmentation"]), bitmap)

    for name, masks in (("with", encode), ("without", lambda bitmaps: None)):
        samples = [
            replace(one, target=replace(one.target, masks=masks(masking.ellipses(size))))
            for one, size in zip(masked, SIZES, strict=True)
        ]
        shown = replace(masked, samples=tuple(samples))
        write_evaluation(replace(result, dataset=shown, score_threshold=1.0, errors=result.errors + 1), tmp_path / name)
    for name in ("01_0.jpg", "04_3.jpg"):  # a missed object has an outline, where its mask is known
        assert (tmp_path / "with/worst" / name).read_bytes() != (tmp_path / "without/worst" / name).read_bytes()
