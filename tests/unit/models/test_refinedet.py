"""RefineDet's parts against plain formulas, which map depends on which, and its decoding against slow loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vovnet import create_model
from vovnet.models.detectors.refinedet import PER_CELL, Predictor, RefineDet, TransferConnection
from vovnet.models.layers import ResidualBlock
from vovnet.models.preprocessing import Preprocessing


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Toy(nn.Module):
    """Feature maps of strides 8, 16 and 32, computed separately, so that none depends on another."""

    channels = (8, 12, 16)

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, c, s, s) for c, s in zip(self.channels, (8, 16, 32), strict=True))

    def forward(self, x):
        return [x, *(conv(x) for conv in self.convs)]  # an additional first map, like the C2 of a backbone


def toy_detector(num_classes=2, residual=True):
    return RefineDet(Toy(), Toy.channels, num_classes, Preprocessing((128, 128)), residual=residual)


def settle(module):
    """Give norms random statistics and parameters, so that none of them is an identity."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
        elif isinstance(norm, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(norm.weight, std=0.2)
    return module.eval()


def norm_of(x, norm):
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)


def conv_norm(x, unit, **options):
    return norm_of(F.conv2d(x, unit.conv.weight, **options), unit.norm)


@torch.no_grad()
@pytest.mark.parametrize("stride", [1, 2])
def test_residual_block(stride):
    block = settle(ResidualBlock(6, 4, 10, stride=stride))
    x = torch.randn(2, 6, 8, 8)
    squeeze, middle, expand = block.branch
    y = conv_norm(x, squeeze, stride=stride).relu()  # the first 1×1 has the stride
    y = conv_norm(conv_norm(y, middle, padding=1).relu(), expand)
    expected = (y + conv_norm(x, block.shortcut, stride=stride)).relu()
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)
    assert (y < 0).any()  # so that a ReLU before the sum would show


@torch.no_grad()
def test_transfer_connection():
    block = settle(TransferConnection(6, 256, True, coarsest=False))
    x, coarser = torch.randn(2, 6, 8, 8), torch.randn(2, 256, 4, 4)
    lateral = conv_norm(conv_norm(x, block.first, padding=1).relu(), block.second, padding=1)
    deconv, norm = block.up
    assert deconv.bias is None
    up = norm_of(F.conv_transpose2d(coarser, deconv.weight, stride=2), norm)
    assert (lateral < 0).any()  # so that a ReLU on either side of the sum would show
    assert (up < 0).any()
    expected = conv_norm((lateral + up).relu(), block.last, padding=1).relu()
    torch.testing.assert_close(block(x, coarser), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_coarsest_transfer_connection_is_three_layers():
    block = settle(TransferConnection(6, 256, True, coarsest=True))
    x = expected = torch.randn(2, 6, 4, 4)
    for unit in (block.first, block.second, block.last):
        expected = conv_norm(expected, unit, padding=1).relu()
    torch.testing.assert_close(block(x, None), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_plain_transfer_connection():
    block = settle(TransferConnection(6, 256, False, coarsest=False))
    x, coarser = torch.randn(2, 6, 8, 8), torch.randn(2, 256, 4, 4)

    def conv(x, layer):
        return F.conv2d(x, layer.weight, layer.bias, padding=1)

    lateral = conv(conv(x, block.first[0]).relu(), block.second)
    up = F.conv_transpose2d(coarser, block.up.weight, block.up.bias, stride=2)
    torch.testing.assert_close(
        block(x, coarser), conv((lateral + up).relu(), block.last[0]).relu(), rtol=1e-4, atol=1e-3
    )


def test_which_maps_each_level_depends_on():
    """In the first step, on its own map only; in the second step, on its own map and all coarser maps."""
    model = settle(toy_detector())
    maps, arm, odm = [], [], []
    for part, kept in ((model.backbone.convs, maps), ([model.sixth], maps), (model.arm, arm), (model.odm, odm)):
        for module in part:
            module.register_forward_hook(lambda _, args, output, kept=kept: kept.append(output))
    model(torch.randn(1, 3, 128, 128))

    def seen_by(outputs):
        gradients = torch.autograd.grad(sum(out.sum() for out in outputs), maps, allow_unused=True, retain_graph=True)
        return [gradient is not None and bool(gradient.any()) for gradient in gradients]

    # The sixth map is made from the third, so a level that depends on the sixth also depends on the third.
    assert [seen_by(outputs) for outputs in arm] == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, True, True],
    ]
    assert [seen_by(outputs) for outputs in odm] == [
        [True, True, True, True],
        [False, True, True, True],
        [False, False, True, True],
        [False, False, True, True],
    ]


