"""ResNet, DenseNet, VGG-16, MobileNet, PeleeNet and timm's networks as backbones."""

import sys

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from vovnet import create_backbone, create_model
from vovnet.losses.multibox import MultiBoxLoss
from vovnet.models.backbones.peleenet import PeleeNet, TwoWayLayer
from vovnet.models.detectors.ssd import PeleeNeck
from vovnet.models.layers import L2Norm
from vovnet.models.norms import FrozenBatchNorm
from vovnet.structures import Target
from vovnet.zoo import BACKBONES

OTHERS = ("resnet50", "densenet201", "vgg16", "mobilenet", "peleenet")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def captured(model, module, x):
    """What `module` returns when `model` is called with x; a copy, since an in-place ReLU may follow."""
    seen = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    with torch.no_grad():
        features = model(x)
    handle.remove()
    return features, seen[0]


@pytest.mark.parametrize("name", OTHERS)
def test_every_parameter_gets_a_gradient(name):
    model = create_backbone(name, features_only=True).train()
    maps = model(torch.randn(2, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(model.channels, model.strides, strict=True)
    ]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", ["resnet50", "densenet201", "mobilenet", "peleenet"])
def test_with_a_classifier(name):
    model = create_backbone(name, num_classes=7).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(("name", "options"), [("resnet50", {"style": "torchvision"}), ("densenet201", {})])
def test_with_torchvisions_weights_the_logits_are_the_same(name, options):
    theirs = torchvision.models.get_model(name, weights=None).eval()
    ours = create_backbone(name, **options).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 70, 70)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("style", "strided"), [("caffe", "conv1"), ("torchvision", "conv2")])
def test_which_convolutions_of_resnet_have_strides(style, strided):
    model = create_backbone("resnet50", features_only=True, style=style)
    with_stride = {
        name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)
    } - {"conv1"}
    firsts = ("layer2.0", "layer3.0", "layer4.0")
    assert with_stride == {f"{first}.{conv}" for first in firsts for conv in (strided, "downsample.0")}
    assert (model.maxpool.padding, model.maxpool.ceil_mode) == ((0, True) if style == "caffe" else (1, False))


NORMS = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "frozen": FrozenBatchNorm}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["resnet50", "vovnet27_slim"])
def test_every_convolution_has_the_requested_norm(name, norm):
    model = create_backbone(name, features_only=True, norm=norm)
    norms = [module for module in model.modules() if isinstance(module, tuple(NORMS.values()))]
    assert len(norms) == sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert {type(module) for module in norms} == {NORMS[norm]}
    assert {module.eps for module in norms} == {1e-5}
    if norm == "group":
        groups = {(m.num_channels, m.num_groups) for m in norms}
        assert all(g == (16 if c in (80, 112) else 32) for c, g in groups)
        assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


@pytest.mark.parametrize("name", ["resnet50", "vovnet27_slim"])
def test_frozen_norms_equal_a_trained_batch_norm_and_never_change(name):
    trained = create_backbone(name, features_only=True)
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
    frozen = create_backbone(name, features_only=True, norm="frozen")
    assert frozen.load_state_dict(trained.state_dict()) == ([], [])  # the step counters are dropped
    before = {key: tensor.clone() for key, tensor in frozen.named_buffers()}
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(frozen.train()(x), trained.eval()(x), strict=True):
            assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert all(torch.equal(tensor, before[key]) for key, tensor in frozen.named_buffers())
    assert all(tensor.ndim == 4 for _, tensor in frozen.named_parameters())  # only convolutions are trainable


def test_initial_weights_of_resnet():
    """Variance 2 / fan_in with group norm, otherwise torchvision's 2 / fan_out."""
    for norm, fan in (("group", 2048), ("batch", 512)):  # of a 1×1 from 2048 to 512 channels
        model = create_backbone("resnet50", features_only=True, norm=norm)
        assert model.layer4[1].conv1.weight.var().item() == pytest.approx(2 / fan, rel=0.01)


def test_feature_maps_of_densenet():
    model = create_backbone("densenet201", features_only=True).eval()
    x = torch.randn(1, 3, 64, 64)
    for index in range(3):
        features, conv = captured(model, model.features.get_submodule(f"transition{index + 1}.conv"), x)
        assert torch.equal(features[index], conv)
        assert (conv < 0).any()  # linear: no ReLU after it
    features, norm = captured(model, model.features.norm5, x)
    assert torch.equal(features[3], norm.relu())
    assert (norm < 0).any()


def test_feature_maps_of_vgg16():
    model = create_backbone("vgg16").eval()
    x = torch.randn(1, 3, 64, 64)
    for index, (layer, scale) in enumerate(((22, 10.0), (29, 8.0))):  # conv4_3 and conv5_3 after their ReLU
        features, relu = captured(model, model.features[layer], x)
        torch.testing.assert_close(features[index], L2Norm(512, scale)(relu))
        _, pool = captured(model, model.features[layer + 1], x)
        assert torch.equal(pool, nn.functional.max_pool2d(relu, 2))  # the network itself uses the map without L2Norm
    assert (features[2] >= 0).all()
    # fc6 covers 7×7 positions with nine weights.
    assert (model.fc[0].dilation, model.fc[0].padding, model.fc[0].kernel_size) == ((3, 3), (3, 3), (3, 3))
    with pytest.raises(ValueError, match="features_only must be True"):
        create_backbone("vgg16", features_only=False)


