import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vovnet import boxes as b
from vovnet.sizes import fit_size

coordinate = st.floats(-500, 500, width=32)
side = st.floats(1, 300, width=32)
box = st.tuples(coordinate, coordinate, side, side).map(lambda t: [t[0], t[1], t[0] + t[2], t[1] + t[3]])
box_lists = st.lists(box, min_size=1, max_size=8)


def test_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2], [5, 5, 5, 9]])
    c = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2]])
    torch.testing.assert_close(b.pairwise_iou(a, c), torch.tensor([[1 / 7, 1.0], [0.0, 0.0]]))


@given(box_lists, box_lists)
def test_iou_agrees_with_torchvision_and_is_symmetric(first, second):
    x, y = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    iou = b.pairwise_iou(x, y)
    torch.testing.assert_close(iou, box_iou(x, y), atol=1e-9, rtol=0)
    torch.testing.assert_close(iou, b.pairwise_iou(y, x).T)
    assert ((iou >= 0) & (iou <= 1 + 1e-12)).all()
    torch.testing.assert_close(iou, b.pairwise_iou(x + 64, y + 64), atol=1e-9, rtol=0)


@given(box_lists)
def test_decode_inverts_encode(values):
    boxes = torch.tensor(values, dtype=torch.float64)
    anchors = torch.tensor([[10.0, 20.0, 40.0, 30.0]], dtype=torch.float64).expand(len(boxes), 4)
    torch.testing.assert_close(b.decode(b.encode(boxes, anchors), anchors), boxes, atol=1e-6, rtol=1e-6)


@given(box_lists)
def test_centre_size_form_inverts(values):
    boxes = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(b.cxcywh_to_xyxy(b.xyxy_to_cxcywh(boxes)), boxes)


def test_encode_by_hand():
    # Centre moved by half the anchor's width, height doubled; divided by the variances 0.1 and 0.2.
    deltas = b.encode(torch.tensor([[10.0, 0, 20, 20]]), torch.tensor([[10.0, 10, 10, 10]]))
    torch.testing.assert_close(deltas, torch.tensor([[5.0, 0.0, 0.0, torch.log(torch.tensor(2.0)).item() / 0.2]]))


def test_decode_stays_finite():
    wild = torch.tensor([[0.0, 0, 1e9, 1e9]])
    assert b.decode(wild, torch.tensor([[5.0, 5, 5, 5]])).isfinite().all()


def test_clip_and_area():
    clipped = b.clip(torch.tensor([[-5.0, -5, 50, 50], [2, 2, 3, 3]]), (20, 30))
    torch.testing.assert_close(clipped, torch.tensor([[0.0, 0, 30, 20], [2, 2, 3, 3]]))
    assert b.area(clipped).tolist() == [600, 1]
    assert b.area(torch.tensor([[3.0, 3, 1, 1]])).item() == 0


@given(box_lists, st.randoms(use_true_random=False))
def test_nms_is_a_subset_and_stable_when_repeated(values, random):
    boxes = torch.tensor(values)
    scores = torch.tensor([random.random() for _ in values])
    groups = torch.tensor([random.randrange(2) for _ in values])
    keep = b.batched_nms(boxes, scores, groups, 0.45)
    again = b.batched_nms(boxes[keep], scores[keep], groups[keep], 0.45)
    assert again.tolist() == list(range(len(keep)))
    iou = b.pairwise_iou(boxes[keep], boxes[keep]) * (groups[keep][:, None] == groups[keep])
    assert iou.fill_diagonal_(0).max() <= 0.45 + 1e-5


def test_nms_keeps_a_pair_at_the_threshold():
    boxes = torch.tensor([[0.0, 0, 3, 1], [1, 0, 4, 1]])  # IoU exactly 0.5
    assert len(b.batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.5)) == 2
    assert len(b.batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.499)) == 1


@pytest.mark.parametrize("bad", [(3,), (2, 5)])
def test_structures_check_their_shapes(bad):
    from vovnet.structures import Target

    with pytest.raises(ValueError, match="boxes must have shape"):
        Target(torch.zeros(bad), *(torch.zeros(2) for _ in range(4)))
    with pytest.raises(ValueError, match=r"labels must have shape \(1,\)"):
        Target.make([[0, 0, 1, 1]], [1, 2])


def test_coco_form():
    assert b.xyxy_to_xywh(torch.tensor([[1.0, 2, 4, 8]])).tolist() == [[1, 2, 3, 6]]


def test_flips_by_hand():
    boxes = torch.tensor([[1.0, 2, 4, 8]])
    assert b.flip_horizontally(boxes, 10).tolist() == [[6, 2, 9, 8]]
    assert b.flip_vertically(boxes, 20).tolist() == [[1, 12, 4, 18]]


@given(box_lists)
def test_flipping_twice_changes_nothing(values):
    boxes = torch.tensor(values, dtype=torch.float64)
    for flip in (b.flip_horizontally, b.flip_vertically):
        torch.testing.assert_close(flip(flip(boxes, 64), 64), boxes)


def test_rescale_by_hand():
    # (height, width): twice as high, three times as wide
    assert b.rescale(torch.tensor([[1.0, 2, 4, 8]]), (10, 20), (20, 60)).tolist() == [[3, 4, 12, 16]]


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((100, 1000), (133, 1333)), ((1, 5000), (1, 1333))],
)
def test_fit_size(image_size, expected):
    assert fit_size(image_size, 800, 1333) == expected
