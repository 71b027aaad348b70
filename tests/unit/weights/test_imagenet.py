"""ImageNet weights of the networks that the paper compares VoVNet with: the same feature maps as those of the source.

The references are torchvision's own networks, and PeleeNet and MobileNet written out from their prototxt and PyTorch
files with the functions of PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet import create_backbone
from vovnet.weights.backbone import build_pretrained, read_weights
from vovnet.weights.detector import ModelInfo, load_model, save_weights
from vovnet.weights.importing import import_weights

State = dict[str, Tensor]


def info_of(name: str, **options: object) -> ModelInfo:
    return ModelInfo(name, options, ("cat", "dog"), (1, 2))


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Equal maps, within 1e-5 of the largest value of each."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
        assert b.std() > 1e-3  # a map of equal values would prove nothing


def images() -> Tensor:
    return torch.randn(1, 3, 96, 64)


# --- torchvision --------------------------------------------------------------------------------------------------


def torchvision_model(name: str) -> nn.Module:
    """torchvision's network with random weights and statistics, in eval mode."""
    model = torchvision.models.get_model(name, weights=None, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def torchvision_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The maps that Table 4's RefineDet uses, by hooks on torchvision's modules."""
    if hasattr(model, "layer4"):
        modules = [model.layer1, model.layer2, model.layer3, model.layer4]
    else:
        parts = model.features
        modules = [parts.transition1.conv, parts.transition2.conv, parts.transition3.conv, parts.norm5]
    maps: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _, __, out: maps.append(out.clone())) for module in modules]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [*maps[:3], maps[3].relu()]


def old_spelling(state: State) -> State:
    """As in torchvision's published files of DenseNets: "norm.1", and no step counters."""
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    return {re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", name): t for name, t in state.items()}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("resnet50", ".pth"), ("resnet101", ".safetensors"), ("densenet161", ".pth"), ("densenet201", ".pth")],
)
def test_the_maps_are_those_of_torchvision(name: str, suffix: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    theirs, path = torchvision_model(name), tmp_path / f"{name}{suffix}"
    if suffix == ".pth":
        torch.save(old_spelling(theirs.state_dict()), path)
    else:
        save_file(theirs.state_dict(), path)
    info, model = build_pretrained(info_of(f"refinedet320_{name}"), str(path))
    x = images()
    with torch.no_grad():
        assert_same(model.eval().backbone(x), torchvision_maps(theirs, x))
    assert [round(value, 3) for value in model.preprocessing.mean] == [123.675, 116.28, 103.53]
    assert [round(value, 3) for value in model.preprocessing.std] == [58.395, 57.12, 57.375]
    assert model.preprocessing.channel_order == "RGB"
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(type(module).__name__.startswith("Frozen") for module in model.modules())

    # The detector's own file needs the weights no more.
    save_weights(tmp_path / "detector.safetensors", model.state_dict(), info, {})
    again = load_model(tmp_path / "detector.safetensors").model
    with torch.no_grad():
        assert_same(again.backbone(x), torchvision_maps(theirs, x))
    assert again.preprocessing.channel_order == "RGB"
    assert list(again.preprocessing.mean) == list(model.preprocessing.mean)


def test_a_whole_classifier_after_import(tmp_path: Path) -> None:
    for name in ("resnet50", "densenet201"):
        theirs = torchvision_model(name)
        torch.save(theirs.state_dict(), tmp_path / f"{name}.pth")
        report = import_weights(tmp_path / f"{name}.pth", tmp_path / f"{name}.safetensors")
        assert (report.scheme, report.model, report.num_classes, report.norm) == ("torchvision", name, 5, "batch")
        assert report.parameters == sum(parameter.numel() for parameter in theirs.parameters())
        ours = create_backbone(name, weights=tmp_path / f"{name}.safetensors").eval()
        x = images()
        with torch.no_grad():
            torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_mask_rcnn_freezes_the_norms_of_a_resnet(tmp_path: Path) -> None:
    theirs = torchvision_model("resnet50")
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    _, model = build_pretrained(info_of("maskrcnn_resnet50"), str(tmp_path / "weights.pth"))
    x = images()
    with torch.no_grad():
        assert_same(model.eval().backbone(x), torchvision_maps(theirs, x))


# --- Caffe --------------------------------------------------------------------------------------------------------


class Blobs:
    """A Caffe net: `conv` draws the blobs of a Convolution, BatchNorm and Scale layer when it first meets their names,
    and computes them."""

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.arrays: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(0)

    def conv(self, x: Tensor, name: str, width: int, kernel: int, *, stride: int = 1, groups: int = 1) -> Tensor:
        if f"{name}.0" not in self.arrays:
            draw, fan_in, factor = self.random, x.shape[1] // groups * kernel**2, 999.5
            shapes = {f"{name}.0": draw.normal(0, fan_in**-0.5, (width, x.shape[1] // groups, kernel, kernel))}
            shapes[f"{name}/bn.0"] = draw.uniform(-0.5, 0.5, width) * factor
            shapes[f"{name}/bn.1"] = draw.uniform(0.5, 1.5, width) * factor
            shapes[f"{name}/bn.2"] = np.array([factor])
            shapes[f"{name}/scale.0"] = draw.uniform(0.5, 1.5, width)
            shapes[f"{name}/scale.1"] = draw.uniform(-0.5, 0.5, width)
            self.arrays |= {key: array.astype(np.float32) for key, array in shapes.items()}
        weight, mean, var, factor, gamma, beta = (
            torch.from_numpy(self.arrays[f"{name}{end}"])
            for end in (".0", "/bn.0", "/bn.1", "/bn.2", "/scale.0", "/scale.1")
        )
        x = F.conv2d(x, weight, None, stride, kernel // 2, groups=groups)
        x = (x - (mean / factor).view(-1, 1, 1)) / (var / factor + self.eps).sqrt().view(-1, 1, 1)
        return (gamma.view(-1, 1, 1) * x + beta.view(-1, 1, 1)).relu()


def caffe_peleenet(net: Blobs, x: Tensor) -> list[Tensor]:
    """PeleeNetBody of Pelee's peleenet.py. The maps of the four stages before their pooling."""
    x = net.conv(x, "stem1", 32, 3, stride=2)
    path = net.conv(net.conv(x, "stem2a", 16, 1), "stem2b", 32, 3, stride=2)
    x = net.conv(torch.cat([F.max_pool2d(x, 2, ceil_mode=True), path], 1), "stem3", 32, 1)
    maps = []
    for stage, (layers, bottleneck) in enumerate(zip((3, 4, 8, 6), (1, 2, 4, 4), strict=True), start=1):
        inter = 16 * bottleneck // 4 * 4
        for layer in range(1, layers + 1):
            name = f"stage{stage}_{layer}/branch"
            one = net.conv(net.conv(x, f"{name}1a", inter, 1), f"{name}1b", 16, 3)
            two = net.conv(net.conv(x, f"{name}2a", inter, 1), f"{name}2b", 16, 3)
            x = torch.cat([x, one, net.conv(two, f"{name}2c", 16, 3)], 1)
        x = net.conv(x, f"stage{stage}_tb", x.shape[1], 1)
        maps.append(x)
        x = F.avg_pool2d(x, 2, ceil_mode=True)
    return maps


WIDTHS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


def caffe_mobilenet(net: Blobs, x: Tensor, first: str, blocks: list[str], pointwise: str) -> list[Tensor]:
    """MobileNet v1. The last maps of strides 4, 8, 16 and 32; those of stride 16 and 32 are conv11 and conv13."""
    x = net.conv(x, first, 32, 3, stride=2)
    maps = []
    for (width, stride), name in zip(WIDTHS, blocks, strict=True):
        if stride == 2:
            maps.append(x)
        x = net.conv(x, f"{name}/dw", x.shape[1], 3, stride=stride, groups=x.shape[1])
        x = net.conv(x, f"{name}{pointwise}", width, 1)
    return [*maps[1:], x]


def mobilenet_ssd(net: Blobs, x: Tensor) -> list[Tensor]:
    return caffe_mobilenet(net, x, "conv0", [f"conv{i}" for i in range(1, 14)], "")


def mobilenet_caffe(net: Blobs, x: Tensor) -> list[Tensor]:
    blocks = ["2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2", "5_3", "5_4", "5_5", "5_6", "6"]
    return caffe_mobilenet(net, x, "conv1", [f"conv{name}" for name in blocks], "/sep")


PELEE_PIXELS = ((103.94, 116.78, 123.68), 0.017)
CAFFE = [
    ("pelee304", caffe_peleenet, 1e-3, PELEE_PIXELS, {"classifier.0": (1000, 704), "classifier.1": (1000,)}),
    ("ssd300_mobilenet", mobilenet_ssd, 1e-5, ((127.5,) * 3, 0.007843), {}),
    ("ssd300_mobilenet", mobilenet_caffe, 1e-5, PELEE_PIXELS, {"fc7.0": (1000, 1024, 1, 1), "fc7.1": (1000,)}),
]


@pytest.mark.parametrize(("name", "network", "eps", "pixels", "classifier"), CAFFE)
def test_the_maps_are_those_of_caffe(
    name: str,
    network: Callable[[Blobs, Tensor], list[Tensor]],
    eps: float,
    pixels: tuple[tuple[float, ...], float],
    classifier: dict[str, tuple[int, ...]],
    tmp_path: Path,
) -> None:
    net, x = Blobs(eps), images()
    theirs = network(net, x)
    others = {key: np.zeros(shape, dtype=np.float32) for key, shape in classifier.items()}
    np.savez(tmp_path / "caffe.npz", **net.arrays, **others)
    info, model = build_pretrained(info_of(name), str(tmp_path / "caffe.npz"))
    with torch.no_grad():
        assert_same(model.eval().backbone(x), theirs)
    mean, scale = pixels
    assert tuple(model.preprocessing.mean) == mean
    image = torch.randint(0, 256, (3, *model.preprocessing.image_size), dtype=torch.uint8)
    expected = (image.flip(0).float() - torch.tensor(mean).view(3, 1, 1)) * scale
    torch.testing.assert_close(model.preprocessing([image])[0], expected, rtol=1e-5, atol=1e-5)
    save_weights(tmp_path / "detector.safetensors", model.state_dict(), info, {})
    again = load_model(tmp_path / "detector.safetensors").model
    torch.testing.assert_close(again.preprocessing([image]), model.preprocessing([image]))


class Torch(Blobs):
    """The same under the names of PeleeNet's PyTorch code, whose norms have no factor and add 1e-5."""

    def __init__(self) -> None:
        super().__init__(eps=1e-5)

    def state(self) -> State:
        names = [("stem", r"^stem(\d\w?)", r"features.stemblock.stem\1")]
        names += [("layer", r"^stage(\d)_(\d)/", r"features.denseblock\1.denselayer\2.")]
        names += [("transition", r"^stage(\d)_tb", r"features.transition\1")]
        ends = {".0": ".conv.weight", "/scale.0": ".norm.weight", "/scale.1": ".norm.bias"}
        ends |= {"/bn.0": ".norm.running_mean", "/bn.1": ".norm.running_var"}
        state: State = {}
        for key, array in self.arrays.items():
            if key.endswith("/bn.2"):
                state[key.removesuffix("/bn.2") + ".norm.num_batches_tracked"] = torch.tensor(7)
                continue
            base, end = re.fullmatch(r"(.*?)((?:/bn|/scale)?\.\d)", key).groups()
            value = torch.from_numpy(array.copy())
            state[base + ends[end]] = value / 999.5 if "/bn" in end else value
        for _, pattern, replacement in names:
            state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
        return state


def test_the_maps_are_those_of_peleenet_in_pytorch(tmp_path: Path) -> None:
    net, x = Torch(), images()
    theirs = caffe_peleenet(net, x)
    state = {f"module.{name}": tensor for name, tensor in net.state().items()}
    state |= {"module.classifier.weight": torch.zeros(1000, 704), "module.classifier.bias": torch.zeros(1000)}
    assert "module.features.denseblock3.denselayer8.branch2c.norm.running_var" in state
    checkpoint = {"epoch": 120, "arch": "peleenet", "state_dict": state, "best_acc1": torch.tensor(72.08)}
    torch.save(checkpoint | {"optimizer": {"state": {}}}, tmp_path / "peleenet_acc7208.pth.tar")
    _, model = build_pretrained(info_of("pelee304"), str(tmp_path / "peleenet_acc7208.pth.tar"))
    with torch.no_grad():
        assert_same(model.eval().backbone(x), theirs)
    assert model.preprocessing.channel_order == "RGB"
    assert model.preprocessing.image_size == (304, 304)


# --- files that are not right -------------------------------------------------------------------------------------


def resnet_state(name: str = "resnet50") -> State:
    return torchvision.models.get_model(name, weights=None).state_dict()


def without(state: State, name: str) -> State:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("detector", "state", "message"),
    [
        ("refinedet320_resnet50", lambda: resnet_state("resnet101"), "holds weights of resnet101, not of resnet50"),
        (
            "refinedet320_resnet50",
            lambda: resnet_state("resnet18"),
            "is not a complete resnet50 of torchvision: missing layer1.0.bn3.bias, .*wrong shape of fc.weight",
        ),
        (
            "refinedet320_resnet50",
            lambda: resnet_state("wide_resnet50_2"),
            r"wrong shape of layer1.0.bn1.bias, .*: \(128,\), expected \(64,\)",
        ),
        (
            "refinedet320_resnet101",
            lambda: without(resnet_state("resnet101"), "layer3.22.conv3.weight"),
            r"is not a complete resnet101 of torchvision: missing layer3\.22\.conv3\.weight$",
        ),
        (
            "refinedet320_densenet161",
            lambda: resnet_state("densenet121"),
            "is not a complete densenet201 of torchvision: missing features.denseblock",
        ),
        ("refinedet320_densenet201", resnet_state, "holds weights of resnet50, not of densenet201"),
        ("pelee304", resnet_state, "holds weights of resnet50, not of peleenet"),
        ("refinedet320_vovnet39", resnet_state, "holds weights of resnet50, not of vovnet39"),
        (
            "ssd300_mobilenet",
            lambda: resnet_state("mobilenet_v2"),
            "must name its tensors as .* a MobileNet of Caffe, but has classifier.1.bias",
        ),
        (
            "refinedet320_resnet50",
            lambda: torchvision.models.get_model(
                "deeplabv3_resnet50", weights=None, weights_backbone=None
            ).state_dict(),
            "must hold a backbone, with at most a classifier, but also has classifier.0.convs.0.0.weight",
        ),
        (
            "refinedet320_resnet50",
            lambda: resnet_state() | {"fc.weight": torch.full((1000, 2048), torch.nan)},
            "fc.weight has values that are not finite",
        ),
    ],
)
def test_weights_of_another_network_are_refused(
    detector: str, state: Callable[[], State], message: str, tmp_path: Path
) -> None:
    torch.save(state(), tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=message) as caught:
        build_pretrained(info_of(detector), str(tmp_path / "wrong.pth"))
    assert "\n" not in str(caught.value)


def test_a_mobilenet_with_another_activation_is_refused(tmp_path: Path) -> None:
    """timm's has ReLU6 where ours has ReLU, under names of its own."""
    import timm

    net = timm.create_model("mobilenetv1_100")
    assert any(isinstance(module, nn.ReLU6) for module in net.modules())
    torch.save(net.state_dict(), tmp_path / "timm.pth")
    with pytest.raises(ValueError, match="must name its tensors as .* a MobileNet of Caffe, but has"):
        read_weights(tmp_path / "timm.pth")


@pytest.mark.parametrize("name", ["dsod300_vovnet27_slim", "dsod300_densenet67", "maskrcnn_resnet50_gn"])
def test_detectors_that_start_from_random_weights_only(name: str) -> None:
    message = f"backbone_weights is for .* got {name}; backbone_weights=null starts it from random weights"
    with pytest.raises(ValueError, match=message):
        build_pretrained(info_of(name), "torchvision/resnet50")


@pytest.mark.parametrize("detector", ["pelee304", "refinedet320_resnet50", "refinedet320_timm/resnet18"])
def test_missing_weights_say_what_to_do(detector: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        build_pretrained(info_of(detector), "weights/gone.npz")
    assert "weights/gone.npz is neither a weights file nor the name of weights; the config's header" in str(
        caught.value
    )
    assert "docs/weights.md" in str(caught.value)
    assert "backbone_weights=null starts from random ones" in str(caught.value)
