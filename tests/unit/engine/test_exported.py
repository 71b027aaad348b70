"""An exported file behaves like the weights it comes from: the same methods, the same detections."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vovnet
from vovnet.data.formats import open_dataset
from vovnet.data.images import read_image
from vovnet.data.video import VideoWriter
from vovnet.engine.evaluate import evaluate
from vovnet.engine.predicting.exported import ExportedDetector, ExportedResizing
from vovnet.engine.predicting.prediction import Prediction
from vovnet.engine.predicting.predictor import Predictor
from vovnet.media.pixels import read_pixels
from vovnet.media.results import Failure
from vovnet.runtime.detector import load as load_in_runner
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.resize import to_input
from vovnet.runtime.selection import select_images
from vovnet.runtime.session import Rows

SAMPLES = Path(__file__).parents[3] / "samples" / "bccd"
IMAGES = sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:3]


@pytest.fixture(scope="module")
def exported(bccd_onnx: Path) -> Predictor:
    return vovnet.load(bccd_onnx, threads=1)


@pytest.fixture(scope="module")
def weights() -> Predictor:
    return vovnet.load("bccd", "cpu")


def test_it_says_what_it_is(exported: Predictor, weights: Predictor, bccd_onnx: Path) -> None:
    assert isinstance(exported, ExportedDetector)
    assert exported.class_names == weights.class_names
    assert exported.category_ids == weights.category_ids
    assert exported.metadata == weights.metadata
    assert exported.masks == weights.masks
    assert exported.device == weights.device
    for name in ("image_size", "keep_ratio", "least_pixels"):
        assert getattr(exported.preprocessing, name) == getattr(weights.preprocessing, name)
    assert exported.running.to_dict() == {"runtime": "onnxruntime", "precision": "float32", "file": str(bccd_onnx)}
    assert weights.running.to_dict() == {"runtime": "torch", "precision": "float32", "file": None}
    assert str(exported.running) == "float32 in ONNX Runtime"


def test_it_finds_what_the_weights_find(exported: Predictor, weights: Predictor) -> None:
    pairs = zip(exported.predict(IMAGES), weights.predict(IMAGES), strict=True)
    for here, there in pairs:
        assert len(here) == len(there) > 5
        assert here.labels.tolist() == there.labels.tolist()
        # The two resize to within a grey level of each other.
        torch.testing.assert_close(here.scores, there.scores, rtol=0, atol=0.02)
        torch.testing.assert_close(here.boxes, there.boxes, rtol=0, atol=1.5)
        assert here.names == there.names
        assert (here.source, here.image_size) == (there.source, there.image_size)


def test_it_finds_on_the_same_pixels_what_the_weights_find(exported: Predictor, weights: Predictor) -> None:
    images = [weights.preprocessing.resize(read_image(path)) for path in IMAGES]
    sizes = [(480, 640)] * len(images)
    for here, there in zip(exported.detect(images, sizes), weights.detect(images, sizes), strict=True):
        assert here.labels.tolist() == there.labels.tolist()
        torch.testing.assert_close(here.scores, there.scores, rtol=0, atol=1e-4)
        torch.testing.assert_close(here.boxes, there.boxes, rtol=0, atol=0.01)


def test_it_equals_the_steps_in_numpy_bit_for_bit(exported: Predictor) -> None:
    assert isinstance(exported, ExportedDetector)
    info = exported.session.info
    for path in IMAGES:
        pixels = read_pixels(path)
        rows = exported.session.run(to_input(pixels, info)[None], 0.3)
        (expected,) = select_images(rows, [pixels.shape[:2]], info.image_size, score_threshold=0.3, top_k=100)
        result = exported.predict(path)
        assert np.array_equal(result.boxes.numpy(), expected.boxes)
        assert np.array_equal(result.scores.numpy(), expected.scores)
        assert np.array_equal(result.labels.numpy(), expected.labels)


def test_it_equals_the_runner_bit_for_bit(exported: Predictor, bccd_onnx: Path) -> None:
    runner = load_in_runner(bccd_onnx, threads=1)
    for classes in (None, ["WBC", "Platelets"]):
        here = exported.predict([SAMPLES / "JPEGImages" / path.name for path in IMAGES], classes=classes, top_k=9)
        there = runner.predict([*IMAGES], classes=classes, top_k=9)
        for one, other in zip(here, there, strict=True):
            assert np.array_equal(one.boxes.numpy(), other.boxes)
            assert np.array_equal(one.scores.numpy(), other.scores)
            assert np.array_equal(one.labels.numpy(), other.labels)
            assert one.to_coco() == other.to_coco()


def test_its_accuracy_is_that_of_the_weights(exported: Predictor, weights: Predictor, small_voc: Path) -> None:
    dataset = open_dataset(small_voc, "val", class_names=weights.class_names)
    here, there = (evaluate(detector, dataset, workers=0) for detector in (exported, weights))
    assert here.voc.mean_ap11 == pytest.approx(there.voc.mean_ap11, abs=5e-4)
    assert here.to_dict()["running"]["runtime"] == "onnxruntime"
    assert there.to_dict()["running"]["runtime"] == "torch"


def test_arrays_streams_videos_and_drawing(exported: Predictor, tmp_path: Path) -> None:
    pixels = read_pixels(IMAGES[0])
    assert torch.equal(exported.predict(pixels).boxes, exported.predict(IMAGES[0]).boxes)
    (tmp_path / "bad.jpg").write_text("no image")
    results = list(exported.stream([*IMAGES, tmp_path / "bad.jpg"], batch_size=2))
    assert [type(result) for result in results] == [Prediction, Prediction, Prediction, Failure]
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for path in IMAGES:
            writer.write(read_image(path))
    frames = list(exported.predict_video(tmp_path / "clip.mp4", tmp_path / "drawn.mp4"))
    assert [frame.frame for frame in frames] == [0, 1, 2]
    assert (tmp_path / "drawn.mp4").is_file()
    assert exported.predict(IMAGES[0]).draw().size == (640, 480)


def test_results_are_the_callers_own(exported: Predictor) -> None:
    first, again = exported.predict(IMAGES[0]), exported.predict(IMAGES[0])
    first.boxes.add_(1)
    assert torch.equal(first.boxes, again.boxes + 1)


def test_the_threshold_and_the_number_are_the_models_own_by_default(exported: Predictor) -> None:
    image = read_image(IMAGES[0])
    (own,), (few,) = exported.detect([image]), exported.detect([image], score_threshold=0.5, top_k=4)
    assert own.scores.min() < 0.3
    assert len(own) > len(few)
    assert torch.equal(few.scores, own.scores[:4])


def test_what_needs_the_network_in_pytorch_says_so(exported: Predictor, bccd_onnx: Path) -> None:
    with pytest.raises(ValueError, match=r"needs the network in PyTorch.*bccd\.onnx.*name the weights") as caught:
        _ = exported.model
    assert str(bccd_onnx) in str(caught.value)


def test_images_of_another_size_are_refused(exported: Predictor) -> None:
    image = torch.zeros(3, 200, 300, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"takes images of 300×300, got 200×300"):
        exported.detect([image], [(200, 300)])


class FakeSession:
    """Finds two objects in each image, with masks if it has any, and keeps the sides of images in ratio."""

    runtime = "mnn"

    def __init__(self, *, masks: bool = False) -> None:
        self.info = ExportInfo(
            detector="maskrcnn", class_names=("a", "b"), category_ids=(3, 7), image_size=(32, 48), keep_ratio=True,
            antialias=True, score_threshold=0.05, nms_threshold=0.5, candidates=100, top_k=100, masks=masks,
            precision="bf16", weights_sha256="0" * 64, vovnet="0.1.0",
        )  # fmt: skip
        self.batches: list[tuple[int, ...]] = []
        self.thresholds: list[float] = []

    def run(self, images: np.ndarray, score_threshold: float) -> Rows:
        self.batches.append(images.shape)
        self.thresholds.append(score_threshold)
        count, _, height, width = images.shape
        box = np.array([0, 0, width / 2, height], np.float32)
        return Rows(
            image=np.repeat(np.arange(count), 2),
            boxes=np.tile(box, (2 * count, 1)),
            labels=np.tile(np.array([0, 1]), count),
            scores=np.tile(np.array([0.4, 0.6], np.float32), count),
            masks=np.ones((2 * count, 28, 28), np.float32) if self.info.masks else None,
        )


def test_images_of_one_input_size_are_one_batch() -> None:
    session = FakeSession()
    detector = ExportedDetector(session, Path("x_mnn"))
    images = [np.zeros((*size, 3), np.uint8) for size in ((40, 60), (60, 40), (80, 120))]
    found = detector.predict(images)
    assert session.batches == [(2, 3, 32, 48), (1, 3, 48, 32)]
    assert [result.boxes[0].tolist() for result in found] == [[0, 0, 30, 40], [0, 0, 20, 60], [0, 0, 60, 80]]
    assert found[0].names == ["b", "a"]
    detector.detect([torch.zeros(3, 40, 60, dtype=torch.uint8)])
    assert session.thresholds == [0.3, 0.3, 0.05]


def test_masks_are_those_of_the_whole_image() -> None:
    pytest.importorskip("hotcoco")
    detector = ExportedDetector(FakeSession(masks=True), Path("x_mnn"))
    assert detector.masks
    result = detector.predict(np.zeros((40, 60, 3), np.uint8))
    assert result.masks is not None
    assert (result.masks.size, len(result.masks)) == ((40, 60), 2)
    assert result.masks.areas().tolist() == pytest.approx([40 * 30] * 2, rel=0.1)


def test_resizing_can_be_sent_to_the_processes_that_load_images() -> None:
    import pickle

    resizing = pickle.loads(pickle.dumps(ExportedResizing(FakeSession().info)))
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 80, 60), np.uint8))
    resized = resizing.resize(image)
    assert resized.shape == (3, 43, 32)
    assert torch.equal(resizing.resize(resized), resized)
    assert resizing.least_pixels == 32 * 32


def test_folders_and_the_files_in_them_are_the_same_export(bccd_onnx: Path, tmp_path: Path) -> None:
    from vovnet.weights.find import find_exported

    folder = tmp_path / "x_mnn"
    folder.mkdir()
    (folder / "model.mnn").touch()
    assert find_exported(folder) == find_exported(folder / "model.mnn") == folder
    assert find_exported(bccd_onnx) == bccd_onnx
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").touch()
    shutil.copy(bccd_onnx, run / "model.xml")
    for no_export in (
        run,
        tmp_path,
        tmp_path / "missing.onnx",
        "bccd",
        "https://host/x.onnx",
        run / "best.safetensors",
    ):
        assert find_exported(no_export) is None
