from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycocotools.mask
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vovnet.data.video import VideoWriter, read_frames
from vovnet.engine.detector import Detector
from vovnet.engine.distributed import choose_device
from vovnet.engine.predicting.prediction import Prediction
from vovnet.masks import RleMasks, decode, from_coco
from vovnet.media.results import Failure, make_image_id
from vovnet.media.video import video_info
from vovnet.models.preprocessing import Preprocessing
from vovnet.structures import Detections

from . import masking

NAMES = ("Platelets", "RBC", "WBC")
GRID = 4


class GridModel(nn.Module):
    """Two convolutions; one box a cell of a 4 × 4 grid, with the score of its best class."""

    preprocessing = Preprocessing((32, 32), mean=(100.0, 110.0, 120.0), std=(50.0, 50.0, 50.0))

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, len(NAMES), 1), nn.AdaptiveAvgPool2d(GRID)
        )
        self.batch_sizes: list[int] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert not torch.is_grad_enabled()
        self.batch_sizes.append(len(images))
        return {"class_logits": 3 * self.layers(images)}

    def decode(
        self,
        outputs: dict[str, Tensor],
        image_sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float | Tensor = 0.01,
        top_k: int = 200,
    ) -> list[Detections]:
        results = []
        for logits, (height, width) in zip(outputs["class_logits"], image_sizes, strict=True):
            scores, labels = logits.sigmoid().flatten(1).max(dim=0)
            rows, columns = torch.arange(GRID * GRID) // GRID, torch.arange(GRID * GRID) % GRID
            boxes = torch.stack([columns, rows, columns + 1, rows + 1], dim=1) / GRID
            boxes = boxes * torch.tensor([width, height, width, height])
            order = scores.argsort(descending=True)
            lowest = torch.as_tensor(score_threshold).expand(len(NAMES))[labels]
            order = order[scores[order] > lowest[order]][:top_k]
            results.append(Detections(boxes[order], labels[order], scores[order], (height, width)))
        return results


@pytest.fixture
def detector() -> Detector:
    return Detector(GridModel(), NAMES, (1, 2, 7), {"run": "none"})


def random_image(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(["b.png", "a.png", "c.png"]):
        Image.fromarray(random_image(seed, 40 + 8 * seed)).save(tmp_path / name)
    return tmp_path


def assert_same(first: Detections, second: Detections) -> None:
    assert first.image_size == second.image_size
    torch.testing.assert_close(first.boxes, second.boxes)
    torch.testing.assert_close(first.scores, second.scores, rtol=1e-4, atol=1e-5)
    assert first.labels.tolist() == second.labels.tolist()


def test_a_file_gives_one_prediction_in_its_own_pixels(detector: Detector, folder: Path) -> None:
    result = detector.predict(folder / "c.png", score_threshold=0.0)
    assert isinstance(result, Prediction)
    assert result.image_size == (56, 56)
    assert result.source == str(folder / "c.png")
    assert len(result) == GRID * GRID
    assert result.boxes.max() == 56
    assert result.names == [NAMES[label] for label in result.labels]
    assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)


def test_alone_equals_in_a_batch(detector: Detector, folder: Path) -> None:
    together = detector.predict([folder], score_threshold=0.0)
    assert [Path(result.source).name for result in together] == ["a.png", "b.png", "c.png"]
    assert [result.image_size[0] for result in together] == [48, 40, 56]
    for result in together:
        assert_same(result, detector.predict(result.source, score_threshold=0.0))


def test_batches_have_the_asked_size(detector: Detector) -> None:
    assert len(detector.predict([random_image(seed) for seed in range(5)], batch_size=2)) == 5
    assert detector.model.batch_sizes == [2, 2, 1]


def test_file_array_pil_and_tensor_agree(detector: Detector, folder: Path) -> None:
    pixels = random_image(1, 48)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = detector.predict(folder / "a.png", score_threshold=0.0)
    results = detector.predict([pixels, Image.fromarray(pixels), tensor, str(folder / "a.png")], score_threshold=0.0)
    assert [result.source for result in results] == ["0", "1", "2", str(folder / "a.png")]
    for result in results:
        assert_same(result, expected)
        assert torch.equal(result.image(), tensor)


def test_files_are_not_held_in_memory_but_arrays_are(detector: Detector, folder: Path) -> None:
    from_file, from_array = detector.predict([folder / "a.png", random_image(0)])
    assert from_file.pixels is None
    assert from_array.pixels is not None


