"""What is wrong with an exported Mask R-CNN must fail the gate, and ties must not; `vovnet export` from end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torchvision.ops import MultiScaleRoIAlign

from vovnet.cli.main import app
from vovnet.engine.detector import Detector, load
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.errors import UsageError
from vovnet.export import findings, gate
from vovnet.export.findings import find_all
from vovnet.export.gate import Verdict, judge
from vovnet.export.judging_images import JudgingImages
from vovnet.export.parity import Parity, Rules
from vovnet.export.source import describe_export
from vovnet.export.trials import _SMALL
from vovnet.masks import decode
from vovnet.models.detectors import mask_rcnn
from vovnet.models.detectors.mask_rcnn import LEVELS, MASK_CELLS, MaskRCNN
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.session import Rows
from vovnet.sizes import fit_size
from vovnet.structures import Detections
from vovnet.weights.detector import save_weights
from vovnet.zoo import BACKBONES

from ...small_two_stage import PHOTOS, SmallBackbone, make_loaded, make_small, small_onnx

Change = Callable[[Rows, np.ndarray], Rows]


class Remembering(Detector):
    """PyTorch's detections of the same images are computed once for all tests."""

    def detect(self, images, image_sizes=None, **options):
        key = (tuple(image.numpy().tobytes() for image in images), str(image_sizes), str(options))
        known = self.__dict__.setdefault("known", {})
        if key not in known:
            known[key] = super().detect(images, image_sizes, **options)
        return known[key]


class Changed:
    """A session whose rows are changed; those of the right network are computed once for all tests."""

    runtime = "onnxruntime"

    def __init__(self, session, known, change: Change = lambda rows, images: rows):
        self.session, self.known, self.change, self.info = session, known, change, session.info

    def run(self, images, score_threshold):
        key = (images.tobytes(), images.shape, score_threshold)
        if key not in self.known:
            self.known[key] = self.session.run(np.ascontiguousarray(images), score_threshold)
        return self.change(self.known[key], images)


class Small:
    """The small Mask R-CNN, its right export, and one photo."""

    def __init__(self, folder: Path) -> None:
        self.loaded = make_small()
        self.info = describe_export(self.loaded, "float32")
        names = self.loaded.info
        self.detector = Remembering(self.loaded.model, names.class_names, names.category_ids)
        self.path = folder / "small.onnx"
        self.path.write_bytes(small_onnx())
        self.session, self.known = OnnxSession(self.path, threads=1), {}
        self.images = JudgingImages(tuple(PHOTOS[:1]), None, None, None)

    def judge(self, change: Change = lambda rows, images: rows, session: OnnxSession | None = None) -> Verdict:
        known = self.known if session is None else {}
        candidate = ExportedDetector(Changed(session or self.session, known, change), self.path)
        return judge(self.detector, candidate, self.images, self.info, max_drop=0.005)

    def parity(self, change: Change = lambda rows, images: rows, session: OnnxSession | None = None) -> Parity:
        """Of the photo alone, which is quicker."""
        known = self.known if session is None else {}
        candidate = ExportedDetector(Changed(session or self.session, known, change), self.path)
        found = find_all(self.detector, candidate, self.images.paths, accuracy=False)
        rules = Rules(threshold=0.3, floor=0.05, top_k=100, nms_threshold=0.5)
        return gate._compare(self.detector, candidate, self.images.paths, found, rules, exact=True)

    def predicted(self, rows: Rows, image: np.ndarray, *, labels=None, coarser: bool = False) -> np.ndarray:
        """PyTorch's probabilities in these boxes, of other classes or pooled from too coarse a level."""
        model = self.loaded.model
        assert isinstance(model, MaskRCNN)
        chosen = rows.labels if labels is None else labels
        right = model.roi_heads.mask_roi_pool
        if coarser:
            model.roi_heads.mask_roi_pool = MultiScaleRoIAlign(list(LEVELS), MASK_CELLS, 2, canonical_scale=14)
        try:
            with torch.no_grad():
                maps = model(model.preprocessing.normalize(torch.from_numpy(image[None].copy())))
                logits = model._mask_logits({level: maps[level] for level in LEVELS}, [torch.from_numpy(rows.boxes)])
        finally:
            model.roi_heads.mask_roi_pool = right
        return logits[torch.arange(len(logits)), torch.from_numpy(chosen) + 1].sigmoid().numpy()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module", autouse=True)