def test_a_layer_of_pelee_puts_its_input_first():
    layer = TwoWayLayer(40, bottleneck=2).eval()
    x = torch.randn(1, 40, 6, 6)
    with torch.no_grad():
        out = layer(x)
        assert torch.equal(out[:, :40], x)
        assert torch.equal(out[:, 40:56], layer.near(x))
        assert torch.equal(out[:, 56:], layer.far(x))
    assert [len(way) for way in (layer.near, layer.far)] == [2, 3]
    assert layer.near[0].conv.out_channels == 32  # 16 · 2, a multiple of four


def test_pelees_constants():
    model = PeleeNet(features_only=True)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    detector = create_model("pelee304", 2)
    assert {m.eps for m in detector.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert not [m for m in detector.extras.modules() if isinstance(m, nn.BatchNorm2d)]


def test_pelees_finest_map_has_two_heads():
    neck = PeleeNeck((8, 4)).eval()
    with torch.no_grad():
        maps = neck([torch.randn(1, 8, 4, 4), torch.randn(1, 4, 2, 2)])
    assert [tuple(m.shape) for m in maps] == [(1, 256, 4, 4), (1, 256, 4, 4), (1, 256, 2, 2)]
    assert maps[0] is maps[1]


@pytest.mark.parametrize("name", ["ssd300_mobilenet", "pelee304"])
def test_a_small_detector_learns_one_image_and_finds_its_objects(name):
    model = create_model(name, num_classes=2).train()
    size = model.preprocessing.image_size[0]
    images = torch.zeros(2, 3, size, size)
    images[:, :, 25:200, 50:225] = 1.0
    targets = [Target.make([[50, 25, 225, 200]], [1])] * 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    history = []
    for _ in range(8):
        losses = MultiBoxLoss()(model(images), targets)
        optimizer.zero_grad()
        total = sum(losses.values())
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert history[-1] < 0.5 * history[0]
    with torch.no_grad():
        small, large = model.decode(model(images), [(size, size), (2 * size, 2 * size)], top_k=1)
    assert small.labels.tolist() == [1]
    torch.testing.assert_close(2 * small.boxes, large.boxes)
    torch.testing.assert_close(small.boxes, targets[0].boxes, rtol=0, atol=60)


def test_timms_networks():
    pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    model = create_backbone("timm/resnet18", features_only=True).train()
    assert (model.channels, model.strides) == ((64, 128, 256, 512), (4, 8, 16, 32))
    assert model.feature_names == ("c2", "c3", "c4", "c5")
    maps = model(torch.randn(2, 3, 64, 64))
    assert [tuple(m.shape) for m in maps] == [(2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4), (2, 512, 2, 2)]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_timms_norms_can_be_frozen():
    pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    model = create_backbone("timm/resnet18", norm="frozen").train()
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in model.modules()) == 20
    assert all(parameter.ndim == 4 for parameter in model.parameters())


def test_timms_channels_last_networks_are_permuted():
    pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    model = create_backbone("timm/swin_tiny_patch4_window7_224").eval()
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 224, 224))
    assert [tuple(m.shape) for m in maps] == [(1, 96, 56, 56), (1, 192, 28, 28), (1, 384, 14, 14), (1, 768, 7, 7)]


def test_timms_names_and_strides_are_checked():
    pytest.importorskip("timm", reason='timm is not installed: pip install "vovnet[timm]"')
    with pytest.raises(ValueError, match="no backbone is called 'timm/resnet81', did you mean 'timm/resnet"):
        create_backbone("timm/resnet81")
    with pytest.raises(ValueError, match=r"strides 8, 16 and 32, timm/vit_tiny_patch16_224 has \[16, 16"):
        create_backbone("timm/vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="norm of timm/resnet18 must be 'batch' or 'frozen', got 'group'"):
        create_backbone("timm/resnet18", norm="group")
    with pytest.raises(ValueError, match="no option of timm/resnet18 is called 'stem'"):
        create_backbone("timm/resnet18", stem="pool")
    with pytest.raises(ValueError, match="features_only must be True"):
        create_backbone("timm/resnet18", features_only=False)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r'timm/resnet18 needs an extra: pip install "vovnet\[timm\]"'):
        create_backbone("timm/resnet18")


def test_a_new_backbone_is_one_line(monkeypatch):
    """Any module with these three attributes that returns a list of feature maps is a backbone."""

    class Toy(nn.Module):
        feature_names, strides, channels = ("c3", "c4", "c5"), (8, 16, 32), (4, 6, 8)

        def __init__(self, *, features_only=True):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(a, b, s, s) for a, b, s in ((3, 4, 8), (4, 6, 2), (6, 8, 2)))

        def forward(self, x):
            maps = []
            for conv in self.convs:
                x = conv(x)
                maps.append(x)
            return maps

    monkeypatch.setitem(BACKBONES, "toy", Toy)
    model = create_backbone("toy", features_only=True)
    assert [m.shape[1:] for m in model(torch.zeros(1, 3, 64, 64))] == [(4, 8, 8), (6, 4, 4), (8, 2, 2)]