def test_predictor_order_is_row_column_anchor():
    head = Predictor(2, 256, 3, residual=False)
    nn.init.zeros_(head.box.weight)
    nn.init.zeros_(head.cls.weight)
    head.box.bias.data = torch.arange(4.0 * PER_CELL)
    head.cls.bias.data = torch.arange(3.0 * PER_CELL)
    boxes, logits = head(torch.zeros(1, 2, 5, 7))
    assert boxes.shape == (1, 5 * 7 * PER_CELL, 4)
    assert boxes[0].view(35, -1).unique(dim=0).tolist() == [list(range(12))]  # box by box: dx dy dw dh
    assert logits[0].view(35, -1).unique(dim=0).tolist() == [list(range(9))]
    head.box.weight.data[:, 0, 1, 1] = 1  # every output is now the index of its cell
    boxes, _ = head(torch.stack([torch.arange(35.0).view(5, 7), torch.zeros(5, 7)])[None])
    assert (boxes[0].view(35, -1) - torch.arange(12.0) == torch.arange(35.0)[:, None]).all()


def test_initial_weights():
    model = toy_detector()
    for name, module in model.named_modules():
        if name.startswith("backbone") or not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        if module.bias is None:
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.15), name
        else:
            assert name.split(".")[-1] in ("box", "cls")
            assert not module.bias.any()
            bound = math.sqrt(3 / (module.in_channels * 9))
            assert 0.95 * bound < module.weight.abs().max() <= bound
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-5}


@pytest.mark.parametrize("name", ["vovnet27_slim", "vgg16"])
def test_contract(name):
    """The same keys in train and eval mode; a batch equals its images alone; every parameter gets a gradient."""
    model = create_model(f"refinedet320_{name}", num_classes=3).eval()
    images = torch.randn(2, 3, 128, 128) * 50
    learnt = ("objectness_logits", "anchor_deltas", "class_logits", "box_deltas")
    with torch.no_grad():
        outputs = model(images)
        for index in range(2):
            alone = model(images[index : index + 1])
            for key in learnt:
                torch.testing.assert_close(outputs[key][index], alone[key][0], rtol=1e-3, atol=1e-4)
    model.train()
    trained = model(images)
    assert set(trained) == set(outputs) == {*learnt, "anchors_cxcywh"}
    sum((trained[key] * torch.randn_like(trained[key])).sum() for key in learnt).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("size", [(320, 300), (96, 128)])
def test_wrong_input_size(size):
    with pytest.raises(ValueError, match="multiples of 64"):
        toy_detector()(torch.zeros(1, 3, *size))


