"""Prediction, evaluation and measuring on the GPU."""

import pytest
import torch
from torchvision.ops import box_iou

import vovnet
from vovnet import create_backbone
from vovnet.data.formats import open_dataset
from vovnet.engine.evaluate import evaluate
from vovnet.profiling.cost import count_cost
from vovnet.profiling.measure import measure_models

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
    dataset = open_dataset(small_voc, "val")
    here, there = (evaluate(detector, dataset, workers=0).to_dict() for detector in detectors)
    assert there["voc07_map"] == pytest.approx(here["voc07_map"], abs=1e-3)
    assert there["coco"] == pytest.approx(here["coco"], abs=1e-3, nan_ok=True)
    assert there["confusion"]["matrix"] == here["confusion"]["matrix"]


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
