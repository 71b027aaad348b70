"""Prediction, evaluation and measuring on the GPU."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import vovnet
from vovnet import create_backbone
from vovnet.data.batches.device_drawing import ImagePart, collate_parts, draw_images
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.transforms import SSDAugmentation
from vovnet.engine.evaluate import evaluate
from vovnet.profiling.cost import count_cost
from vovnet.profiling.measure import measure_models
from vovnet.profiling.speed import time_interleaved
from vovnet.profiling.surroundings import watch
from vovnet.structures import Target

from ..small_voc import BCCD

IMAGES = sorted((BCCD / "JPEGImages").glob("*.jpg"))[:2]


@pytest.fixture(scope="module")
def detectors(device):
    """The shipped detector on the CPU and on the device."""
    return vovnet.load("bccd", device="cpu"), vovnet.load("bccd", device=str(device))


def test_predictions(detectors, device):
    here, there = (detector.predict(IMAGES, score_threshold=0.3) for detector in detectors)
    assert detectors[1].device.type == device.type
    for expected, found in zip(here, there, strict=True):
        assert len(expected) > 5
        assert found.labels.tolist() == expected.labels.tolist()
        assert found.boxes.device.type == found.scores.device.type == "cpu"
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-3)
        assert box_iou(found.boxes, expected.boxes).diagonal().min() > 0.99


def test_evaluation(detectors, small_voc):
    pytest.importorskip("hotcoco")
    dataset = open_dataset(small_voc, "val")
    here, there = (evaluate(detector, dataset, workers=0).to_dict() for detector in detectors)
    assert there["voc07_map"] == pytest.approx(here["voc07_map"], abs=1e-3)
    assert there["coco"] == pytest.approx(here["coco"], abs=1e-3, nan_ok=True)
    assert there["confusion"]["matrix"] == here["confusion"]["matrix"]


def test_images_drawn_on_the_device(device):
    augmentation = SSDAugmentation((150, 150), (123.0, 117.0, 104.0))
    parts = []
    for seed in range(6):
        image = read_image(IMAGES[seed % 2])
        target = Target.make([[100, 100, 400, 300]], [0])
        plan, _ = augmentation.plan(tuple(image.shape[-2:]), target, np.random.default_rng(seed))
        parts.append(ImagePart(plan.part_of(image).permute(1, 2, 0), plan, augmentation))
    undrawn = collate_parts(parts)
    expected, drawn = draw_images(undrawn), draw_images(undrawn.to(device))
    assert drawn.device.type == device.type
    assert expected.float().std() > 10
    assert ((drawn.cpu().int() - expected.int()).abs() > 1).float().mean() < 1e-3


def measured_in(runs, device, **options):
    torch.manual_seed(0)
    models = {"vovnet27_slim": create_backbone("vovnet27_slim").eval()}
    shapes = {"vovnet27_slim": (1, 3, 64, 64)}
    found = measure_models(models, shapes, device=device, repetitions=5, memory=False, runs=runs, **options)
    assert tuple(measurement.run for measurement in found) == runs
    for measurement in found:
        assert measurement.run_ratio_to == "eager"
        assert measurement.run_ratio.median > 0
    return found


def test_graphs(cuda):
    """Measuring refuses runs whose results differ from the eager ones."""
    eager, graph = measured_in(("eager", "graph"), cuda, batch_sizes=(2,))
    assert graph.cost.total == eager.cost.total
    assert graph.batches[2].median_ms > 0
    assert graph.compile_s is None


def test_compiled_models(compiler):
    _, compiled = measured_in(("eager", "compile"), compiler)
    assert compiled.compile_s > 0


def test_watching_the_gpu_does_not_slow_it_down(device):
    """Of the same passes, in turn with and without looking at the GPU, the quickest medians: at most 2 % more."""
    model = create_backbone("vovnet27_slim").eval().to(device)
    images = torch.randn(8 if device.type == "cuda" else 1, 3, 64, 64, device=device)

    def run():
        with torch.inference_mode():
            return model(images)

    repetitions = 200 if device.type == "cuda" else 3
    medians = {}
    for watched in (False, True) * (3 if device.type == "cuda" else 1):
        during = watch(device) if watched else None
        latency = time_interleaved({"model": run}, repetitions=repetitions, device=device, during=during)["model"]
        medians.setdefault(watched, []).append(latency.median_ms)
    assert all(median > 0 for both in medians.values() for median in both)
    if device.type == "cuda":
        assert min(medians[True]) < 1.02 * min(medians[False])


def test_measuring(device):
    """The counts are those of the CPU; each figure is there, or the reason why not."""
    names = ("vovnet27_slim", "mobilenet")
    models = {name: create_backbone(name).eval() for name in names}
    shapes = dict.fromkeys(names, (1, 3, 64, 64))
    memory = device.type == "cuda"  # on a CPU it takes a process of its own for each model
    found = measure_models(models, shapes, device=device, repetitions=5, batch_sizes=(2,), memory=memory)
    for measurement in found:
        expected = count_cost(models[measurement.name].cpu(), (1, 3, 64, 64))
        assert measurement.cost.total == expected.total
        assert measurement.cost.total.multiply_adds > 1e7
        assert measurement.conditions.device.startswith(device.type)
        assert measurement.conditions.peak.gflop_per_s > 1
        assert 1e-3 < measurement.latency.median_ms < 60e3
        assert measurement.batches.keys() == {2}
        assert len(measurement.layer_seconds) == len(measurement.cost.layers)
        assert measurement.energy is None or measurement.energy.reason
        if memory:
            use = measurement.memory
            assert use.parameters_mib < use.live_mib <= use.peak_mib * 1.01
            assert use.peak_mib <= use.reserved_mib
    assert found[1].ratio_to == "vovnet27_slim"
