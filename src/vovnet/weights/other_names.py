"""The names of the parts of ResNet, DenseNet, PeleeNet and MobileNet in the files of torchvision and of their authors.

Their ImageNet weights are what the paper's comparisons start from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from vovnet.models.backbones.densenet import VARIANTS
from vovnet.models.backbones.resnet import BLOCKS
from vovnet.weights.scheme import IMAGENET_RGB, Rules, Scheme, letter

# torchvision's weights of DenseNets are older than its code: "denselayer1.norm.1.weight", and no step counters.
_OLD_DENSENET: Rules = ((r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2."),)

# PeleeNet's PyTorch code: "features.denseblock1.denselayer1.branch1a.conv.weight"
_PELEE: Rules = (
    (r"^head\.", "classifier."),
    (r"^stem\.first\.", "features.stemblock.stem1."),
    (r"^stem\.conv\.(\d)\.", lambda i: f"features.stemblock.stem2{letter(i)}."),
    (r"^stem\.last\.", "features.stemblock.stem3."),
    (
        r"^stages\.(\d)\.(\d)\.near\.(\d)\.",
        lambda s, i, n: f"features.denseblock{s + 1}.denselayer{i + 1}.branch1{letter(n)}.",
    ),
    (
        r"^stages\.(\d)\.(\d)\.far\.(\d)\.",
        lambda s, i, n: f"features.denseblock{s + 1}.denselayer{i + 1}.branch2{letter(n)}.",
    ),
    (r"^stages\.(\d)\.\d\.", lambda s: f"features.transition{s + 1}."),
)

# The blobs of Caffe's Convolution, BatchNorm and Scale layers. The third blob of a BatchNorm is a factor by which mean
# and variance must be divided; it stands where we have the step counter.
_BLOBS: Rules = (
    (r"\.conv\.weight$", ".0"),
    (r"\.norm\.running_mean$", "/bn.0"),
    (r"\.norm\.running_var$", "/bn.1"),
    (r"\.norm\.num_batches_tracked$", "/bn.2"),
    (r"\.norm\.weight$", "/scale.0"),
    (r"\.norm\.bias$", "/scale.1"),
)

# Pelee's prototxt: "stage1_1/branch1a.0", "stage1_1/branch1a/bn.0", "stage1_tb/scale.1"
_PELEE_CAFFE: Rules = (
    (r"^head\.weight$", "classifier.0"),
    (r"^head\.bias$", "classifier.1"),
    (r"^stem\.first\.", "stem1."),
    (r"^stem\.conv\.(\d)\.", lambda i: f"stem2{letter(i)}."),
    (r"^stem\.last\.", "stem3."),
    (r"^stages\.(\d)\.(\d)\.near\.(\d)\.", lambda s, i, n: f"stage{s + 1}_{i + 1}/branch1{letter(n)}."),
    (r"^stages\.(\d)\.(\d)\.far\.(\d)\.", lambda s, i, n: f"stage{s + 1}_{i + 1}/branch2{letter(n)}."),
    (r"^stages\.(\d)\.\d\.", lambda s: f"stage{s + 1}_tb."),
    *_BLOBS,
)

# MobileNet's separable blocks in order: the stem has the first, the stages begin with the second, fourth, sixth and
# twelfth.
_FIRST_BLOCKS = (1, 3, 5, 11)
_BLOCKS_OF_CAFFE = ("2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2", "5_3", "5_4", "5_5", "5_6", "6")


def _mobilenet(first: str, blocks: tuple[str, ...], pointwise: str) -> Rules:
    """first, blocks: names of the first convolution and of the blocks. pointwise: end of a 1×1 convolution's name."""
    return (
        (r"^stem\.0\.", f"{first}."),
        (r"^stem\.1\.", f"conv{blocks[0]}#"),
        (r"^stages\.(\d)\.(\d)\.", lambda s, i: f"conv{blocks[_FIRST_BLOCKS[s] + i]}#"),
        (r"#0\.weight$", "/dw.conv.weight"),
        (r"#1\.", "/dw.norm."),
        (r"#3\.", f"{pointwise}."),
        *_BLOBS,
    )


# MobileNet-SSD: "conv0.0", "conv1/dw.0", "conv1/bn.0". MobileNet-Caffe: "conv1.0", "conv2_1/dw.0", "conv2_1/sep/bn.0".
_MOBILENET_SSD = _mobilenet("conv0", tuple(map(str, range(1, 14))), "")
_MOBILENET_CAFFE = _mobilenet("conv1", _BLOCKS_OF_CAFFE, "/sep")

_PELEE_BGR = {"mean": (103.94, 116.78, 123.68), "std": (1 / 0.017,) * 3, "channel_order": "BGR"}
_MOBILENET_SSD_BGR = {"mean": (127.5,) * 3, "std": (1 / 0.007843,) * 3, "channel_order": "BGR"}
# The classifiers of MobileNet are convolutions, under different names, with nothing but a weight and a bias.
_OTHER_LAYERS = r"(?!conv)[^/]+\.[01]"

OTHER_SOURCES = "a ResNet or DenseNet of torchvision, a PeleeNet of its authors or a MobileNet of Caffe"


def recognise_other(names: Iterable[str]) -> Scheme | None:
    """The naming scheme of a file with a backbone that is no VoVNet, None if it is unknown."""
    for name in names:
        if re.match(r"layer[1-4]\.\d+\.(conv|bn)\d\.", name):
            options = {"style": "torchvision", "norm": "batch"}
            return Scheme("torchvision", tuple(BLOCKS), (), options, IMAGENET_RGB)
        if match := re.match(r"features\.denseblock\d\.denselayer\d+\.(?:norm|conv)(\.?)\d\.", name):
            return Scheme("torchvision", tuple(VARIANTS), _OLD_DENSENET if match[1] else (), {}, IMAGENET_RGB)
        if re.match(r"features\.(stemblock\.|denseblock\d\.denselayer\d\.branch)", name):
            # Its norms add 1e-5, those of the detector 1e-3.
            return Scheme("PeleeNet", ("peleenet",), _PELEE, {}, IMAGENET_RGB, our_eps=1e-3)
        if re.match(r"stage\d_(\d/branch|tb)", name):
            # As in Pelee's training, the blobs go unchanged into norms that add 1e-3.
            return Scheme(
                "Caffe", ("peleenet",), _PELEE_CAFFE, {}, _PELEE_BGR, eps=1e-3, our_eps=1e-3, counter_divides=True
            )
        if re.match(r"conv\d_\d/(dw|sep)", name):
            return _mobilenet_scheme(_MOBILENET_CAFFE, _PELEE_BGR)
        if re.match(r"conv\d+/dw", name) and not re.match(r"conv6/dw", name):  # both have this one
            return _mobilenet_scheme(_MOBILENET_SSD, _MOBILENET_SSD_BGR)
    return None


def _mobilenet_scheme(rules: Rules, pixels: Mapping[str, object]) -> Scheme:
    return Scheme("Caffe", ("mobilenet",), rules, {}, pixels, counter_divides=True, classifier=_OTHER_LAYERS)
