"""RefineDet320 and 512: exact counts, the counts that the paper prints, feature maps and anchors."""

from itertools import pairwise

import pytest
import torch

from vovnet import create_model
from vovnet.names import REFINEDET_BACKBONES
from vovnet.profiling.cost import count_cost, count_parameters

# 81 classes: parameters; multiply-adds at 320, and at 512 in giga (DenseNets do not fit the authors' GPUs at 512); BN
# outputs at 320 in giga, their sum with the multiply-adds, and what Table 4 prints: FLOPs in giga, parameters.
TABLE_4 = {
    "vovnet39": (56_283_844, 32_626_201_600, 83.523, 0.0293, 32.655, "32.6", "56.28"),
    "vovnet57": (70_323_844, 36_417_868_800, 93.230, 0.0309, 36.449, "36.45", "70.32"),
    "resnet50": (63_459_460, 25_399_219_200, 65.022, 0.0347, 25.434, "25.43", "63.46"),
    "resnet101": (82_451_588, 32_975_180_800, 84.416, 0.0451, 33.020, "33.02", "82.45"),
    "densenet201": (56_127_428, 24_584_524_800, None, 0.0635, 24.648, "24.65", "56.13"),
    "densenet161": (66_755_204, 32_668_492_800, None, 0.0731, 32.742, "32.74", "66.76"),
}
# 21 classes: parameters in millions, multiply-adds in giga at 320 and 512.
VOC = {"vovnet39": (49.648, 29.101, 74.499), "vovnet57": (63.688, 32.893, 84.205)}
EXACT_AT_512 = {"vovnet39": 83_523_076_096, "vovnet57": 93_229_744_128}


def build(name, num_classes):
    with torch.device("meta"):
        return create_model(name, num_classes)


def cost_of(name, num_classes):
    size = int(name.removeprefix("refinedet")[:3])
    return count_cost(build(name, num_classes), (1, 3, size, size)).total


@pytest.mark.parametrize("name", TABLE_4)
def test_table_4(name):
    parameters, multiply_adds, _, norms, total, printed_giga, printed_parameters = TABLE_4[name]
    cost = cost_of(f"refinedet320_{name}", 80)
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)
    assert f"{parameters / 1e6:.2f}" == printed_parameters
    # The paper's FLOPs count one operation for each multiply-add and for each output of a batch norm.
    assert round(cost.batch_norm_elements / 1e9, 4) == norms
    published = (cost.multiply_adds + cost.batch_norm_elements) / 1e9
    assert round(published, 3) == total
    assert f"{published:.2f}".startswith(printed_giga)  # only VoVNet-39's value is truncated


@pytest.mark.parametrize("name", [name for name, row in TABLE_4.items() if row[2]])
def test_at_512(name):
    cost = cost_of(f"refinedet512_{name}", 80)
    assert cost.parameters == TABLE_4[name][0]  # the same weights
    assert round(cost.multiply_adds / 1e9, 3) == TABLE_4[name][2]
    assert cost.multiply_adds == EXACT_AT_512.get(name, cost.multiply_adds)


@pytest.mark.parametrize("name", VOC)
def test_with_21_classes(name):
    millions, giga_320, giga_512 = VOC[name]
    small, large = (cost_of(f"refinedet{size}_{name}", 20) for size in (320, 512))
    assert round(small.parameters / 1e6, 3) == round(large.parameters / 1e6, 3) == millions
    assert round(small.multiply_adds / 1e9, 3) == giga_320
    assert round(large.multiply_adds / 1e9, 3) == giga_512


@pytest.mark.parametrize("name", ["vovnet39", "resnet50", "densenet161"])
def test_sixty_classes_fewer(name):
    """Each class costs one row of the four detection predictors, whatever the backbone."""
    many, few = (cost_of(f"refinedet320_{name}", classes) for classes in (80, 20))
    row = 3 * 1024 * 9
    assert many.parameters - few.parameters == 60 * 4 * (row + 3)
    assert many.multiply_adds - few.multiply_adds == 60 * row * (40**2 + 20**2 + 10**2 + 5**2)


