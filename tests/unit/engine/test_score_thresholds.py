"""Score thresholds from an evaluation to the weights, and from these to predictions and exported files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vovnet
from vovnet.data.formats import open_dataset
from vovnet.engine.evaluate import evaluate
from vovnet.engine.predicting.known_exports import KnownExport, remember
from vovnet.export.source import describe_export
from vovnet.metrics.voc import evaluate_voc
from vovnet.names import sample_images, shipped_weights
from vovnet.runtime.opening import open_session
from vovnet.structures import Detections
from vovnet.weights.detector import load_weights, store_thresholds

VALUES = (0.6, 0.45, 0.2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = Path(shutil.copy(shipped_weights()["bccd"], tmp_path / "best.safetensors"))
    store_thresholds(path, VALUES)
    return path


def test_predictions_use_them_unless_one_is_given(weights: Path) -> None:
    images = list(sample_images()[:2])
    plain, stored = (vovnet.load(source, "cpu", runtime="torch") for source in ("bccd", weights))
    assert (plain.score_thresholds, stored.score_thresholds) == (None, VALUES)
    for every, found in zip(
        plain.predict(images, score_threshold=0.05, top_k=1000), stored.predict(images), strict=True
    ):
        kept = every.scores > torch.tensor(VALUES)[every.labels]
        assert found.boxes.tolist() == every.boxes[kept].tolist()
        assert found.names == [name for name, keep in zip(every.names, kept.tolist(), strict=True) if keep]
    given, default = stored.predict(images[0], score_threshold=0.3), plain.predict(images[0])
    assert torch.equal(given.scores, default.scores)
    (best,) = stored.predict(images[:1], top_k=1)
    assert torch.equal(best.scores, stored.predict(images[0]).scores[:1])
    assert set(stored.predict(images[0], classes="WBC").names) <= {"WBC"}


def test_an_export_in_place_of_weights_uses_what_they_say_now(
    bccd_onnx: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "cache"))
    info = open_session(bccd_onnx, threads=1).info
    assert remember(KnownExport.of(bccd_onnx, info, runtime="onnxruntime", latency_ms=10))
    detector = vovnet.load(weights, "cpu", runtime="auto", threads=1)
    assert detector.running.file == str(bccd_onnx)
    assert (info.score_thresholds, detector.score_thresholds) == (None, VALUES)
    assert vovnet.load("bccd", "cpu", runtime="auto", threads=1).score_thresholds is None


def test_an_exported_file_carries_them(weights: Path) -> None:
    assert describe_export(load_weights(weights), "float32").score_thresholds == VALUES
    assert describe_export(load_weights("bccd"), "float32").score_thresholds is None


def test_they_give_the_best_f1_in_predictions(tmp_path: Path) -> None:
    """Evaluated, stored, and used: no other threshold finds more on these images."""
    detector = vovnet.load("bccd", "cpu", runtime="torch")
    dataset = open_dataset("samples/bccd", "val", class_names=detector.class_names)
    dataset = replace(dataset, samples=dataset.samples[:6])
    evaluation = evaluate(detector, dataset, workers=0)
    path = Path(shutil.copy(shipped_weights()["bccd"], tmp_path / "best.safetensors"))
    store_thresholds(path, evaluation.score_thresholds)
    predictor = vovnet.load(path, "cpu", runtime="torch")
    found: list[Detections] = list(predictor.predict([sample.image_path for sample in dataset]))
    voc = evaluate_voc(found, [sample.target for sample in dataset], len(dataset.class_names))
    for best, result in zip(evaluation.best_thresholds, voc.classes, strict=True):
        assert best is not None
        true_positives = result.precision[-1] * result.n_detections
        assert 2 * true_positives / (result.n_detections + result.n_objects) == pytest.approx(best.f1)
        assert np.isclose(result.recall[-1], best.recall)
