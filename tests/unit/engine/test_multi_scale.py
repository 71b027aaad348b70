from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.images import read_image
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.multi_scale import PUBLISHED, MultiScale, Scale, detect_multi_scale, published_multi_scale
from vovnet.errors import UsageError
from vovnet.models.detectors.contract import DetectionModel
from vovnet.models.detectors.merging import mirror, soft_nms, vote_boxes
from vovnet.models.detectors.refinedet import RefineDet
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections, Target
from vovnet.zoo import create_model

BCCD = Path(__file__).parents[3] / "samples" / "bccd" / "JPEGImages"


class ToyBackbone(nn.Module):
    """Maps of strides 8, 16 and 32, of 8 channels each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, x: Tensor) -> list[Tensor]:
        c3 = self.stem(x / 50)
        c4 = nn.functional.max_pool2d(c3, 2)
        return [c3, c4, nn.functional.max_pool2d(c4, 2)]


def make_toy(size: int = 320) -> RefineDet:
    """A network that finds something everywhere."""
    torch.manual_seed(0)
    model = RefineDet(ToyBackbone(), (8, 8, 8), 3, Preprocessing((size, size)), residual=False).eval()
    with torch.no_grad():
        for head in model.odm:
            head.cls.weight.mul_(40)
    return model


class Scripted(RefineDet):
    """Finds in each input what the script says for its (height, width), in the image's pixels, and notes the input."""

    def __init__(self, script: dict[tuple[int, int], list[list[float]]]) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.zeros(1))
        self.preprocessing = Preprocessing((320, 320), mean=(0.0, 0.0, 0.0), channel_order="RGB")
        self.script, self.seen = script, []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.seen.append(images)
        return {"images": images}

    def decode(self, outputs: Any, image_sizes: Any, *, input_size: Any = None, **options: Any) -> list[Detections]:
        assert not options  # the whole single-scale test
        assert input_size == tuple(outputs["images"].shape[-2:])
        boxes = torch.tensor(self.script[input_size], dtype=torch.float32).reshape(-1, 4)
        labels, scores = torch.zeros(len(boxes)).long(), torch.full((len(boxes),), 0.5)
        return [Detections(boxes, labels, scores, size) for size in image_sizes]


def detector_of(model: DetectionModel) -> Detector:
    return Detector(model, ("a", "b", "c"), (1, 2, 3))


