"""RefineDet's parts against plain formulas, which map depends on which, and its options."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vovnet import create_model
from vovnet.models.detectors.refinedet import Predictor, RefineDet, TransferConnection
from vovnet.models.layers import ResidualBlock, predict
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
    head = Predictor(2, 256, 3, per_cell=3, residual=False)
    nn.init.zeros_(head.box.weight)
    nn.init.zeros_(head.cls.weight)
    head.box.bias.data = torch.arange(4.0 * 3)
    head.cls.bias.data = torch.arange(3.0 * 3)
    boxes, logits = predict([head], [torch.zeros(1, 2, 5, 7)])
    assert boxes.shape == (1, 5 * 7 * 3, 4)
    assert boxes[0].view(35, -1).unique(dim=0).tolist() == [list(range(12))]  # box by box: dx dy dw dh
    assert logits[0].view(35, -1).unique(dim=0).tolist() == [list(range(9))]
    head.box.weight.data[:, 0, 1, 1] = 1  # every output is now the index of its cell
    boxes, _ = predict([head], [torch.stack([torch.arange(35.0).view(5, 7), torch.zeros(5, 7)])[None]])
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
