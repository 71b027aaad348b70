"""Learning rate and weight decay of every parameter in the published configs, as lr_mult and decay_mult in Caffe.

The counts follow from the layers of the prototxts (MobileNet-SSD) and of the scripts that write them (DSOD, Pelee,
RefineDet): there, a convolution before a norm has (1, 1), a bias (2, 0), and a norm's Scale layer (1, 1) unless it says
otherwise. MobileNet-SSD states all of them.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vovnet import create_model
from vovnet.engine.config import load_config
from vovnet.engine.training.optimizer import make_optimizer
from vovnet.models.layers import L2Norm
from vovnet.zoo import find_detector


def groups_of(name, num_classes):
    """The model, and (multiple of the rate, multiple of the decay) of each of its parameters by name."""
    config = load_config(f"configs/{name}.yaml")
    with torch.device("meta"):
        model = create_model(config.model, num_classes, **config.model_options)
    optimizer = make_optimizer(model, find_detector(config.model), config.optimizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        decay = round(group["weight_decay"] / config.optimizer.weight_decay, 6)
        for parameter in group["params"]:
            found[names.pop(id(parameter))] = (group["rate_factor"], decay)  # KeyError if it is in two groups
    assert not names  # each is in a group
    return model, found


def counts(model, groups):
    totals = {}
    for name, parameter in model.named_parameters():
        totals[groups[name]] = totals.get(groups[name], 0) + parameter.numel()
    return totals


PRIORS_SSD = (3, 6, 6, 6, 6, 6)
PRIORS_DSOD = (4, 6, 6, 6, 4, 4)
LOGITS = 21


def test_mobilenet_ssd():
    pairs = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    pairs += [(512, 512)] * 5 + [(512, 1024), (1024, 1024)]
    body = 27 * 32 + sum(9 * c_in + c_in * c_out for c_in, c_out in pairs)
    norms = 32 + sum(c_in + c_out for c_in, c_out in pairs)
    for c_in, squeezed, c_out in ((1024, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128)):
        body += c_in * squeezed + 9 * squeezed * c_out
        norms += squeezed + c_out
    cells = list(zip((512, 1024, 512, 256, 256, 128), PRIORS_SSD, strict=True))
    loc, conf = (sum(channels * per * priors for channels, priors in cells) for per in (4, LOGITS))
    model, groups = groups_of("voc_ssd300_mobilenet", 20)
    assert counts(model, groups) == {
        (0.1, 0.1): body + loc,
        (0.1, 0.0): norms,
        (0.2, 0.0): norms + 4 * sum(PRIORS_SSD),
        (1.0, 1.0): conf,
        (2.0, 0.0): LOGITS * sum(PRIORS_SSD),
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == 5_796_089
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (groups[f"{name}.weight"], groups[f"{name}.bias"]) == ((0.1, 0), (0.2, 0)), name


def test_pelee():
    layers = zip((3, 4, 8, 6), (16, 32, 64, 64), strict=True)
    body_norms = 32 + 16 + 32 + 32 + sum(count * (2 * squeezed + 3 * 16) for count, squeezed in layers)
    body_norms += 128 + 256 + 512 + 704
    block_norms = 5 * (128 + 128 + 256 + 256)
    biases = 256 + 256 + 128 + 256 + 128 + 256 + (4 + LOGITS) * 6 * 6
    model, groups = groups_of("voc_pelee304", 20)
    assert counts(model, groups) == {
        (1.0, 1.0): 5_425_892 - 2 * block_norms - biases,
        (1.0, 0.0): 2 * block_norms,
        (2.0, 0.0): biases,
    }
    decayed = {name for name, group in groups.items() if group == (1, 1)}
    vectors = {name: p.numel() for name, p in model.named_parameters() if p.ndim == 1 and name in decayed}
    assert sum(vectors.values()) == 2 * body_norms
    assert all(name.startswith("backbone.") for name in vectors)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("voc_dsod300_vovnet27_slim", 5_971_932),
        ("voc_dsod300_vovnet27_slim_bottleneck", 4_871_612),
        ("voc_dsod300_densenet67", 5_833_372),
    ],
)
def test_dsod(name, total):
    head_norms = (4 + LOGITS) * sum(PRIORS_DSOD)
    model, groups = groups_of(name, 20)
    assert counts(model, groups) == {(1.0, 1.0): total - 2 * head_norms, (1.0, 0.0): 2 * head_norms}
    scales = [f"{name}.scale" for name, layer in model.named_modules() if isinstance(layer, L2Norm)]
    assert len(scales) == 6
    assert {groups[scale] for scale in scales} == {(1, 1)}  # of a Normalize layer without "param"


@pytest.mark.parametrize(
    ("name", "num_classes", "total"),
    [
        ("coco_refinedet320_vovnet39", 80, 56_283_844),
        ("coco_refinedet512_vovnet57_batch20", 80, 70_323_844),
        ("coco_refinedet320_resnet101", 80, 82_451_588),
        ("voc_refinedet320_vovnet39", 20, None),
    ],
)
def test_refinedet(name, num_classes, total):
    biases = 4 * 3 * (4 + 2) + 4 * 3 * (4 + num_classes + 1)
    model, groups = groups_of(name, num_classes)
    total = total or sum(parameter.numel() for parameter in model.parameters())
    assert counts(model, groups) == {(1.0, 1.0): total - biases, (2.0, 0.0): biases}