def half_white(height: int, width: int) -> Tensor:
    """White on the left half, black on the right."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, :, : width // 2] = 255
    return image


# The published tables: (height, width) for an image that lies, bound of the shorter side, bound of the longer side.
TABLES = {
    (320, "coco"): [
        ((320, 320), None, None), ((192, 320), None, None), ((192, 192), None, 32), ((384, 384), 160, None),
        ((448, 448), 128, None), ((512, 512), 96, None), ((576, 576), 64, None), ((640, 640), 48, None),
        ((704, 704), 32, None),
    ],
    (512, "coco"): [
        ((512, 512), None, None), ((384, 512), None, None), ((256, 256), None, None), ((384, 384), None, None),
        ((640, 640), 224, None), ((768, 768), 192, None), ((896, 896), 128, None), ((1024, 1024), 96, None),
        ((1152, 1152), 64, None),
    ],
}  # fmt: skip
TABLES[320, "voc"] = [row for row in TABLES[320, "coco"] if row[0] != (640, 640)]
TABLES[512, "voc"] = [row for row in TABLES[512, "coco"] if row[0][1] not in (640, 1024, 1152)]


@pytest.mark.parametrize(("size", "data"), list(PUBLISHED))
def test_published_tables(size: int, data: Any) -> None:
    test = published_multi_scale(make_toy(size), data)
    assert [(s.input_size((30, 40)), s.shorter_below, s.longer_above) for s in test.scales] == TABLES[size, data]
    assert test.soft_vote == (data == "coco")
    assert all(side % 64 == 0 for scale in test.scales for side in scale.input_size((40, 30)))


def test_the_longer_side_lies_as_the_images() -> None:
    ratio = Scale(320, short=192)
    assert [ratio.input_size(size) for size in ((100, 101), (101, 100), (100, 100))] == [
        (192, 320), (320, 192), (320, 192),
    ]  # fmt: skip
    assert Scale(384).input_size((100, 700)) == (384, 384)


def test_every_scale_sees_the_image_plain_and_mirrored() -> None:
    scales = (Scale(128, short=64), Scale(192))
    model = Scripted({(64, 128): [], (192, 192): []})
    found = detect_multi_scale(detector_of(model), half_white(80, 120), MultiScale(scales))
    assert len(found) == 0
    assert [tuple(images.shape) for images in model.seen] == [(2, 3, 192, 192), (2, 3, 64, 128)]  # the largest first
    for plain, mirrored in model.seen:
        assert plain[:, :, :20].min() == 255
        assert plain[:, :, -20:].max() == 0
        assert torch.equal(mirrored, plain.flip(-1))


def test_boxes_of_the_mirrored_image_are_turned_back() -> None:
    model = Scripted({(64, 64): [[10, 20, 50, 80]]})
    found = detect_multi_scale(detector_of(model), half_white(100, 300), MultiScale((Scale(64),)))
    assert sorted(found.boxes.tolist()) == [[10, 20, 50, 80], [250, 20, 290, 80]]
    assert found.image_size == (100, 300)


def test_each_scale_has_its_bounds_in_the_images_pixels() -> None:
    """Boxes in the middle of the image, so that the mirrored run finds the same; 32×32, 33×33 and 63×63 pixels."""
    of_32, of_33, of_63 = ([150 - half, 10, 150 + half, 10 + 2 * half] for half in (15.5, 16, 31))
    script = {(192, 192): [of_32, of_33], (256, 256): [of_32, of_33, of_63]}
    big = MultiScale((Scale(192, longer_above=32),))
    assert detect_multi_scale(detector_of(Scripted(script)), half_white(100, 300), big).boxes.tolist() == [of_33]
    small = MultiScale((Scale(256, shorter_below=33),))
    assert detect_multi_scale(detector_of(Scripted(script)), half_white(100, 300), small).boxes.tolist() == [of_32]


def test_all_runs_vote_together() -> None:
    a, b = [100, 0, 199, 9], [100, 0, 199, 4]  # IoU 0.5; symmetrical about 149.5, the image is 299 wide
    model = Scripted({(64, 64): [a], (128, 128): [b]})
    scales = (Scale(64), Scale(128))
    hard = detect_multi_scale(detector_of(model), half_white(50, 299), MultiScale(scales))
    assert hard.boxes.tolist() == [[100, 0, 199, 6.5]]
    assert hard.scores.tolist() == [0.5]
    soft = detect_multi_scale(detector_of(model), half_white(50, 299), MultiScale(scales, soft_vote=True))
    assert soft.boxes.tolist() == [[100, 0, 199, 6.5], b, b]
    assert soft.scores.tolist() == [0.5, 0.25, 0.25]


def test_one_scale_of_the_networks_own_size_is_the_single_scale_test_twice() -> None:
    model, image = make_toy(128), read_image(next(iter(sorted(BCCD.glob("*.jpg")))))
    size = (image.shape[1], image.shape[2])
    with torch.inference_mode():
        (plain,) = model.decode(model(model.preprocessing([image])), [size])
        (turned,) = model.decode(model(model.preprocessing([image.flip(-1)])), [size])
    assert len(plain) > 50
    found = detect_multi_scale(detector_of(model), image, MultiScale((Scale(128),)))
    expected = vote_boxes([plain, mirror(turned)], soft=False)
    assert len(found) == pytest.approx(len(expected), abs=3)  # resized, then mirrored: a few pixels round otherwise
    torch.testing.assert_close(found.scores[:20], expected.scores[:20], rtol=0, atol=0.01)


@pytest.mark.parametrize("input_size", [(128, 128), (192, 320), (384, 64)])
def test_boxes_are_scaled_by_the_input_that_the_network_saw(input_size: tuple[int, int]) -> None:
    """With no deltas a box is its anchor, whatever the size of the input: here one of 32 pixels."""
    model = make_toy()
    height, width = input_size
    with torch.inference_mode():
        outputs = model(torch.zeros(1, 3, height, width))
    anchors = outputs["anchors_cxcywh"]
    fits = (anchors[:, 2:] == 32).all(dim=1) & (anchors[:, :2] > 16).all(dim=1)
    fits &= (anchors[:, 0] < width - 16) & (anchors[:, 1] < height - 16)
    index = int(fits.nonzero()[0])
    logits = torch.zeros_like(outputs["class_logits"])
    logits[:, :, 0], logits[0, index, 2] = 20.0, 30.0
    outputs |= {
        "class_logits": logits,
        "anchor_deltas": torch.zeros_like(outputs["anchor_deltas"]),
        "box_deltas": torch.zeros_like(outputs["box_deltas"]),
        "objectness_logits": torch.zeros_like(outputs["objectness_logits"]),
    }
    (found,) = model.decode(outputs, [(2 * height, 3 * width)], input_size=input_size)
    cx, cy = anchors[index, :2].tolist()
    assert found.labels.tolist() == [1]
    expected = torch.tensor([[3 * (cx - 16), 2 * (cy - 16), 3 * (cx + 16), 2 * (cy + 16)]])
    torch.testing.assert_close(found.boxes, expected, atol=1e-3, rtol=0)


def test_nothing_but_detections_outlives_a_scale() -> None:
    """When the network starts on a scale, every map and output of the scales before is gone."""
    model, alive_at_start = make_toy(128), []
    tensors: list[weakref.ref[Tensor]] = []

    def note(values: Any) -> None:
        tensors.extend(weakref.ref(value) for value in values)

    model.register_forward_pre_hook(lambda _, args: alive_at_start.append(sum(ref() is not None for ref in tensors)))
    model.backbone.register_forward_hook(lambda _, args, maps: note([*args, *maps]))
    # The anchors stay: they are made once for each size.
    model.register_forward_hook(lambda _, args, outputs: note(v for k, v in outputs.items() if "anchors_" not in k))
    scales = tuple(Scale(side) for side in (128, 192, 256, 192, 128))
    image = read_image(next(iter(sorted(BCCD.glob("*.jpg")))))
    found = detect_multi_scale(detector_of(model), image, MultiScale(scales, soft_vote=True))
    assert len(found) > 50
    assert len(tensors) == 8 * len(scales)
    assert alive_at_start == [0] * len(scales)


def test_runs_hold_no_storage_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small view of a large tensor would keep all of it."""
    from vovnet.engine import multi_scale as multiscale

    held = []

    def vote(runs: list[Detections], *, soft: bool) -> Detections:
        held.extend(value for run in runs for value in (run.boxes, run.labels, run.scores))
        return vote_boxes(runs, soft=soft)

    monkeypatch.setattr(multiscale, "vote_boxes", vote)
    detect_multi_scale(
        detector_of(make_toy(128)), half_white(100, 120), MultiScale((Scale(128), Scale(192, shorter_below=50)))
    )
    assert len(held) == 12
    assert all(value.untyped_storage().nbytes() <= value.numel() * value.element_size() for value in held)
    assert all(value.device.type == "cpu" for value in held)


