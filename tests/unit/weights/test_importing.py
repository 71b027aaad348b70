"""Whole detectors in maskrcnn-benchmark's names: the same outputs after import, or what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import vovnet
from vovnet import create_backbone, create_model
from vovnet.models.anchors import detectron_anchors
from vovnet.models.detectors.contract import DetectionModel
from vovnet.weights.detector import load_model
from vovnet.weights.file import write_safetensors
from vovnet.weights.importing import import_weights

State = dict[str, Tensor]

# What the code that trained them has in its checkpoints beside the weights.
ANCHORS = {
    "rpn.anchor_generator.cell_anchors.0": [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]],
    "rpn.anchor_generator.cell_anchors.1": [[-40, -20, 47, 27], [-28, -28, 35, 35], [-20, -44, 27, 51]],
    "rpn.anchor_generator.cell_anchors.2": [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]],
}


def lively(model: DetectionModel) -> DetectionModel:
    """The model with norms as of a trained one and predictors that tell boxes apart, in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm | FrozenBatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0  # as in the code that trained them
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for name, parameter in model.named_parameters():
        if "predictor" in name or name.startswith("rpn."):
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


def benchmark_names(model: DetectionModel) -> State:
    """The state of a VoVNet detector of ours under the names of VoVNet-Detectron, written out independently."""
    norm = any(isinstance(module, nn.GroupNorm) for module in model.fpn.modules())
    parts: list[tuple[str, nn.Module]] = []

    def unit(name: str, module: nn.Module) -> None:
        parts.extend([(f"{name}.0", module[0]), (f"{name}.1", module[1])] if norm else [(name, module[0])])

    net = model.backbone
    for i in (1, 2, 3):
        parts += [(f"backbone.body.stem.stem_{i}/{part}", getattr(net.stem[i - 1], part)) for part in ("conv", "norm")]
    for s in (2, 3, 4, 5):
        for m, module in enumerate(net.stages[s - 2], start=1):
            start = f"backbone.body.stage{s}.OSA{s}_{m}"
            for part in ("conv", "norm"):
                for i in range(5):
                    parts.append((f"{start}.layers.{i}.OSA{s}_{m}_{i}/{part}", getattr(module.layers[i], part)))
                parts.append((f"{start}.concat.OSA{s}_{m}_concat/{part}", getattr(module.concat, part)))
    for level in (1, 2, 3, 4):
        unit(f"backbone.fpn.fpn_inner{level}", model.fpn.inner_blocks[level - 1])
        unit(f"backbone.fpn.fpn_layer{level}", model.fpn.layer_blocks[level - 1])
    rpn, heads = model.rpn.head, model.roi_heads
    parts += [("rpn.head.conv", rpn.conv[0][0]), ("rpn.head.cls_logits", rpn.cls_logits)]
    parts += [("rpn.head.bbox_pred", rpn.bbox_pred)]
    extractor = "roi_heads.box.feature_extractor"
    if norm:
        for number, block in zip((0, 3, 6, 9), list(heads.box_head)[:4], strict=True):
            parts += [(f"{extractor}.xconvs.{number}", block[0]), (f"{extractor}.xconvs.{number + 1}", block[1])]
        parts.append((f"{extractor}.fc6", heads.box_head[5]))
    else:
        parts += [(f"{extractor}.fc6", heads.box_head.fc6), (f"{extractor}.fc7", heads.box_head.fc7)]
    parts.append(("roi_heads.box.predictor.cls_score", heads.box_predictor.cls_score))
    parts.append(("roi_heads.box.predictor.bbox_pred", heads.box_predictor.bbox_pred))
    if model.masks:
        for number, block in enumerate(heads.mask_head, start=1):
            unit(f"roi_heads.mask.feature_extractor.mask_fcn{number}", block)
        parts.append(("roi_heads.mask.predictor.conv5_mask", heads.mask_predictor.conv5_mask))
        parts.append(("roi_heads.mask.predictor.mask_fcn_logits", heads.mask_predictor.mask_fcn_logits))
    return {f"{name}.{key}": tensor for name, part in parts for key, tensor in part.state_dict().items()}


def with_anchors(state: State) -> State:
    return {**state, **{name: torch.tensor(boxes, dtype=torch.float32) for name, boxes in ANCHORS.items()}}


def assert_equal_outputs(ours: DetectionModel, theirs: DetectionModel) -> None:
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(torch.as_tensor(found[name]), torch.as_tensor(value)), name
        assert len(expected["proposals"]) > 0
        first = torch.tensor(ANCHORS["rpn.anchor_generator.cell_anchors.0"]) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(found["anchors"][:3], first.float())
        a, b = (model.decode(outputs, [(96, 128)])[0] for model, outputs in ((ours, found), (theirs, expected)))
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.scores, b.scores)
    assert a.masks == b.masks


