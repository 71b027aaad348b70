from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vovnet
from vovnet.data.dataset import DetectionDataset, Sample
from vovnet.data.formats import open_dataset
from vovnet.engine import stages
from vovnet.engine.detector import Detector
from vovnet.engine.evaluate import evaluate
from vovnet.engine.measure_by_name import measure_accuracy
from vovnet.engine.stages import STAGES, time_stages
from vovnet.masks import encode
from vovnet.structures import Detections, Target

from . import masking

SAMPLES = Path(__file__).parents[3] / "samples" / "bccd"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return vovnet.load("bccd", device="cpu")


@pytest.fixture
def few_warmups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MAX_WARMUP_PASSES", 1)


def test_the_stages_are_those_of_predict(
    detector: Detector, few_warmups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:2]
    drawn: list[tuple[Tensor, Detections]] = []

    def draw(pixels: Tensor, detections: Detections, class_names: tuple[str, ...]) -> None:
        assert class_names == detector.class_names
        drawn.append((pixels, detections))

    monkeypatch.setattr(stages, "draw_detections", draw)
    times = time_stages(detector, paths, repetitions=3)
    assert tuple(times) == STAGES
    assert [len(latency.seconds) for latency in times.values()] == [3] * 5
    assert len(drawn) == 1 + 3
    for (pixels, found), path in zip(drawn[1:], [paths[0], paths[1], paths[0]], strict=True):
        expected = detector.predict(path)
        assert len(expected) > 3
        assert torch.equal(pixels, expected.image())
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.labels, expected.labels)
        assert found.image_size == expected.image_size


def test_images_of_different_sizes_pass_one_by_one(few_warmups: None, tmp_path: Path) -> None:
    for place, (width, height) in enumerate([(60, 40), (40, 60), (300, 20)]):
        Image.new("RGB", (width, height), (90, 60, 30)).save(tmp_path / f"{place}.png")
    model = masking.EllipseModel()
    times = time_stages(Detector(model, masking.NAMES, (1, 2)), sorted(tmp_path.iterdir()), repetitions=4)
    assert model.seen[1:] == [(1, 3, 32, 48), (1, 3, 48, 32), (1, 3, 3, 48), (1, 3, 32, 48)]
    assert [len(latency.seconds) for latency in times.values()] == [4] * 5


class Clock:
    """A clock that only the stages move; the waits for the device are written down beside it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[str] = []

    def slow(self, name: str, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(*args: Any, **options: Any) -> Any:
            self.now += seconds
            self.events.append(name)
            return function(*args, **options)

        return slowed


class Scripted:
    """Finds one box in each image; `network_s` of the forward pass are taken in turn, the last of them from then on."""

    device = torch.device("cpu")
    class_names = ("cell",)

    def __init__(self, clock: Clock, network_s: list[float]) -> None:
        self.clock, self.network_s = clock, network_s
        self.prepare = clock.slow("prepare", 2, torch.stack)
        self.decode = clock.slow("decode", 8, self._decode)

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        self.clock.now += self.network_s.pop(0) if len(self.network_s) > 1 else self.network_s[0]
        self.clock.events.append("forward")
        return {"image": batch}

    def _decode(
        self, outputs: dict[str, Tensor], image_sizes: list[tuple[int, int]], **thresholds: float
    ) -> list[Detections]:
        assert thresholds == {"score_threshold": 0.3, "top_k": 100}  # those of `predict`
        assert [tuple(image.shape[1:]) for image in outputs["image"]] == image_sizes
        (size,) = image_sizes
        return [Detections(torch.tensor([[1.0, 1.0, 5.0, 5.0]]), torch.tensor([0]), torch.tensor([0.5]), size)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stages.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(stages, "synchronize", lambda device: clock.events.append(f"wait for {device}"))
    monkeypatch.setattr(stages, "read_image", clock.slow("read", 1, stages.read_image))
    monkeypatch.setattr(stages, "draw_detections", clock.slow("draw", 16, stages.draw_detections))
    return clock


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path)
    return path


def test_each_stage_has_its_own_time_and_none_is_lost(clock: Clock, image: Path) -> None:
    detector: Any = Scripted(clock, [4.0])
    times = time_stages(detector, [image], repetitions=2)
    assert {name: latency.seconds for name, latency in times.items()} == {
        "read image": (1, 1),
        "pre-process": (2, 2),
        "network": (4, 4),
        "decode + NMS": (8, 8),
        "draw": (16, 16),
    }
    passes = clock.events.count("forward")
    assert clock.now == passes * sum(latency.median_ms / 1e3 for latency in times.values())
    wait = "wait for cpu"
    steps = ("read", "prepare", "forward", "decode", "draw")
    assert clock.events == passes * [event for step in steps for event in (wait, step, wait)]


def test_warm_up_lasts_until_the_network_is_steady(clock: Clock, image: Path) -> None:
    detector: Any = Scripted(clock, [30.0, 20.0, 10.0, *[4.0] * 100])
    assert time_stages(detector, [image], repetitions=1)["network"].seconds == (4,)
    assert clock.events.count("forward") == 20 + 1  # the median does not mind the first three

    clock.events.clear()
    slowing: Any = Scripted(clock, [1.1**step for step in range(200)])
    time_stages(slowing, [image], repetitions=1)
    assert clock.events.count("forward") == 50 + 1


@pytest.mark.parametrize(("count", "repetitions"), [(0, 5), (1, 0)])
def test_nothing_to_time(detector: Detector, image: Path, count: int, repetitions: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 each, got {count} and {repetitions}"):
        time_stages(detector, [image] * count, repetitions=repetitions)


def test_accuracy_is_that_of_evaluate(detector: Detector) -> None:
    whole = open_dataset(SAMPLES, "all", class_names=detector.class_names)
    dataset = replace(whole, samples=whole.samples[:3])
    found = measure_accuracy(detector, dataset, workers=0)
    expected = evaluate(detector, dataset, workers=0)
    assert found.figures == {
        "AP": expected.coco.figures["AP"],
        "AP50": expected.coco.figures["AP50"],
        "VOC07": expected.voc.mean_ap11,
    }
    assert 0.5 < found.figures["AP50"] <= 1
    assert (found.data, found.split, found.images) == (SAMPLES.name, "all", 3)


def test_accuracy_of_masks(tmp_path: Path) -> None:
    Image.new("RGB", (240, 160), (90, 60, 30)).save(tmp_path / "0.png")
    size = (160, 240)
    masks = encode(masking.rectangles(size))
    sample = Sample(tmp_path / "0.png", 0, Target.make(masking.boxes_of(size), masking.LABELS, masks=masks), size)
    dataset = DetectionDataset(tmp_path, "coco", "val", masking.NAMES, (1, 2), (sample,))
    detector = Detector(masking.EllipseModel(), masking.NAMES, (1, 2))
    figures = measure_accuracy(detector, dataset, workers=0).figures
    assert figures == {"AP": 1, "AP50": 1, "VOC07": 1, "mask AP": pytest.approx(0.6)}  # see `EllipseModel`


def test_accuracy_needs_the_detectors_labels(detector: Detector) -> None:
    dataset = open_dataset(SAMPLES, "all", class_names=detector.class_names[::-1])
    with pytest.raises(ValueError, match="must be opened with the detector's classes"):
        measure_accuracy(detector, dataset)
