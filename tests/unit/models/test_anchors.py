"""The option `anchors` of one-stage detectors: names as ever, or the boxes of each feature map as a list."""

import math

import pytest
import torch

from vovnet import create_model
from vovnet.models.anchors import AnchorLevel, ListedLevel, make_anchors
from vovnet.models.detectors.ssd import ANCHORS_DSOD
from vovnet.zoo import SPECS

NAMES = ("dsod300_vovnet27_slim", "dsod300_densenet67", "ssd300_mobilenet", "pelee304", "refinedet320_vovnet27_slim")


def build(name, **options):
    small = {"width": 32} if name.startswith("refinedet") else {}
    with torch.device("meta"):
        return create_model(name, 2, **small, **options)


def listed(levels):
    return [[list(shape) for shape in level.shapes()] for level in levels]


def run(model):
    height, width = model.preprocessing.image_size
    return model.eval()(torch.empty(1, 3, height, width, device="meta"))


def anchors_of(model):
    """Those that the model makes for its usual input; it has no values itself."""
    run(model)
    size = model.preprocessing.image_size
    return make_anchors(model.anchors.levels, model.anchors.map_sizes[size], size)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_boxes_as_lists_are_the_published_anchors(name):
    published = build(name)
    model = build(name, anchors=listed(published.anchors.levels))
    assert all(isinstance(level, ListedLevel) for level in model.anchors.levels)
    assert torch.equal(anchors_of(model), anchors_of(published))
    assert model.smallest_anchor == pytest.approx(published.smallest_anchor)
    shapes, expected = ({key: value.shape for key, value in m.state_dict().items()} for m in (model, published))
    assert shapes == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_may_have_other_boxes_and_another_number_of_them(name):
    published = build(name)
    boxes = [[[7.5, 20], [40, 9]] + [[100, 90.25]] * (level == 0) for level in range(len(published.anchors.levels))]
    model = build(name, anchors=boxes)
    outputs = run(model)
    (height, width), *_ = model.anchors.map_sizes[model.preprocessing.image_size]
    anchors = anchors_of(model)
    assert anchors[: 3 * height * width, 2:].view(-1, 3, 2).unique(dim=0).tolist() == [boxes[0]]
    assert anchors[3 * height * width :, 2:].view(-1, 2, 2).unique(dim=0).tolist() == [boxes[1]]
    for key in ("class_logits", "box_deltas", "anchors_cxcywh"):
        assert outputs[key].shape[-2] == len(anchors)
    assert torch.equal(anchors[: 3 * height * width : 3, :2], centres(published)[: height * width])
    assert model.smallest_anchor == pytest.approx(math.sqrt(7.5 * 20))


def centres(model):
    """Of the cells of the first feature map, where the published boxes stand."""
    per_cell = model.anchors.levels[0].per_cell
    return anchors_of(model)[::per_cell, :2]


def test_names_give_what_they_gave():
    assert build("dsod300_vovnet27_slim").anchors.levels == ANCHORS_DSOD["voc"]
    assert build("dsod300_vovnet27_slim", anchors="coco").anchors.levels == ANCHORS_DSOD["coco"]
    assert build("dsod300_densenet67", anchors=None).anchors.levels == ANCHORS_DSOD["voc"]
    for name in ("ssd300_mobilenet", "pelee304"):
        assert build(name, anchors=None).anchors.levels == SPECS[name].build.keywords["default_boxes"]


SIX = [[[10, 20]]] * 6


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        ("vco", "did you mean 'voc'"),
        (5, "no set of anchors is called 5"),
        ([], "6 lists of default boxes, one a feature map, got 0"),
        (SIX[:5], "6 lists of default boxes, one a feature map, got 5"),
        ([*SIX[:5], []], r"of feature map 5, 1 to 64 of them, .* got \[\]"),
        ([*SIX[:5], [[10, 20]] * 65], "of feature map 5, 1 to 64 of them"),
        ([[10, 20]] * 6, "of feature map 0, each as .* got 10"),
        ([*SIX[:5], "ab"], "got 'ab'"),
        *(
            ([*SIX[:5], [[10, 20], box]], r"of feature map 5, each as \[width, height\] of 0.1 to 4096 pixels")
            for box in ([10], [1, 2, 3], [0, 5], [-1, 5], [5, 5000], [math.nan, 5], [math.inf, 5], [True, 5], ["5", 5])
        ),
    ],
)
def test_wrong_boxes_are_refused_in_a_sentence(anchors, message):
    with pytest.raises(ValueError, match=message) as error:
        build("dsod300_vovnet27_slim", anchors=anchors)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_name_is_no_boxes_of_a_detector_without_sets():
    with pytest.raises(ValueError, match="must list the default boxes of 4 feature maps, each as .*, got 'voc'"):
        build("refinedet320_vovnet27_slim", anchors="voc")


def test_levels_of_both_kinds_say_the_same_of_the_same_boxes():
    level = AnchorLevel(30, 60, (2, 3), 8)
    same = ListedLevel(tuple(level.shapes()), 8)
    assert (same.per_cell, same.shapes(), same.step) == (level.per_cell, level.shapes(), level.step)
    assert same.smallest == pytest.approx(level.smallest)