@torch.no_grad()
def test_inputs_need_not_be_square():
    outputs = toy_detector().eval()(torch.zeros(1, 3, 128, 192))
    assert len(outputs["anchors_cxcywh"]) == 3 * sum(128 * 192 // s**2 for s in (8, 16, 32, 64))
    assert outputs["class_logits"].shape[1] == len(outputs["anchors_cxcywh"])


@torch.no_grad()
def test_any_backbone_of_timm():
    pytest.importorskip("timm")
    model = create_model("refinedet512_timm/mobilenetv3_small_050", 2).eval()
    assert model.preprocessing.image_size == (512, 512)
    assert model(torch.zeros(1, 3, 64, 64))["class_logits"].shape == (1, 3 * (64 + 16 + 4 + 1), 3)
    with pytest.raises(ValueError, match="did you mean 'timm/mobilenetv3_small_050'"):
        create_model("refinedet320_timm/mobilenetv3_small_50", 2)
    with pytest.raises(ValueError, match="no detector is called 'refinedet300_timm/resnet18'"):
        create_model("refinedet300_timm/resnet18", 2)


def test_options():
    with torch.device("meta"):
        model = create_model(
            "refinedet320_vovnet39",
            2,
            backbone={"stem": "stride", "identity": True},
            pixels={"mean": (1, 2, 3), "channel_order": "RGB"},
        )
        assert model.backbone.stages[2][1].identity
        assert model.preprocessing == Preprocessing((320, 320), (1, 2, 3), channel_order="RGB")
        with pytest.raises(ValueError, match="no option of vovnet39 is called 'stems', did you mean 'stem'"):
            create_model("refinedet320_vovnet39", 2, backbone={"stems": "pool"})


# Decoding.


def oracle_iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def move(box, delta):
    cx, cy, w, h = box
    return cx + 0.1 * delta[0] * w, cy + 0.1 * delta[1] * h, w * math.exp(0.2 * delta[2]), h * math.exp(0.2 * delta[3])


def oracle_decode(outputs, image, image_size, input_size, candidates, top_k):
    """(class, score, box) of one image, best first."""
    anchors = outputs["anchors_cxcywh"].tolist()
    probabilities = outputs["class_logits"][image].double().softmax(-1).tolist()
    objectness = outputs["objectness_logits"][image].double().softmax(-1)[:, 1].tolist()
    boxes = []
    for anchor, first, second in zip(
        anchors, outputs["anchor_deltas"][image].tolist(), outputs["box_deltas"][image].tolist(), strict=True
    ):
        cx, cy, w, h = move(move(anchor, first), second)
        boxes.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
    detections = []
    for label in range(len(probabilities[0]) - 1):
        scored = [
            (p[label + 1] if o >= 0.01 else 0.0, a)
            for a, (p, o) in enumerate(zip(probabilities, objectness, strict=True))
        ]
        ranked = sorted((s for s in scored if s[0] > 0.01), reverse=True)[:candidates]
        kept = []
        for score, a in ranked:
            if all(oracle_iou(boxes[a], boxes[b]) <= 0.45 for _, b in kept):
                kept.append((score, a))
        detections += [(label, score, boxes[a]) for score, a in kept]
    detections.sort(key=lambda f: -f[1])
    height, width = image_size
    sx, sy = width / input_size[1], height / input_size[0]
    return [
        (
            label,
            score,
            [min(max(v * s, 0), limit) for v, s, limit in zip(box, (sx, sy) * 2, (width, height) * 2, strict=True)],
        )
        for label, score, box in detections[:top_k]
    ]


def random_outputs(n=2, anchors=120, classes=3, side=128):
    centre, size = torch.rand(anchors, 2) * side, torch.rand(anchors, 2) * 40 + 10
    return {
        "objectness_logits": torch.randn(n, anchors, 2) * 3,
        "anchor_deltas": torch.randn(n, anchors, 4),
        "class_logits": torch.randn(n, anchors, classes + 1) * 2,
        "box_deltas": torch.randn(n, anchors, 4),
        "anchors_cxcywh": torch.cat([centre, size], dim=1),
    }


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("candidates", "top_k"), [(1000, 500), (20, 25)])
def test_decode_agrees_with_slow_loops(seed, candidates, top_k):
    torch.manual_seed(seed)
    model, outputs = toy_detector(3), random_outputs()
    sizes = [(256, 100), (60, 300)]
    for image, detections in enumerate(model.decode(outputs, sizes, candidates=candidates, top_k=top_k)):
        expected = oracle_decode(outputs, image, sizes[image], (128, 128), candidates, top_k)
        assert len(expected) > 20
        assert detections.labels.tolist() == [label for label, _, _ in expected]
        torch.testing.assert_close(
            detections.scores, torch.tensor([score for _, score, _ in expected]), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(detections.boxes, torch.tensor([box for *_, box in expected]), rtol=1e-4, atol=1e-3)


def test_published_limits_of_decoding():
    """1000 candidates per class, 500 detections per image, scores above 0.01."""
    model = toy_detector(1)
    anchors = 1600
    outputs = {
        "objectness_logits": torch.zeros(1, anchors, 2),
        "anchor_deltas": torch.zeros(1, anchors, 4),
        "class_logits": torch.stack([torch.zeros(anchors), torch.linspace(0, 2, anchors)], dim=1)[None],
        "box_deltas": torch.zeros(1, anchors, 4),
        "anchors_cxcywh": torch.tensor([[3.2 * (i % 40), 3.2 * (i // 40), 2, 2] for i in range(anchors)]),
    }
    assert len(model.decode(outputs, [(128, 128)])[0]) == 500
    assert len(model.decode(outputs, [(128, 128)], top_k=9999)[0]) == 1000
    outputs["class_logits"][...] = torch.tensor([0.99, 0.01]).log()
    threshold = outputs["class_logits"].softmax(-1)[0, 0, 1].item()
    assert len(model.decode(outputs, [(128, 128)], score_threshold=threshold)[0]) == 0
    assert len(model.decode(outputs, [(128, 128)], score_threshold=threshold - 1e-6)[0]) == 500


def test_filtered_anchors_have_no_detections():
    model, outputs = toy_detector(2), random_outputs(n=1, anchors=2, classes=2)
    outputs["class_logits"][0] = torch.tensor([0.0, 9, 0])
    outputs["anchors_cxcywh"] = torch.tensor([[30.0, 30, 20, 20], [90, 90, 20, 20]])
    for objectness, count in ((0.0101, 2), (0.0099, 1)):
        outputs["objectness_logits"][0] = torch.tensor([0.0, 0.0])
        outputs["objectness_logits"][0, 0] = torch.tensor([1 - objectness, objectness]).log()
        detections = model.decode(outputs, [(128, 128)])[0]
        assert (detections.labels == 0).sum() == count
    outputs["objectness_logits"][0] = torch.tensor([9.0, 0.0])
    assert len(model.decode(outputs, [(128, 128)], score_threshold=0.0)[0]) == 0  # not even with threshold 0


def test_decoding_a_batch_equals_decoding_its_images_alone():
    model, outputs = toy_detector(3), random_outputs(n=2, anchors=600)
    sizes = [(128, 128), (300, 200)]
    for index, detections in enumerate(model.decode(outputs, sizes)):
        single = {k: v if k == "anchors_cxcywh" else v[index : index + 1] for k, v in outputs.items()}
        (alone,) = model.decode(single, sizes[index : index + 1])
        assert torch.equal(detections.labels, alone.labels)
        torch.testing.assert_close(detections.boxes, alone.boxes)
        torch.testing.assert_close(detections.scores, alone.scores)


def test_a_box_over_the_edge_does_not_suppress_another_class():
    """One NMS separates classes by shifts, which negative coordinates must not undo."""
    model, outputs = toy_detector(2), random_outputs(n=1, anchors=2, classes=2)
    for key in ("objectness_logits", "anchor_deltas", "box_deltas"):
        outputs[key].zero_()
    outputs["anchors_cxcywh"] = torch.tensor([[60.0, 60, 80, 80], [-41.0, -41, 84, 84]])  # ends at 100 and at 1
    outputs["class_logits"] = torch.tensor([[[0.0, 9, -9], [0.0, -9, 8]]])
    detections = model.decode(outputs, [(128, 128)], score_threshold=0.5)[0]
    assert detections.labels.tolist() == [0, 1]
    torch.testing.assert_close(detections.boxes, torch.tensor([[20.0, 20, 100, 100], [0, 0, 1, 1]]))