def test_a_size_that_is_no_multiple_of_64_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be multiples of 64, such as 320 and 512, got 300×300"):
        detect_multi_scale(detector_of(make_toy()), half_white(64, 64), MultiScale((Scale(300),)))


def test_a_model_of_one_size_is_refused() -> None:
    model = create_model("dsod300_vovnet27_slim", num_classes=3)
    for run in (
        lambda: published_multi_scale(model, "voc"),
        lambda: detect_multi_scale(detector_of(model), half_white(64, 64), PUBLISHED[320, "voc"]),
    ):
        with pytest.raises(UsageError, match=r"as a RefineDet does; SSD takes only 300×300: test it at that scale"):
            run()
    with pytest.raises(UsageError, match=r"for inputs of 320×320 and 512×512, the model's is 384×384"):
        published_multi_scale(make_toy(384), "coco")
    with pytest.raises(ValueError, match="at least one scale"):
        MultiScale(())


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Two images of different sizes."""
    samples = []
    for index, size in enumerate(((100, 120), (140, 90))):
        path = tmp_path / f"{index}.png"
        Image.fromarray(half_white(*size).permute(1, 2, 0).numpy()).save(path)
        samples.append(Sample(path, f"{index}", Target.make([[5, 5, 50, 60]], [0])))
    return DetectionDataset(tmp_path, "voc", "test", ("a", "b", "c"), (1, 2, 3), tuple(samples))


def test_evaluate_at_many_scales(dataset: DetectionDataset) -> None:
    detector = detector_of(make_toy(128))
    test = MultiScale((Scale(128), Scale(128, short=64), Scale(192, shorter_below=40)), soft_vote=True)
    result = evaluate(detector, dataset, workers=0, multi_scale=test)
    for sample, found in zip(dataset, result.detections, strict=True):
        expected = detect_multi_scale(detector, read_image(sample.image_path), test)
        assert len(found) > 10
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
    content = result.to_dict()
    assert content["multi_scale"]["soft_vote"] is True
    assert content["multi_scale"]["scales"][1] == {
        "side": 128, "short": 64, "shorter_below": None, "longer_above": None,
    }  # fmt: skip


def test_evaluate_with_soft_nms(dataset: DetectionDataset) -> None:
    detector = detector_of(make_toy(128))
    plain, soft = (evaluate(detector, dataset, workers=0, soft_nms=value) for value in (False, True))
    assert (plain.to_dict()["soft_nms"], soft.to_dict()["soft_nms"]) == (False, True)
    for before, after in zip(plain.detections, soft.detections, strict=True):
        assert torch.equal(after.scores, soft_nms(before).scores)
        assert not torch.equal(after.scores, before.scores)


def test_soft_nms_and_many_scales_exclude_each_other(dataset: DetectionDataset) -> None:
    with pytest.raises(UsageError, match="choose one of them"):
        evaluate(detector_of(make_toy(128)), dataset, soft_nms=True, multi_scale=PUBLISHED[320, "coco"])