def test_a_stream_holds_files_on_request(
    detector: Detector, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the command line needs: an annotated image without reading its file twice."""
    results = list(detector.stream([folder / "a.png"], keep_images=True, score_threshold=0.0))
    (expected,) = detector.stream([folder / "a.png"], score_threshold=0.0)
    (result,) = results
    assert isinstance(result, Prediction)
    assert isinstance(expected, Prediction)
    assert expected.pixels is None
    drawn = expected.draw_pixels()
    (folder / "a.png").unlink()
    assert torch.equal(result.draw_pixels(), drawn)


def test_threshold_top_k_and_classes(detector: Detector) -> None:
    everything = detector.predict(random_image(3), score_threshold=0.0)
    middle = everything.scores[7].item()
    above = detector.predict(random_image(3), score_threshold=middle)
    assert above.scores.tolist() == everything.scores[:7].tolist()
    assert (
        detector.predict(random_image(3), score_threshold=0.0, top_k=5).scores.tolist()
        == everything.scores[:5].tolist()
    )

    label = NAMES.index(everything.names[-1])
    wanted = everything[everything.labels == label]
    assert 1 <= len(wanted) < len(everything)
    for classes in (NAMES[label], [NAMES[label]], [label], label):
        result = detector.predict(random_image(3), score_threshold=0.0, classes=classes)
        assert result.scores.tolist() == wanted.scores.tolist()
    # The best of that class come although others score higher.
    assert everything.labels[0] != label
    one = detector.predict(random_image(3), score_threshold=0.0, classes=[label], top_k=1)
    assert one.scores.tolist() == wanted.scores[:1].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["rcb"]}, "nearest is 'RBC'"),
        ({"classes": "platelet"}, "nearest is 'Platelets'"),
        ({"classes": [3]}, "go from 0 to 2, got 3"),
        ({"classes": []}, "at least one of Platelets, RBC, WBC"),
        ({"score_threshold": 30}, "score_threshold must lie in 0…1, got 30"),
        ({"top_k": 0}, "at least 1, got 0 and 8"),
    ],
)
def test_wrong_options_fail_before_any_image(detector: Detector, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector.stream([random_image(0)], **options)
    assert detector.model.batch_sizes == []


def test_a_broken_image_is_reported_and_the_others_are_done(detector: Detector, folder: Path) -> None:
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:300])
    (folder / "b2.jpg").write_text("no image at all")
    results = list(detector.stream([folder], batch_size=2))
    assert [Path(result.source).name for result in results] == ["a.png", "b.png", "b2.jpg", "broken.png", "c.png"]
    assert [type(result) for result in results] == [Prediction, Prediction, Failure, Failure, Prediction]
    assert isinstance(results[2], Failure)
    assert "b2.jpg" in results[2].reason
    with pytest.raises(ValueError, match=r"b2\.jpg"):
        detector.predict(folder / "b2.jpg")
    with pytest.raises(ValueError, match=r"b2\.jpg"):
        detector.predict([folder])


def test_urls(detector: Detector, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"http://h/a.png": (folder / "a.png").read_bytes(), "http://h/b.png": b"no image"}
    monkeypatch.setattr("vovnet.download.download", answers.__getitem__)
    good, bad = detector.stream(list(answers), score_threshold=0.0)
    assert isinstance(good, Prediction)
    assert_same(good, detector.predict(folder / "a.png", score_threshold=0.0))
    assert good.draw().size == (56, 48)  # from the pixels that came, not from a second request
    assert good.source == "http://h/a.png"
    assert isinstance(bad, Failure)
    assert "http://h/b.png did not send an image" in bad.reason


def test_an_image_without_pixels(detector: Detector) -> None:
    with pytest.raises(ValueError, match=r"image 0 has no pixels: its size is \(0, 5\)"):
        detector.predict(np.zeros((0, 5, 3), np.uint8))


def test_several_images_need_a_list(detector: Detector, folder: Path) -> None:
    with pytest.raises(ValueError, match="pass a list"):
        detector.predict(str(folder))
    with pytest.raises(ValueError, match="pass a list"):
        detector.predict(f"{folder}/a*.png")
    with pytest.raises(FileNotFoundError, match=r"'nowhere\.png' does not exist"):
        detector.predict("nowhere.png")


def test_stream_reads_only_a_little_ahead_and_stops_its_thread(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counting(value: np.ndarray) -> Tensor:
        read.append(1)
        return torch.from_numpy(value).permute(2, 0, 1)

    monkeypatch.setattr("vovnet.engine.predicting.sources.to_image_tensor", counting)
    results = detector.stream([random_image(0)] * 100, batch_size=3)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 3 + 3 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def test_results_are_ordinary_tensors(detector: Detector) -> None:
    result = detector.predict(random_image(0), score_threshold=0.0)
    result.boxes.add_(1)  # refused for tensors of inference mode
    assert not result.boxes.requires_grad


def test_draw_and_coco(detector: Detector, folder: Path, tmp_path: Path) -> None:
    result = detector.predict(folder / "a.png", score_threshold=0.0, top_k=3)
    drawn = result.draw(tmp_path / "new" / "out.png")
    saved = np.asarray(Image.open(tmp_path / "new" / "out.png"))
    assert drawn.size == (56, 48)
    assert np.array_equal(saved, np.asarray(drawn))
    assert not np.array_equal(saved, random_image(1, 48))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.png"]

    entries = result.to_coco(5)
    assert [entry["category_id"] for entry in entries] == [(1, 2, 7)[label] for label in result.labels]
    x1, y1, x2, y2 = result.boxes[0].tolist()
    assert entries[0]["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
    assert entries[0]["image_id"] == 5
    assert result.to_coco()[0]["image_id"] == "a"


def test_image_ids() -> None:
    assert make_image_id("000000000139") == 139
    assert make_image_id("BloodImage_00001") == "BloodImage_00001"
    assert make_image_id("clip", 17) == "clip_000017"
    assert make_image_id(str(2**63 - 1)) == 2**63 - 1
    assert make_image_id("0" * 5000 + "7") == 7
    for text in (str(2**63), "9" * 5000, "²", "1²", "-1", "1.5", "", "caf\u00e9"):
        assert make_image_id(text) == text
    assert make_image_id("caf\udce9") == "caf\\udce9"
    assert make_image_id("caf\udce9", 1) == "caf\\udce9_000001"


def make_clip(path: Path, frames: int = 7) -> Path:
    with VideoWriter(path, 10) as writer:
        for seed in range(frames):
            writer.write(torch.from_numpy(random_image(seed, 48, 64)).permute(2, 0, 1))
    return path


def test_a_video_gives_one_prediction_a_frame_and_a_drawn_copy(detector: Detector, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    results = list(detector.predict_video(clip, tmp_path / "drawn.mp4", batch_size=3, score_threshold=0.0))
    assert [result.frame for result in results] == list(range(7))
    assert detector.model.batch_sizes == [3, 3, 1]
    frames = list(read_frames(clip))
    for result, frame in zip(results, frames, strict=True):
        assert_same(result, detector.predict(frame, score_threshold=0.0))
    assert video_info(tmp_path / "drawn.mp4") == video_info(clip)
    assert not torch.equal(next(read_frames(tmp_path / "drawn.mp4")), frames[0])
    assert torch.equal(replace(results[4], pixels=None).image(), frames[4])


def test_a_video_left_early_leaves_no_file(detector: Detector, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    results = detector.predict_video(clip, tmp_path / "drawn.mp4")
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_videos_among_images(detector: Detector, folder: Path) -> None:
    make_clip(folder / "clip.mp4", frames=3)
    results = list(detector.stream([folder]))
    assert [(Path(result.source).name, result.frame) for result in results if isinstance(result, Prediction)] == [
        ("a.png", None),
        ("b.png", None),
        ("c.png", None),
        ("clip.mp4", 0),
        ("clip.mp4", 1),
        ("clip.mp4", 2),
    ]
    with pytest.raises(ValueError, match=r"clip\.mp4 is a video"):
        detector.predict([folder])
    with pytest.raises(ValueError, match="would replace its source"):
        next(detector.predict_video(folder / "clip.mp4", folder / "clip.mp4"))


def test_a_damaged_video_ends_in_a_failure(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    Image.fromarray(random_image(0)).save(tmp_path / "good.png")
    broken, good = detector.stream([tmp_path])
    assert isinstance(broken, Failure)
    assert "bad.mp4" in broken.reason
    assert isinstance(good, Prediction)


def test_too_little_memory_names_the_remedy(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(images: Tensor) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector.model, "forward", full)
    with pytest.raises(MemoryError, match="too little memory for 1 images of 32×32 at once; lower the batch size"):
        detector.predict(random_image(0))


@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:0"])
def test_each_process_of_torchrun_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device(name) == torch.device("cuda", 3)
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: False)
    assert choose_device("cuda:0") == torch.device("cuda", 0)


def test_processes_of_torchrun_without_a_gpu_use_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    assert choose_device("auto") == torch.device("cpu")  # gloo cannot reduce on MPS


def test_an_absent_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' is not available"):
        Detector(GridModel(), NAMES, (1, 2, 7), device="cuda")
    with pytest.raises(ValueError, match="got 2 for 3 classes"):
        Detector(GridModel(), NAMES, (1, 2))


@pytest.fixture
def masked() -> Detector:
    """A detector that gives masks and keeps the ratio of an image's sides."""
    return Detector(masking.EllipseModel(), masking.NAMES, (3, 5))


SIZES = [(40, 60), (60, 40), (80, 120), (20, 300)]


def test_a_batch_of_different_sizes_gives_what_each_alone_gives(masked: Detector) -> None:
    images = [random_image(seed, *size) for seed, size in enumerate(SIZES)]
    together = masked.predict(images, score_threshold=0.0)
    assert masked.model.seen == [(2, 3, 32, 48), (1, 3, 48, 32), (1, 3, 3, 48)]
    for found, pixels, size in zip(together, images, SIZES, strict=True):
        assert found.masks is not None
        assert (found.image_size, found.masks.size, len(found.masks)) == (size, size, 3)
        alone = masked.predict(pixels, score_threshold=0.0)
        assert_same(found, alone)
        assert found.masks == alone.masks


def test_masks_follow_their_boxes(masked: Detector) -> None:
    everything = masked.predict(random_image(0), score_threshold=0.0)
    assert everything.masks is not None
    places = torch.tensor([2, 0])
    some = everything[places]
    assert isinstance(some, Prediction)
    assert some.masks == everything.masks[places]
    for label in (0, 1):
        one_class = masked.predict(random_image(0), score_threshold=0.0, classes=[label])
        assert one_class.masks == everything.masks[everything.labels == label]
        assert one_class.labels.tolist() == [label] * (2 - label)
    nothing = masked.predict(random_image(0), score_threshold=1.0)
    assert nothing.masks == RleMasks((), (40, 56))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_masks_in_coco_results(masked: Detector) -> None:
    result = masked.predict(random_image(0), score_threshold=0.0)
    assert result.masks is not None
    bitmaps = decode(result.masks)
    for entry, bitmap in zip(result.to_coco(1), bitmaps, strict=True):
        assert np.array_equal(pycocotools.mask.decode(entry["segmentation"]), bitmap)
        assert isinstance(entry["segmentation"]["counts"], str)  # JSON knows no bytes
    for entry, bitmap in zip(result.to_coco(1, contours=True), bitmaps, strict=True):
        (again,) = decode(RleMasks((from_coco(entry["segmentation"], (40, 56)),), (40, 56)))
        assert torch.equal(again, bitmap)
    assert "segmentation" not in Detector(GridModel(), NAMES, (1, 2, 7)).predict(random_image(0)).to_coco(1)[0]


def test_frames_of_a_video_have_masks(masked: Detector, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3)
    results = list(masked.predict_video(clip, tmp_path / "drawn.mp4", batch_size=2, score_threshold=0.0))
    assert [result.masks.size for result in results if result.masks] == [(48, 64)] * 3
    assert masked.model.seen == [(2, 3, 32, 43), (1, 3, 32, 43)]
    assert video_info(tmp_path / "drawn.mp4") == video_info(clip)


def test_prepared_batches_have_one_input_size(masked: Detector) -> None:
    images = [torch.from_numpy(random_image(0, *size)).permute(2, 0, 1) for size in SIZES]
    batch = masked.prepare([images[0], images[2]])  # 40 × 60 and 80 × 120
    assert batch.shape == (2, 3, 32, 48)
    (found, _) = masked.decode(masked.forward(batch), [SIZES[0], SIZES[2]], score_threshold=0.0)
    assert_same(found, masked.predict(random_image(0, *SIZES[0]), score_threshold=0.0))
    with pytest.raises(ValueError, match="one input size, got 32×48, 48×32: prepare them one by one, or use detect"):
        masked.prepare(images[:2])
