"""What a detector takes over from one with other classes or default boxes, seen in what both find in the same image."""

import pytest
import torch

from vovnet.models.detectors.decoding import OneStageDetector
from vovnet.weights.detector import LoadedModel, ModelInfo
from vovnet.weights.fine_tuning import _partners, take_over

from ...small_training import FAMILIES

OLD, NEW = ("cat", "dog", "cow"), ("cow", "newt", "cat", "bee")


def info_of(family, classes, **options):
    return ModelInfo(family.name, {**family.options, **options}, classes, tuple(range(len(classes))))


def make(info, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = info.build().eval()
        for name, value in model.state_dict().items():  # fresh norms would be the same in all models
            if value.is_floating_point() and ("running" in name or ".norm." in name):
                value.uniform_(0.5, 1.5)
    return model


def outputs_of(model, family):
    pixels = torch.randint(0, 256, (1, 3, *family.size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        return model(model.preprocessing.normalize(pixels))


def assert_close(a, b):
    """The same up to the order of sums, which depends on the number of channels."""
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def fine_tuned(family, old_info, new_info):
    """The outputs of a detector, those of one that starts from it, those of the same without it, and what it took."""
    old, new = make(old_info, 0), make(new_info, 1)
    before = outputs_of(new, family)
    taken = take_over(new, new_info, LoadedModel(old, old_info, {}))
    return outputs_of(old, family), outputs_of(new, family), before, taken


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


def test_classes_of_the_same_name_are_taken_over(family):
    old, new, before, taken = fine_tuned(family, info_of(family, OLD), info_of(family, NEW))
    assert (taken.classes, taken.new_classes, taken.left_out) == (("cow", "cat"), ("newt", "bee"), ("dog",))
    assert (taken.fresh, taken.other_boxes, taken.complete) == ((), False, False)
    for key in old:
        if key == "class_logits":
            assert_close(new[key][..., [0, 1, 3]], old[key][..., [0, 3, 1]])
            if "proposals" not in old:  # others would be compared for other proposals
                assert not torch.equal(new[key][..., [2, 4]], before[key][..., [0, 0]])
        elif key == "box_deltas" and "proposals" in old:  # for each class
            own, theirs = (outputs[key].unflatten(-1, (-1, 4)) for outputs in (new, old))
            assert_close(own[..., [0, 1, 3], :], theirs[..., [0, 3, 1], :])
        else:
            assert torch.equal(new[key], old[key]), key
    assert "background and cow, cat" in taken.sentence("x")
    assert "new, from random logits: newt, bee; left out: dog" in taken.sentence("x")


def test_new_classes_keep_their_random_logits(family):
    """The rows of a new class are those that the detector had before."""
    old_info, new_info = info_of(family, OLD), info_of(family, NEW)
    new = make(new_info, 1)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    take_over(new, new_info, LoadedModel(make(old_info, 0), old_info, {}))
    rows = 0
    for name, value in new.state_dict().items():
        if value.ndim and len(value) % 5 == 0 and ("cls" in name or "mask_fcn_logits" in name) and "arm" not in name:
            after, was = ((v.unflatten(0, (-1, 5)) if not new.two_stage else v[None]) for v in (value, before[name]))
            assert torch.equal(after[:, [2, 4]], was[:, [2, 4]])
            rows += 1
    assert rows >= 2


def test_the_same_classes_in_any_order_are_all_taken_over(family):
    old, new, _, taken = fine_tuned(family, info_of(family, OLD), info_of(family, OLD[::-1]))
    assert taken.complete
    assert_close(new["class_logits"][..., [0, 3, 2, 1]], old["class_logits"])
    old, new, _, taken = fine_tuned(family, info_of(family, OLD), info_of(family, OLD))
    assert taken.complete
    assert all(torch.equal(new[key], old[key]) for key in old)


ONE_STAGE = [family for family in FAMILIES if "rcnn" not in family.name]


@pytest.mark.parametrize("family", ONE_STAGE, ids=lambda family: family.name)
def test_each_default_box_starts_as_the_one_that_is_most_like_it(family):
    """In the other order, one left out or one twice: what is predicted for a box stays with the box."""
    with torch.device("meta"):
        levels = info_of(family, OLD).build().anchors.levels
    shapes = [[list(map(float, shape)) for shape in level.shapes()] for level in levels]
    picked = [[*range(len(boxes) - 1, -1, -1), 1] for boxes in shapes]
    picked[0] = picked[0][:-2]
    changed = [[boxes[index] for index in order] for boxes, order in zip(shapes, picked, strict=True)]
    old, new, _, taken = fine_tuned(family, info_of(family, OLD), info_of(family, NEW, anchors=changed))
    assert taken.other_boxes
    assert taken.fresh == ()
    cells = [size[0] * size[1] for size in map_sizes(family)]
    for key in old:
        columns = ([0, 1, 3], [0, 3, 1]) if key == "class_logits" else (slice(None), slice(None))
        parts = old[key].split([n * len(boxes) for n, boxes in zip(cells, shapes, strict=True)], dim=-2)
        expected = torch.cat(
            [
                part.unflatten(-2, (n, -1))[..., index, :].flatten(-3, -2)
                for part, n, index in zip(parts, cells, picked, strict=True)
            ],
            dim=-2,
        )
        assert_close(new[key][..., columns[0]], expected[..., columns[1]])


def map_sizes(family):
    model = info_of(family, OLD).build_on_meta()
    assert isinstance(model, OneStageDetector)
    model.eval()(torch.empty(1, 3, *family.size, device="meta"))
    return model.anchors.map_sizes[family.size]


def test_no_box_is_taken_twice_while_another_is_free():
    """Two boxes are most like the first of the others; the one that is more like it has it."""
    iou = torch.tensor([[0.8, 0.3, 0.1], [0.9, 0.2, 0.4], [0.1, 0.1, 0.2]])
    assert _partners(iou) == [1, 0, 2]
    assert _partners(iou[:, :2]) == [1, 0, 0]
    assert _partners(iou[:2]) == [1, 0]
