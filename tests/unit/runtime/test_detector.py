"""Images, folders and videos through the detector without PyTorch."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import vovnet
from vovnet import run_lengths
from vovnet.engine.predicting.prediction import Prediction
from vovnet.errors import UsageError
from vovnet.masks import RleMasks, to_polygons
from vovnet.media.prediction_files import PredictionWriter
from vovnet.media.results import Failure
from vovnet.media.video import VideoWriter, video_info
from vovnet.runtime import Detections, Detector, load
from vovnet.runtime.detections import Masks
from vovnet.runtime.detector import codes_of
from vovnet.runtime.selection import Arrays
from vovnet.runtime.session import Rows, Session

from .tiny_detector import TINY, write_tiny

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture
def detector(tiny: Path) -> Detector:
    return load(tiny, threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, grey in (("a.png", 51), ("b.jpg", 204), ("c.bmp", 0)):
        Image.new("RGB", (40, 20), (grey,) * 3).save(tmp_path / "images" / name)
    return tmp_path / "images"


def grey(value: int, height: int = 20, width: int = 40) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def test_what_is_found_is_in_pixels_of_the_image(detector: Detector) -> None:
    found = detector.predict(grey(51), score_threshold=0.1)
    assert found.names == ["dark", "light"]
    np.testing.assert_allclose(found.scores, [0.8, 0.2], atol=1e-6)
    np.testing.assert_array_equal(found.boxes, [[20, 0, 40, 20], [0, 0, 20, 20]])
    assert (found.image_size, found.source, found.masks, len(found)) == ((20, 40), "0", None, 2)
    assert (found.boxes.dtype, found.labels.dtype, found.scores.dtype) == (np.float32, np.int64, np.float32)
    assert found[found.labels == 1].names == ["light"]


def test_every_form_of_an_image(detector: Detector, folder: Path) -> None:
    path = folder / "a.png"
    expected = detector.predict(path).scores.tolist()
    assert expected == pytest.approx([0.8])
    with Image.open(path) as image:
        for form in (str(path), path.read_bytes(), image, np.asarray(image), np.asarray(image)[:, :, 0]):
            assert detector.predict(form).scores.tolist() == expected


def test_a_list_of_images_and_folders(detector: Detector, folder: Path) -> None:
    found = detector.predict([folder, grey(255), folder / "b.jpg"], batch_size=2)
    assert [Path(item.source).name for item in found] == ["a.png", "b.jpg", "c.bmp", "3", "b.jpg"]
    assert [item.names for item in found] == [["dark"], ["light"], ["dark"], ["light"], ["light"]]
    assert detector.predict([]) == []
    with pytest.raises(ValueError, match="pass a list"):
        detector.predict(folder)


def test_an_image_from_a_url(detector: Detector, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"http://h/a.png": (folder / "a.png").read_bytes(), "http://h/b.png": b"no image"}
    monkeypatch.setattr("vovnet.download.download", answers.__getitem__)
    good, bad = detector.stream(list(answers))
    assert isinstance(good, Detections)
    assert good.draw().size == (40, 20)  # from the pixels that came, not from a second request
    assert good.stem == "a"
    assert isinstance(bad, Failure)
    assert "http://h/b.png did not send an image" in bad.reason


def test_threshold_top_k_and_classes(detector: Detector) -> None:
    image = grey(153)
    assert detector.predict(image, score_threshold=0.5).names == ["light"]
    assert detector.predict(image, score_threshold=0, top_k=1).names == ["light"]
    assert detector.predict(image, score_threshold=0, top_k=1, classes="dark").names == ["dark"]
    assert detector.predict(image, classes=[1, "dark"]).names == ["light", "dark"]
    with pytest.raises(ValueError, match="no class 'drak'; nearest is 'dark'"):
        detector.predict(image, classes="drak")
    with pytest.raises(ValueError, match="score_threshold must lie in 0…1"):
        detector.predict(image, score_threshold=1.5)
    with pytest.raises(ValueError, match="top_k and batch_size"):
        detector.stream(image, batch_size=0)


def test_a_broken_image_is_reported_and_the_others_are_done(detector: Detector, folder: Path) -> None:
    (folder / "b.jpg").write_bytes(b"\xff\xd8nonsense")
    results = list(detector.stream([folder, folder / "gone.png"]))
    assert [type(result) for result in results] == [Detections, Failure, Detections, Failure]
    with pytest.raises(ValueError, match=r"b\.jpg"):
        detector.predict([folder])
    with pytest.raises(FileNotFoundError, match=r"gone\.png' does not exist"):
        detector.predict(folder / "gone.png")


def test_images_are_read_only_a_little_ahead(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(value: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        read.append(1)
        return value

    monkeypatch.setattr("vovnet.runtime.detector.to_pixels", counting)
    results = detector.stream([grey(0)] * 100, batch_size=3)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 3 + 3 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_files_are_not_held_in_memory_but_arrays_are(detector: Detector, folder: Path) -> None:
    assert detector.predict(folder / "a.png").pixels is None
    assert detector.predict(grey(3)).pixels is not None
    (kept,) = detector.stream(folder / "a.png", keep_images=True)
    assert isinstance(kept, Detections)
    assert kept.pixels is not None


def test_a_video(detector: Detector, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for value in (20, 120, 220):
            writer.write_pixels(grey(value, 32, 48))
    found = list(detector.stream(tmp_path / "clip.mp4", score_threshold=0.0, classes="light"))
    assert [item.frame for item in found if isinstance(item, Detections)] == [0, 1, 2]
    scores = [float(item.scores[0]) for item in found if isinstance(item, Detections)]
    assert scores == pytest.approx([20 / 255, 120 / 255, 220 / 255], abs=0.03)
    with pytest.raises(ValueError, match="is a video: use predict_video or stream"):
        detector.predict(tmp_path / "clip.mp4")
    with PredictionWriter(tmp_path / "out") as written:
        for item in found:
            assert isinstance(item, Detections)
            written.write(item)
    assert video_info(tmp_path / "out/drawn/clip.mp4").frame_count == 3
    assert len(json.loads((tmp_path / "out/detections.json").read_text())) == 3
    frames = list(detector.predict_video(tmp_path / "clip.mp4", tmp_path / "drawn.mp4", score_threshold=0.0))
    assert [item.frame for item in frames] == [0, 1, 2]
    assert video_info(tmp_path / "drawn.mp4").frame_count == 3
    with pytest.raises(ValueError, match="would replace its source"):
        list(detector.predict_video(tmp_path / "clip.mp4", tmp_path / "clip.mp4"))


class _Sizes:
    """A session of a detector that keeps the ratio of the sides: it notes the batches it gets and finds nothing."""

    runtime = "onnxruntime"

    def __init__(self) -> None:
        self.info = replace(TINY, keep_ratio=True, image_size=(8, 16))
        self.shapes: list[tuple[int, ...]] = []

    def run(self, images: npt.NDArray[np.uint8], score_threshold: float) -> Rows:
        self.shapes.append(images.shape)
        count = len(images)
        boxes = np.tile(np.array([0, 0, 4, 4], np.float32), (count, 1))
        scores = np.full(count, 0.9, np.float32)
        return Rows(np.arange(count), boxes, np.zeros(count, np.int64), scores)


def test_images_of_one_input_size_form_a_batch() -> None:
    session: Session = _Sizes()
    wide, square = grey(0, 16, 32), grey(0, 20, 20)
    found = Detector(session).predict([wide, square, wide, square, square])
    assert session.shapes == [(2, 3, 8, 16), (3, 3, 8, 8)]  # type: ignore[attr-defined]
    assert [item.image_size for item in found] == [(16, 32), (20, 20), (16, 32), (20, 20), (20, 20)]
    np.testing.assert_array_equal(found[0].boxes, [[0, 0, 8, 8]])
    np.testing.assert_array_equal(found[1].boxes, [[0, 0, 10, 10]])


def test_masks_are_pasted_drawn_and_written() -> None:
    detector = Detector(_Sizes())
    probabilities = np.ones((1, 28, 28), np.float32)
    probabilities[:, :, 14:] = 0
    box = np.array([[4, 2, 24, 18]], np.float32)
    arrays = Arrays(box, np.zeros(1, np.int64), np.ones(1, np.float32), (20, 40), probabilities)
    image = next(_read(detector, grey(90)))
    found = detector._detections(image, (arrays, codes_of(arrays)))
    assert found.masks is not None
    bitmap = found.masks.bitmap(0)
    assert bitmap[4:16, 6:12].all()
    assert not bitmap[:, 16:].any()
    (result,) = found.to_coco("x")
    assert result["segmentation"] == {"size": [20, 40], "counts": found.masks.codes[0].decode()}
    (outline,) = found.to_coco("x", contours=True)
    assert outline["segmentation"] == to_polygons(RleMasks(found.masks.codes, (20, 40)))[0]
    assert len(outline["segmentation"]) == 1
    nothing = Masks((run_lengths.compress([800]),), (20, 40))
    assert nothing.to_polygons() == [[]]
    drawn = found.draw_array()
    assert (drawn[8:12, 7:10] != 90).any(axis=2).all()
    assert found[np.zeros(1, bool)].masks == Masks((), (20, 40))


def _read(detector: Detector, pixels: npt.NDArray[np.uint8]) -> Iterator[object]:
    from vovnet.media.reading import SourceImage

    yield SourceImage("x.png", None, None, None, pixels, (20, 40), pixels)


def test_coco_results_and_drawing_are_those_of_the_engine(detector: Detector, folder: Path, tmp_path: Path) -> None:
    import torch

    found = detector.predict(folder / "a.png", score_threshold=0.1)
    twin = Prediction(
        boxes=torch.from_numpy(found.boxes),
        labels=torch.from_numpy(found.labels),
        scores=torch.from_numpy(found.scores),
        image_size=found.image_size,
        class_names=found.class_names,
        category_ids=found.category_ids,
        source=found.source,
    )
    assert found.to_coco() == twin.to_coco()
    assert found.to_coco(5)[0]["category_id"] == 3
    np.testing.assert_array_equal(found.draw_array(), twin.draw_array())
    for name, item in (("ours", found), ("theirs", twin)):
        with PredictionWriter(tmp_path / name) as writer:
            writer.write(item)
    for name in ("detections.json", "detections.csv", "drawn/a.png"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    found.draw(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (40, 20)


def test_files_that_are_no_exports(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx does not exist: name a file or folder that vovnet export"):
        load(tmp_path / "gone.onnx")
    with pytest.raises(FileNotFoundError, match="is no detector that vovnet exported: name"):
        load(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"1")
    with pytest.raises(ValueError, match="holds weights, which need PyTorch"):
        load(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="runs in onnxruntime or openvino, not in mnn"):
        load(tiny, runtime="mnn")


def test_the_shipped_detector_finds_what_it_finds_in_pytorch(tmp_path: Path) -> None:
    from onnx import save

    from ..shipped_network import bccd_network

    network, info = bccd_network()
    model = type(network)()
    model.CopyFrom(network)
    if not model.metadata_props:
        entry = model.metadata_props.add()
        entry.key, entry.value = "vovnet", info.to_json()
    save(model, tmp_path / "bccd.onnx")
    names = sorted((SAMPLES / "bccd/JPEGImages").glob("*.jpg"))[:3]
    ours, theirs = load(tmp_path / "bccd.onnx", threads=1).predict(names), vovnet.load("bccd").predict(names)
    assert sum(map(len, ours)) > 20
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.names == other.names
        # The resized images differ by at most a grey level.
        np.testing.assert_allclose(mine.scores, other.scores.numpy(), atol=0.01)
        np.testing.assert_allclose(mine.boxes, other.boxes.numpy(), atol=1)
        assert mine.image_size == other.image_size


def test_the_content_of_a_file_may_be_damaged(detector: Detector) -> None:
    content = io.BytesIO()
    Image.fromarray(grey(7)).save(content, "PNG")
    with pytest.raises(ValueError, match="the image is damaged or cut short"):
        detector.predict(content.getvalue()[:-30])
    with pytest.raises(TypeError, match="an image must be a PIL image, NumPy array"):
        detector.predict(object())  # type: ignore[call-overload]