def test_without_the_residual_blocks_of_the_predictors():
    """About 37.25 M and 22.8 G: the paper's network differs from the plain form by these blocks."""
    model = build("refinedet320_vovnet39", 80)
    total = count_cost(model, (1, 3, 320, 320))
    blocks = [layer for layer in total.layers if ".block." in layer.path]
    heads_on = {"arm": (512, 768, 1024, 512), "odm": (256,) * 4}
    parameters = total.total.parameters - sum(layer.parameters for layer in blocks)
    multiply_adds = total.total.multiply_adds - sum(layer.multiply_adds for layer in blocks)
    for module, logits in (("arm", 2), ("odm", 81)):  # the predictors then take the maps directly
        for c, side in zip(heads_on[module], (40, 20, 10, 5), strict=True):
            fewer = (c - 1024) * 9 * 3 * (4 + logits)
            parameters += fewer
            multiply_adds += fewer * side**2
    assert round(parameters / 1e6, 2) == 37.25
    assert round(multiply_adds / 1e9, 1) == 22.8


def test_vgg16_layer_by_layer():
    def conv(c_in, c_out, kernel=3):
        return c_in * c_out * kernel**2 + c_out

    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    backbone = sum(conv(a, b) for a, b in pairwise(widths))
    backbone += 512 + 512 + conv(512, 1024) + conv(1024, 1024, 1)  # L2Norm of two maps, fc6, fc7
    sixth = conv(1024, 256, 1) + conv(256, 512)
    sources = (512, 512, 1024, 512)
    arm = sum(conv(c, 3 * 4) + conv(c, 3 * 2) for c in sources)
    tcb = sum(conv(c, 256) + 2 * conv(256, 256) for c in sources) + 3 * conv(256, 256, 2)
    odm = 4 * (conv(256, 3 * 4) + conv(256, 3 * 81))
    model = build("refinedet320_vgg16", 80)
    parts = [model.backbone, model.sixth, model.arm, model.tcb, model.odm]
    assert [count_parameters(part) for part in parts] == [backbone, sixth, arm, tcb, odm]
    assert count_parameters(model) == sum((backbone, sixth, arm, tcb, odm))
    assert not [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [norm.scale.numel() for norm in model.backbone.norms] == [512, 512]
    real = create_model("refinedet320_vgg16", 20)
    assert [norm.scale.unique().tolist() for norm in real.backbone.norms] == [[10.0], [8.0]]


@pytest.mark.parametrize("name", REFINEDET_BACKBONES)
@pytest.mark.parametrize(("size", "sides", "anchors"), [(320, (40, 20, 10, 5), 6375), (512, (64, 32, 16, 8), 16_320)])
def test_maps_and_anchors(name, size, sides, anchors):
    model = build(f"refinedet{size}_{name}", 20).eval()
    assert model.preprocessing.image_size == (size, size)
    assert model.preprocessing.mean == (104, 117, 123)
    assert (model.preprocessing.std, model.preprocessing.channel_order) == ((1, 1, 1), "BGR")
    seen = []
    for part in (*model.arm, *model.odm):
        part.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    outputs = model(torch.empty(1, 3, size, size, device="meta"))
    sources = tuple(
        model.arm[level].cls.in_channels if name == "vgg16" else shape[1] for level, shape in enumerate(seen[:4])
    )
    assert seen[:4] == [(1, c, side, side) for c, side in zip(sources, sides, strict=True)]
    assert sources[:3] == model.backbone.channels[-3:]
    assert sources[3] == 512
    assert seen[4:] == [(1, 256, side, side) for side in sides]
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "objectness_logits": (1, anchors, 2),
        "anchor_deltas": (1, anchors, 4),
        "class_logits": (1, anchors, 21),
        "box_deltas": (1, anchors, 4),
        "anchors_cxcywh": (anchors, 4),
    }


@pytest.mark.parametrize(("size", "sides"), [(320, (40, 20, 10, 5)), (512, (64, 32, 16, 8))])
def test_anchors_by_hand(size, sides):
    """One size per feature map, 4 × its stride for both inputs; ratios 1, 2, 1/2 in this order; not clipped."""
    with torch.no_grad():
        model = create_model("refinedet320_vovnet27_slim", 1).eval()
        anchors = model(torch.zeros(1, 3, size, size))["anchors_cxcywh"]
    start = 0
    for side, stride, length in zip(sides, (8, 16, 32, 64), (32, 64, 128, 256), strict=True):
        level = anchors[start : start + 3 * side * side].view(side, side, 3, 4)
        root = 2**0.5
        shapes = [[length, length], [length * root, length / root], [length / root, length * root]]
        torch.testing.assert_close(level[..., 2:], torch.tensor(shapes).expand(side, side, 3, 2))
        centres = (torch.arange(side) + 0.5) * stride
        assert (level[:, :, :, 0] == centres.view(1, -1, 1)).all()
        assert (level[:, :, :, 1] == centres.view(-1, 1, 1)).all()
        start += 3 * side * side
    assert start == len(anchors)
