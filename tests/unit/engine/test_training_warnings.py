"""What a run says about its data before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image

from vovnet import create_model
from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import require_objects
from vovnet.engine.config import load_config
from vovnet.engine.training.data import open_data
from vovnet.engine.training.warnings import count_objects, warn_before_training
from vovnet.models.anchors import make_anchors
from vovnet.models.detectors.contract import DetectionModel
from vovnet.structures import Target
from vovnet.zoo import SPECS

NAMES = ("bus", "car", "van")
Boxes = Sequence[tuple[float, float, float, float]]


def dataset_of(
    *images: Sequence[int], boxes: Boxes | None = None, size: tuple[int, int] = (600, 800)
) -> DetectionDataset:
    """Images whose objects have these labels, and the boxes given or large ones."""
    samples = tuple(
        Sample(Path(f"{n}.png"), n, Target.make(boxes or [(0, 0, 300, 300)] * len(labels), labels), size)
        for n, labels in enumerate(images)
    )
    return DetectionDataset(Path("d"), "voc", "train", NAMES, (1, 2, 3), samples)


class Model(DetectionModel):
    def __init__(self, smallest_anchor: float | None = 30) -> None:
        super().__init__()
        self.preprocessing = create_model("dsod300_vovnet27_slim", 1).preprocessing
        self.smallest_anchor = smallest_anchor


def said(caplog: pytest.LogCaptureFixture, *arguments: object, model: DetectionModel | None = None) -> list[str]:
    train, val = (*arguments, None)[:2]
    with caplog.at_level(logging.WARNING, "vovnet"):
        warn_before_training(train, val, "dsod300", model or Model())  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records]


def test_a_good_dataset_gives_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, dataset_of([0, 1], [2], []), dataset_of([0, 0])) == []


@pytest.mark.parametrize(
    ("train", "val", "words"),
    [
        ([[0, 2]], None, ["no training image has an object of 'car' (1 of 3 classes)"]),
        ([[1]], [[0], [1]], ["'bus', 'van' (2 of 3 classes); val has objects of 'bus', which"]),
        ([[0]], [[0]], ["'car', 'van' (2 of 3 classes)"]),
    ],
)
def test_classes_without_objects(
    caplog: pytest.LogCaptureFixture, train: list[list[int]], val: list[list[int]] | None, words: list[str]
) -> None:
    sentences = said(caplog, dataset_of(*train), None if val is None else dataset_of(*val))
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))


def test_crowds_teach_nothing() -> None:
    target = Target.make([(0, 0, 9, 9)] * 3, [0, 1, 1], crowd=[False, True, False])
    dataset = DetectionDataset(Path("d"), "coco", "t", NAMES, (1, 2, 3), (Sample(Path("a"), 1, target),))
    assert count_objects(dataset) == [1, 1, 0]


@pytest.mark.parametrize(
    ("side", "image", "smallest", "warns"),
    [
        (20, (600, 600), 30, True),  # 10 pixels of 300
        (21, (600, 600), 30, False),
        (40, (600, 600), 60, True),  # SSD-MobileNet's boxes begin at 60
        (21, (600, 2400), 30, True),  # squeezed to a quarter in width
        (8, (300, 300), None, False),
    ],
)
def test_objects_too_small_for_the_default_boxes(
    caplog: pytest.LogCaptureFixture, side: int, image: tuple[int, int], smallest: float | None, warns: bool
) -> None:
    box = (5, 5, 5 + side, 5 + side)
    sentences = said(caplog, dataset_of([0, 1, 2], boxes=[box] * 3, size=image), model=Model(smallest))
    assert len(sentences) == warns
    if warns:
        median = side * 300 / (image[0] * image[1]) ** 0.5
        assert f"smaller than {median:.1f} pixels (√area) in dsod300's input of 300 × 300 pixels" in sentences[0]
        assert "refinedet512" in sentences[0]


def test_the_aspect_ratio_that_a_detector_keeps_counts(caplog: pytest.LogCaptureFixture) -> None:
    """600 × 2400 becomes 333 × 1333: a box of 21 pixels has 11.7, not 400."""
    model = create_model("fasterrcnn_vovnet27_slim", 1)
    for side, count in ((18, 1), (21, 0)):
        caplog.clear()
        dataset = dataset_of([0, 1, 2], boxes=[(5, 5, 5 + side, 5 + side)] * 3, size=(600, 2400))
        assert len(said(caplog, dataset, model=model)) == count


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if not spec.backbones])
def test_the_smallest_anchor_is_that_of_the_network(name: str) -> None:
    model = create_model(name, 1)
    levels = model.anchors.levels  # type: ignore[union-attr]
    anchors = make_anchors(levels, [(1, 1)] * len(levels), (300, 300))  # type: ignore[arg-type]
    square = anchors[(anchors[:, 2] - anchors[:, 3]).abs() < 1e-3, 2]
    assert model.smallest_anchor == square.min()


@pytest.mark.parametrize("name", ["refinedet320_vovnet39", "maskrcnn_vovnet27_slim", "fasterrcnn_resnet50"])
def test_families_have_a_smallest_anchor(name: str) -> None:
    with torch.device("meta"):
        assert create_model(name, 1).smallest_anchor == 32


@pytest.mark.parametrize(
    "box", [(800, 10, 900, 300), (10, 600, 400, 900), (-400, 10, 0, 300), (10, -300, 400, 0), (4e4, 3e4, 5e4, 4e4)]
)
def test_objects_outside_their_image(caplog: pytest.LogCaptureFixture, box: tuple[float, ...]) -> None:
    inside = (790, 590, 1200, 900)
    sentences = said(caplog, dataset_of([0, 1, 2], boxes=[(0, 0, 300, 300), box, inside]))  # type: ignore[list-item]
    assert sentences == [
        "1 of 3 training objects are outside their image, so nothing is learnt from them (the first is "
        "in 0.png): `vovnet data check` lists them"
    ]


@pytest.mark.parametrize("stated", [(600, 800), (20, 20), None])
def test_a_split_whose_objects_are_all_outside_is_refused(tmp_path: Path, stated: tuple[int, int] | None) -> None:
    Image.new("RGB", (800, 600)).save(tmp_path / "a.png")
    for box, message in (
        ((900, 10, 950, 300), "no image of the split train has an object inside it"),
        ((700, 9, 950, 30), ""),
    ):
        sample = Sample(tmp_path / "a.png", 1, Target.make([box], [0]), stated)
        dataset = DetectionDataset(tmp_path, "voc", "train", NAMES, (1, 2, 3), (sample,))
        with pytest.raises(ValueError, match=message) if message else nullcontext():
            require_objects(dataset)


@pytest.mark.parametrize("form", ["no <object>", "only bad boxes"])
def test_training_without_any_object_is_refused(tmp_path: Path, small_voc: Path, form: str) -> None:
    for path in (small_voc / "Annotations").iterdir():
        text = path.read_text()
        head, _, rest = text.partition("<object>")
        bad = (
            "<object><name>RBC</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>2</xmax><ymax>9</ymax></bndbox></object>"
        )
        path.write_text(head + ("" if form == "no <object>" else bad) + "</annotation>")
        assert rest
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model: dsod300_vovnet27_slim\ndata: {{root: {small_voc}}}\nschedule: {{iterations: 1}}\n"
        "batch_size: 1\nmicro_batch_size: 1\n"
    )
    with pytest.raises(ValueError, match="no image of the split .*train.* has an object"):
        open_data(load_config(config, []))