@pytest.mark.parametrize(
    ("name", "classes", "wrapper"),
    [
        ("maskrcnn_vovnet39_gn", 80, ""),
        ("maskrcnn_vovnet27_slim_gn", 3, "module."),
        ("fasterrcnn_vovnet27_slim_gn", 1, ""),
    ],
)
def test_a_detector_with_group_norm_gives_the_same_after_import(
    name: str, classes: int, wrapper: str, tmp_path: Path
) -> None:
    theirs = lively(create_model(name, classes, anchors="detectron"))
    state = with_anchors(benchmark_names(theirs))
    assert len(state) - len(ANCHORS) == len(theirs.state_dict())
    content = {"model": {wrapper + key: tensor for key, tensor in state.items()}, "iteration": 270_000}
    torch.save(content, tmp_path / "theirs.pth")
    report = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert (report.kind, report.scheme, report.model) == ("detector", "VoVNet-Detectron", name)
    assert (report.norm, report.num_classes) == ("group", classes)
    assert report.set_aside == {"rpn.anchor_generator": 3}
    assert report.parameters == sum(p.numel() for p in theirs.parameters())
    assert report.tensors == len(theirs.state_dict())
    json.dumps(asdict(report))

    loaded = load_model(tmp_path / "ours.safetensors")
    own = loaded.model.state_dict()
    assert own.keys() == theirs.state_dict().keys()
    assert all(torch.equal(tensor, own[key]) for key, tensor in theirs.state_dict().items())
    assert tuple(loaded.model.preprocessing.mean) == (102.9801, 115.9465, 122.7717)
    assert loaded.model.preprocessing.channel_order == "BGR"
    assert loaded.record["imported"]["source"] == "theirs.pth"
    assert_equal_outputs(loaded.model, theirs.to(memory_format=torch.channels_last))  # as files are loaded