def _computed_once() -> Iterator[None]:
    """What PyTorch says of the same image and boxes is computed once for all tests."""
    known = {}

    def remember(compute):
        def asked(model, pixels, *rest):
            parts = [
                (item.boxes.numpy().tobytes(), item.labels.numpy().tobytes()) if isinstance(item, Detections) else item
                for item in rest
            ]
            key = (compute, id(model), pixels.numpy().tobytes(), *parts)
            if key not in known:
                known[key] = compute(model, pixels, *rest)
            return known[key]

        return asked

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mask_bounds", "two_stage_before_nms"):
            patch.setattr(findings, name, remember(getattr(findings, name)))
        yield


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gate, "times_ms", lambda *arguments: (2.0, 1.0))
    return


def with_masks(rows: Rows, masks: np.ndarray) -> Rows:
    return replace(rows, masks=np.ascontiguousarray(masks, np.float32))


def test_what_is_right_passes(small: Small) -> None:
    verdict = small.judge()
    assert verdict.reasons == ()
    assert verdict.parity.compared >= 20
    assert verdict.parity.worst_mask_pixels == 0
    assert verdict.parity.tied <= 2
    assert verdict.blank_boxes > 0


@pytest.mark.parametrize("place", ["photo", "noise"])
def test_so_many_ties_that_a_wrong_file_might_hide_among_them_are_refused(
    small: Small, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that lacks a tenth of the boxes, of a detector whose proposals are all ties."""
    real = findings.two_stage_before_nms

    def all_uncertain(*arguments):
        raw = real(*arguments)
        return replace(raw, certain=torch.zeros(len(raw.detections), dtype=torch.bool))

    def lacking(rows: Rows, images: np.ndarray) -> Rows:
        wrong = (images.shape[2:] == _SMALL) == (place == "noise")
        return keep(rows, np.arange(len(rows.image)) % 10 != 3) if wrong else rows

    monkeypatch.setattr(findings, "two_stage_before_nms", all_uncertain)
    expected = {
        "photo": r"^\d+ differences in 1 image of the images that ship .* may be ties, .* with --data",
        "noise": r"^\d+ differences in an image of faint noise may be ties, .*: train it further$",
    }
    with pytest.raises(UsageError, match=expected[place]):
        small.judge(lacking)


def test_ties_in_noise_are_no_remedy_for_another_difference(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is wrong says so, and what hides nothing is only named beside it."""
    monkeypatch.setattr(gate, "_too_many_ties", lambda parity, where: "9 ties" if "noise" in where else None)
    with pytest.raises(UsageError, match="^9 ties"):
        small.judge()
    reasons = small.judge(in_noise(NOISE["twice"])).reasons
    assert "should not be there" in reasons[0]
    assert reasons[-1] == "9 ties"


WRONG: dict[str, Change] = {
    "shifted by a cell": lambda rows, images: with_masks(rows, np.roll(rows.masks, 1, axis=2)),
    "transposed": lambda rows, images: with_masks(rows, rows.masks.transpose(0, 2, 1)),
    "upside down": lambda rows, images: with_masks(rows, rows.masks[:, ::-1]),
    "of the next detection": lambda rows, images: with_masks(rows, np.roll(rows.masks, 1, axis=0)),
    "logits instead of probabilities": lambda rows, images: with_masks(rows, np.log(rows.masks / (1 - rows.masks))),
    "a hundredth too high": lambda rows, images: with_masks(rows, rows.masks + 0.01),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_masks_fail(small: Small, name: str) -> None:
    parity = small.parity(WRONG[name])
    assert parity.differences == parity.reshaped > 0


def test_the_gate_says_in_how_many_pixels_masks_differ(small: Small) -> None:
    reasons = small.judge(WRONG["shifted by a cell"]).reasons
    assert any(re.search(r"boxes have other masks: they differ in up to \d+ pixels that", text) for text in reasons)


@pytest.mark.parametrize("fault", ["none", "class", "level"])
def test_masks_of_another_class_or_pyramid_level_fail(small: Small, fault: str) -> None:
    def change(rows: Rows, images: np.ndarray) -> Rows:
        labels = (rows.labels + 1) % 3 if fault == "class" else None
        masks = [rows.masks[:0]]
        for number, image in enumerate(images):
            own = rows.image == number
            part = Rows(rows.image[own], rows.boxes[own], rows.labels[own], rows.scores[own])
            other = None if labels is None else labels[own]
            masks.append(small.predicted(part, image, labels=other, coarser=fault == "level"))
        return with_masks(rows, np.concatenate(masks))

    parity = small.parity(change)
    assert (parity.differences > 0) == (fault != "none")
    assert parity.differences == parity.reshaped


def test_rounding_in_the_masks_passes(small: Small) -> None:
    noise = np.random.default_rng(0)
    assert small.judge(
        lambda rows, images: with_masks(rows, rows.masks + noise.normal(0, 2e-4, rows.masks.shape))
    ).passed


@pytest.mark.parametrize(("stage", "iou"), [(0, 0.95), (1, 0.6)])
def test_another_threshold_of_nms_in_either_stage_fails(small: Small, tmp_path: Path, stage: int, iou: float) -> None:
    network = onnx.load(small.path)
    nodes = [node for node in network.graph.node if node.op_type == "NonMaxSuppression"]
    assert len(nodes) == 2
    name = f"other_{iou}"
    network.graph.initializer.append(numpy_helper.from_array(np.array(iou, np.float32), name))
    nodes[stage].input[3] = name
    path = tmp_path / "changed.onnx"
    path.write_bytes(network.SerializeToString())
    parity = small.parity(session=OnnxSession(path, threads=1))
    assert parity.missing + parity.extra > 0, parity


def keep(rows: Rows, kept: np.ndarray) -> Rows:
    return Rows(rows.image[kept], rows.boxes[kept], rows.labels[kept], rows.scores[kept], rows.masks[kept])


def in_noise(change: Change) -> Change:
    return lambda rows, images: change(rows, images) if images.shape[2:] == _SMALL else rows


NOISE: dict[str, Change] = {
    "boxes elsewhere": lambda rows, images: replace(rows, boxes=rows.boxes + np.float32(3)),
    "other scores": lambda rows, images: replace(rows, scores=rows.scores * np.float32(0.97)),
    "other classes": lambda rows, images: replace(rows, labels=(rows.labels + 1) % 3),
    "twice": lambda rows, images: keep(rows, np.repeat(np.arange(len(rows.image)), 2)),
    "nothing": lambda rows, images: keep(rows, rows.scores > 2),
    "other masks": lambda rows, images: with_masks(rows, np.roll(rows.masks, 2, axis=2)),
}


@pytest.mark.parametrize("name", NOISE)
def test_what_no_tie_explains_in_noise_fails(small: Small, name: str) -> None:
    reasons = small.judge(in_noise(NOISE[name])).reasons
    assert reasons
    assert all("in an image of faint noise" in reason for reason in reasons), reasons


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("maskrcnn_small", "onnx"),
        ("maskrcnn_small", "openvino"),
        ("fasterrcnn_small", "onnx"),
        ("fasterrcnn_small", "openvino"),
    ],
)
def test_the_command_exports_and_what_it_writes_finds_the_same(
    name: str, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BACKBONES, "small", SmallBackbone)
    monkeypatch.setattr(mask_rcnn, "PROPOSALS", 30)  # a thousand take a minute
    loaded = make_loaded(name, image_size=(96, 144))
    weights, photos = tmp_path / "small.safetensors", tmp_path / "photos"
    save_weights(weights, loaded.model.state_dict(), loaded.info, {})
    photos.mkdir()
    with Image.open(PHOTOS[0]) as photo:  # in the network's size, which nothing resizes
        height, width = fit_size((photo.height, photo.width), 96, 144)
        photo.convert("RGB").resize((width, height)).save(photos / "photo.png")
    output = tmp_path / "exported"
    status = app(
        ["export", str(weights), "--to", to, "--data", str(photos), "--output", str(output), "--threads", "1"],
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    printed = capsys.readouterr().out
    assert status == 0, printed
    path = output / ("small.onnx" if to == "onnx" else "small_openvino")
    report = json.loads((output / f"{path.name.removesuffix('.onnx')}.export.json").read_text())
    assert report["passed"]
    assert report["parity"]["compared"] >= 20
    assert report["parity"]["worst_mask_pixels"] == (0 if loaded.model.masks else None)

    expected, found = (load(source, device="cpu").predict(photos / "photo.png") for source in (weights, path))
    assert len(found) == len(expected) >= 20
    if loaded.model.masks:
        both = decode(expected.masks), decode(found.masks)
        for own in both[1]:
            assert (own != both[0]).flatten(1).sum(dim=1).min() <= 3 + int(own.sum()) // 500
