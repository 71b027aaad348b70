"""Mask R-CNN and Faster R-CNN in ONNX Runtime against PyTorch: boxes, labels, scores and masks on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from vovnet.boxes import clip, pairwise_iou
from vovnet.engine.detector import Detector
from vovnet.engine.predicting.exported import ExportedDetector
from vovnet.errors import UsageError
from vovnet.export.exporting import export_detector
from vovnet.export.findings import before_nms, find_bounds
from vovnet.export.onnx_file import make_network
from vovnet.export.parity import Rules, compare_image, total
from vovnet.export.source import describe_export
from vovnet.export.two_stage import Padding, TwoStages
from vovnet.export.writing import write_export
from vovnet.models.detectors.mask_rcnn import LEVELS, MaskRCNN
from vovnet.runtime.onnx_runtime import OnnxSession
from vovnet.runtime.openvino import OpenVinoSession
from vovnet.runtime.session import Rows
from vovnet.weights.detector import LoadedModel, ModelInfo, save_weights

from ...small_two_stage import CLASSES, SIZE, detect, export, make_loaded, make_small, photos, small_onnx

BEYOND = 0.999  # a threshold that nothing exceeds
RULES = Rules(threshold=0.05, floor=0.05, top_k=100, nms_threshold=0.5)


def check_equal(loaded: LoadedModel, session: OnnxSession, images: Sequence[Tensor]) -> None:
    """By the rules of the gate, for all that the detector reports."""
    model = loaded.model
    assert isinstance(model, MaskRCNN)
    detector = Detector(model, loaded.info.class_names, loaded.info.category_ids)
    exported, parts = ExportedDetector(session, Path("detector.onnx")), []
    for original in images:
        image, size = model.preprocessing.resize(original), (original.shape[1], original.shape[2])
        expected = detect(model, image, size)
        rows = session.run(image[None].numpy(), RULES.floor)
        (found,) = exported.detect([image], [size])
        assert len(expected) >= 20
        raw = partial(before_nms, detector, image, size, RULES.raw_floor)
        parts.append(compare_image(expected, found, RULES, raw, find_bounds(detector, image, found)))
        if model.masks:
            expected_maps = probabilities(model, image, rows)
            assert np.abs(rows.masks - expected_maps.numpy()).max() < 1e-3
            assert expected_maps.std() > 0.1
    parity = total(parts)
    assert parity.differences == 0, parity
    assert parity.tied <= max(2, parity.compared // 20)


@torch.no_grad()
def probabilities(model: MaskRCNN, image: Tensor, rows: Rows) -> Tensor:
    """The mask (S, 28, 28) that PyTorch predicts in each of these boxes."""
    maps = model(model.preprocessing.normalize(image[None].clone()))
    logits = model._mask_logits({level: maps[level] for level in LEVELS}, [torch.from_numpy(rows.boxes)])
    return logits[torch.arange(len(logits)), torch.from_numpy(rows.labels) + 1].sigmoid()


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return make_small()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    path.write_bytes(small_onnx())
    return path


@pytest.fixture(scope="module")
def session(file: Path) -> OnnxSession:
    return OnnxSession(file)


def test_finds_what_pytorch_finds_in_images_of_many_sizes(loaded: LoadedModel, session: OnnxSession) -> None:
    images = [photos()[0], photos()[-2], photos()[-1]]
    sizes = {tuple(loaded.model.preprocessing.input_size((image.shape[1], image.shape[2]))) for image in images}
    assert len(sizes) == 3
    check_equal(loaded, session, images)


def test_an_image_without_detections_has_no_rows(loaded: LoadedModel, session: OnnxSession) -> None:
    image = loaded.model.preprocessing.resize(photos()[0])
    rows = session.run(image[None].numpy(), BEYOND)
    assert rows.image.shape == rows.labels.shape == rows.scores.shape == (0,)
    assert rows.boxes.shape == (0, 4)
    assert rows.masks is not None
    assert rows.masks.shape == (0, 28, 28)
    assert len(detect(loaded.model, image, threshold=BEYOND)) == 0


def test_the_threshold_is_an_input(loaded: LoadedModel, session: OnnxSession) -> None:
    image = loaded.model.preprocessing.resize(photos()[1])
    every = session.run(image[None].numpy(), 0.05).scores
    threshold = float(np.sort(every)[len(every) // 2])
    some = session.run(image[None].numpy(), threshold).scores
    assert 0 < len(some) < len(every)
    assert some.min() > threshold
    assert np.array_equal(some, every[: len(some)])


@pytest.mark.parametrize("size", [(1, 1), (5, 200), (160, 31), (33, 64)])
def test_images_of_any_size(loaded: LoadedModel, session: OnnxSession, size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = detect(loaded.model, image)
    rows = session.run(image[None].numpy(), 0.05)
    assert len(rows.scores) == len(expected)
    # Of boxes that overlap by just the limit of NMS, rounding may keep one more or less.
    nearest = np.abs(rows.scores[:, None] - expected.scores.numpy()).min(axis=1)
    assert (nearest > 1e-3).sum() <= 1


def test_several_images_of_one_size_run_one_by_one(session: OnnxSession, loaded: LoadedModel) -> None:
    first = loaded.model.preprocessing.resize(photos()[0])
    images = torch.stack([first, first.flip(2), torch.zeros_like(first)]).numpy()
    together = session.run(images, 0.05)
    for number, image in enumerate(images):
        alone = session.run(image[None], 0.05)
        own = together.image == number
        assert np.array_equal(together.boxes[own], alone.boxes)
        assert np.array_equal(together.scores[own], alone.scores)
        assert together.masks is not None
        assert np.array_equal(together.masks[own], alone.masks)
        assert len(alone.scores) > 0


def test_the_description_says_how_images_are_resized(session: OnnxSession) -> None:
    info = session.info
    assert info.masks
    assert info.keep_ratio
    assert info.image_size == (160, 260)
    assert (info.score_threshold, info.nms_threshold, info.top_k) == (0.05, 0.5, 100)


def test_an_export_leaves_the_model_as_it_was(loaded: LoadedModel, session: OnnxSession) -> None:
    """In particular the anchors, which the exporter replaces in its copy."""
    fresh = make_small().model
    fresh.load_state_dict(loaded.model.state_dict())
    image = loaded.model.preprocessing.resize(photos()[0])
    torch.testing.assert_close(detect(loaded.model, image).boxes, detect(fresh, image).boxes, rtol=1e-4, atol=1e-3)


def no_proposals(model: MaskRCNN) -> None:
    """Move every proposal out of the image, where clipping leaves nothing of it."""
    nn.init.zeros_(model.rpn.head.bbox_pred.weight)
    model.rpn.head.bbox_pred.bias.data = torch.tensor([1e4, 0.0, 0.0, 0.0] * 3)


def test_the_steps_equal_the_models_and_none_needs_a_proposal() -> None:
    """The operations that are exported, in PyTorch, which is quick: with proposals and with none."""
    model = make_small().model
    assert isinstance(model, MaskRCNN)
    image = model.preprocessing.resize(photos()[2])
    for count in (100, 0):
        expected = detect(model, image)
        stages, padding = TwoStages(model, nms_threshold=0.5, top_k=100), Padding(model.preprocessing)
        with torch.no_grad():
            rows = Rows(*(t.numpy() for t in stages(*padding(image[None].clone()), torch.tensor([0.05]))))
        assert len(expected) == len(rows.scores) == count
        np.testing.assert_allclose(rows.boxes, expected.boxes, atol=1e-3)
        np.testing.assert_allclose(rows.scores, expected.scores, atol=1e-5)
        no_proposals(model)


def test_proposals_rank_by_logit_where_probabilities_round_to_one() -> None:
    """In the model and in its steps for export, whereas torchvision takes those of one probability in any order."""
    model = make_small(group_norm=False).model
    assert isinstance(model, MaskRCNN)
    model.rpn.head.cls_logits.bias.data += 30
    image = model.preprocessing.resize(photos()[0])
    size = (image.shape[1], image.shape[2])
    padded, limit = Padding(model.preprocessing)(image[None].clone())
    with torch.no_grad():
        maps = model.fpn(dict(zip(LEVELS, model.backbone(padded), strict=True)))
        proposals = TwoStages(model, nms_threshold=0.5, top_k=100)._proposals(list(maps.values()), limit)[:-1]
        logits, deltas, anchors, by_model = model._propose(maps, [size])
        levels = [level.numel() for level in model.rpn.head(list(maps.values()))[0]]
    logits = logits[0]
    assert (logits.sigmoid() == 1).float().mean() > 0.9 > 0.5 > 1 - len(logits.unique()) / len(logits)
    boxes = clip(model.rpn.box_coder.decode(deltas[0], [anchors]).reshape(-1, 4), size)
    by_probability, _ = model.rpn.filter_proposals(boxes[None], logits, [size], levels)
    kept = []
    for own in torch.arange(len(logits)).split(levels):
        best = own[logits[own].argsort(descending=True)[:1000]]
        kept.append(best[nms(boxes[best], logits[best], 0.7)])
    together = torch.cat(kept)
    expected = boxes[together[logits[together].argsort(descending=True)[:100]]]
    shares = [
        (pairwise_iou(expected, found).amax(dim=1) > 0.999).float().mean()
        for found in (proposals, by_model[0], by_probability[0])
    ]
    assert min(shares[:2]) > 0.97 > shares[2]  # an overlap may be at the limit of NMS


@pytest.mark.parametrize(
    ("to", "precision"), [("mnn", "float32"), ("onnx", "int8"), ("openvino", "int8"), ("openvino", "bf16")]
)
def test_what_cannot_be_exported_is_refused(loaded: LoadedModel, tmp_path: Path, to: str, precision: str) -> None:
    path = tmp_path / "new"
    with pytest.raises(UsageError, match=f"maskrcnn_small cannot be exported to {to} in {precision}, .*--to onnx or"):
        write_export(loaded, describe_export(loaded, precision), to, path)
    assert not path.exists()


def test_it_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    info = ModelInfo("maskrcnn_vovnet27_slim_gn", {"image_size": SIZE}, CLASSES, (1, 18, 38))
    path = tmp_path / "it.safetensors"
    save_weights(path, info.build().state_dict(), info, {})
    with pytest.raises(UsageError, match=r"cannot be exported to onnx in int8, .*--precision float32"):
        export_detector(path, to="onnx", precision="int8", data=tmp_path / "none", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_there_is_no_network_without_nms(loaded: LoadedModel) -> None:
    with pytest.raises(UsageError, match="export it to onnx"):
        make_network(loaded.model, loaded.info.name)


def test_openvino_finds_the_same(session: OnnxSession, loaded: LoadedModel, file: Path) -> None:
    """It reads the same file. Images of several sizes and without detections, and two at once."""
    openvino = OpenVinoSession(file)
    images = [loaded.model.preprocessing.resize(photos()[number])[None].numpy() for number in (0, -1)]
    images.append(np.concatenate([images[0], images[0][..., ::-1]]))
    for image in images:
        for threshold in (0.05, BEYOND):
            expected, found = session.run(image, threshold), openvino.run(image, threshold)
            assert np.array_equal(found.image, expected.image)
            assert found.masks is not None
            assert found.masks.shape == (len(expected.scores), 28, 28)
            np.testing.assert_allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-3)
            np.testing.assert_allclose(np.sort(found.boxes, axis=0), np.sort(expected.boxes, axis=0), atol=0.05)
            assert (len(found.scores) > 0) == (threshold < BEYOND)


@pytest.mark.slow
def test_an_image_without_proposals(tmp_path: Path) -> None:
    loaded = make_small()
    no_proposals(loaded.model)
    image = loaded.model.preprocessing.resize(photos()[0])
    assert len(detect(loaded.model, image)) == 0
    rows = OnnxSession(export(loaded, tmp_path)).run(image[None].numpy(), 0.0)
    assert rows.scores.shape == (0,)
    assert rows.masks is not None
    assert rows.masks.shape == (0, 28, 28)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("maskrcnn_vovnet27_slim", {"anchors": "detectron"}),
        ("maskrcnn_vovnet39_gn", {}),
        ("maskrcnn_resnet50", {"anchors": "detectron"}),
        ("maskrcnn_resnet50_gn", {}),
        ("fasterrcnn_vovnet27_slim_gn", {}),
        ("fasterrcnn_vovnet39", {"pixels": {"mean": [0.0, 0.0, 0.0], "std": [255.0] * 3, "channel_order": "RGB"}}),
        ("fasterrcnn_resnet50", {}),
    ],
)
def test_every_kind_finds_what_pytorch_finds(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    loaded = make_loaded(name, **options)
    check_equal(loaded, OnnxSession(export(loaded, tmp_path)), photos()[:2] + photos()[-2:])


def test_wrong_anchors_are_noticed(loaded: LoadedModel, session: OnnxSession) -> None:
    """The comparison of these tests: a model with other anchors finds other boxes."""
    other = make_small("detectron").model
    other.load_state_dict(loaded.model.state_dict())
    with pytest.raises(AssertionError):
        check_equal(replace(loaded, model=other), session, photos()[:1])