@pytest.mark.parametrize("detector", ["maskrcnn", "fasterrcnn"])
def test_a_detector_with_a_frozen_backbone(detector: str, tmp_path: Path) -> None:
    theirs = lively(create_model(f"{detector}_vovnet27_slim", 2, anchors="detectron"))
    torch.save({"model": benchmark_names(theirs)}, tmp_path / "theirs.pth")
    report = import_weights(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert (report.model, report.norm) == (f"{detector}_vovnet27_slim", "frozen batch")
    loaded = load_model(tmp_path / "ours.safetensors")
    ours = loaded.model
    assert {m.eps for m in ours.modules() if isinstance(m, FrozenBatchNorm2d)} == {1e-5}
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    for name in ("p2", "p3", "p4", "p5", "objectness_logits", "anchor_deltas"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    for name, tensor in theirs.state_dict().items():
        if not name.startswith("backbone."):
            assert torch.equal(ours.state_dict()[name], tensor), name


# --- classes, anchors, and what is no detector --------------------------------------------------------------------


@pytest.fixture(scope="module")
def slim() -> State:
    torch.manual_seed(0)
    return benchmark_names(lively(create_model("maskrcnn_vovnet27_slim_gn", 2)))


def save(path: Path, state: State) -> Path:
    torch.save({"model": state}, path)
    return path


def test_80_classes_are_cocos_and_others_have_numbers(slim: State, tmp_path: Path) -> None:
    import_weights(save(tmp_path / "theirs.pth", slim), tmp_path / "two.safetensors")
    detector = vovnet.load(tmp_path / "two.safetensors")
    assert (detector.class_names, detector.category_ids) == (("class 1", "class 2"), (1, 2))
    for name in [name for name in slim if ".predictor.cls_score" in name or "mask_fcn_logits" in name]:
        slim = slim | {name: slim[name][:1].expand(81, *slim[name].shape[1:]).contiguous()}
    for name in [name for name in slim if name.startswith("roi_heads.box.predictor.bbox_pred")]:
        slim = slim | {name: slim[name][:1].expand(324, *slim[name].shape[1:]).contiguous()}
    import_weights(save(tmp_path / "coco.pth", slim), tmp_path / "coco.safetensors")
    info = load_model(tmp_path / "coco.safetensors").info
    labels = dict(zip(info.category_ids, info.class_names, strict=True))
    assert len(labels) == 80
    assert (labels[1], labels[13], labels[28], labels[90]) == ("person", "stop sign", "umbrella", "toothbrush")
    assert not {12, 26, 29, 30, 45, 66, 68, 69, 71, 83} & labels.keys()
    assert list(labels) == sorted(labels)


def test_detectrons_anchors() -> None:
    for level, boxes in enumerate(ANCHORS.values()):
        anchors = detectron_anchors(32 * 2**level, 4 * 2**level, (0.5, 1.0, 2.0))
        assert (anchors - torch.tensor([0, 0, 1, 1])).tolist() == boxes
        assert ((anchors[:, :2] + anchors[:, 2:]) / 2 == 2 * 2**level).all()  # the middle of the cell


CONV = "backbone.body.stage5.OSA5_1.concat.OSA5_1_concat/conv.weight"
LOGITS = "roi_heads.mask.predictor.mask_fcn_logits.weight"
SCORES = "roi_heads.box.predictor.cls_score"


def without(state: State, *starts: str) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(starts)}


WHAT = r"broken.pth is not a complete maskrcnn_vovnet27_slim_gn of VoVNet-Detectron: "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, LOGITS), f"{WHAT}missing {LOGITS}$"),
        (lambda s: without(s, "backbone.fpn.fpn_layer"), r"missing (backbone.fpn.fpn_layer1\S+, ){3}… and 9 more$"),
        (lambda s: without(s, "rpn.head"), r"missing (rpn.head\S+, ){3}… and 3 more$"),
        (lambda s: without(s, CONV), f"is not a complete vovnet27_slim of VoVNet-Detectron: missing {CONV}$"),
        (lambda s: s | {"roi_heads.box.odd": torch.ones(1)}, f"{WHAT}unexpected roi_heads.box.odd$"),
        (lambda s: s | {"roi_heads.keypoint.a": torch.ones(1)}, f"{WHAT}unexpected roi_heads.keypoint.a$"),
        (lambda s: s | {"backbone.odd": torch.ones(1)}, f"{WHAT}unexpected backbone.odd$"),
        (lambda s: s | {LOGITS: s[LOGITS][1:]}, f"{WHAT}wrong shape of {LOGITS}: "),
        (lambda s: s | {LOGITS: s[LOGITS] * torch.nan}, f"{LOGITS} has values that are not finite"),
        (lambda s: s | {LOGITS: s[LOGITS].to_sparse()}, f"{LOGITS} in .* must be a dense tensor of"),
        (
            lambda s: without(s, SCORES),
            f"is not a complete maskrcnn_vovnet27_slim_gn: {SCORES}.weight must have a row for each class",
        ),
        (lambda s: s | {"rpn.anchor_generator.cell_anchors.0": torch.zeros(3, 4)}, "but level 0 has others"),
        (lambda s: s | {"rpn.anchor_generator.cell_anchors.4": torch.zeros(1)}, "but level 4 has others"),
        (lambda s: s | {"rpn.anchor_generator.cell_anchors.5": torch.zeros(3, 4)}, "but also has rpn.anchor_generator"),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_a_detector_with_something_wrong_is_refused(
    slim: State, change: Callable[[State], State], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = change(slim), {"source": "broken.pth", "source_sha256": "0"}
    monkeypatch.setattr("vovnet.weights.importing.read_foreign", lambda source: file)  # a hundred megabytes each
    with pytest.raises(ValueError, match=message) as caught:
        import_weights("broken.pth", tmp_path / "ours.safetensors")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.safetensors").exists()


def test_the_backbone_alone(slim: State, tmp_path: Path) -> None:
    """Of a detector where asked for, and of files that hold no more."""
    path = save(tmp_path / "theirs.pth", with_anchors(slim))
    report = import_weights(path, tmp_path / "backbone.safetensors", backbone_only=True)
    assert (report.kind, report.model) == ("backbone", "vovnet27_slim")
    assert report.set_aside["rpn.anchor_generator"] == 3
    create_backbone("vovnet27_slim", features_only=True, weights=tmp_path / "backbone.safetensors")
    assert create_backbone("vovnet27_slim", features_only=True, weights=path).pixels["channel_order"] == "BGR"

    body = {name: tensor for name, tensor in slim.items() if name.startswith("backbone.body.")}
    report = import_weights(save(tmp_path / "body.pth", body), tmp_path / "body.safetensors")
    assert (report.kind, report.model, report.set_aside) == ("backbone", "vovnet27_slim", {})


def test_what_is_imported_already(slim: State, tmp_path: Path) -> None:
    import_weights(save(tmp_path / "theirs.pth", slim), tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match="imported already: it holds weights of maskrcnn_vovnet27_slim_gn"):
        import_weights(tmp_path / "ours.safetensors", tmp_path / "again.safetensors")
    with pytest.raises(ValueError, match=r"a file that ends in .safetensors, got out.pth"):
        import_weights(tmp_path / "theirs.pth", "out.pth")


@pytest.mark.parametrize("name", ["x" * 100_000, "\x9b31m", "a\u2028b", "../../\x00"])
def test_a_file_of_ours_with_a_hostile_name_is_named_on_one_short_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    write_safetensors(path, {"a": torch.zeros(1)}, {"format": "vovnet-backbone-1", "model": name})
    with pytest.raises(ValueError, match="is imported already") as caught:
        import_weights(path, tmp_path / "again.safetensors")
    message = str(caught.value)
    assert len(message) < 500
    assert message.isprintable()
