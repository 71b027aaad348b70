"""What is drawn, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vovnet.engine.drawing import class_colour, draw_detections
from vovnet.structures import Detections, Target

NAMES = ("cell", "dust")
GREY = torch.full((3, 200, 300), 120, dtype=torch.uint8)
BOX = [100.0, 60.0, 180.0, 150.0]


def found(*items: tuple[list[float], int, float]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in items]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in items], dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor([score for _, _, score in items]), (200, 300))


def changed(drawn: Tensor) -> Tensor:
    return (drawn != GREY).any(dim=0)


def test_only_the_box_and_its_name_change() -> None:
    drawn = draw_detections(GREY, found((BOX, 0, 0.9)), NAMES)
    assert (drawn.dtype, drawn.shape) == (torch.uint8, GREY.shape)
    assert (GREY == 120).all()  # the input is left alone
    for y, x in ((60, 140), (149, 140), (100, 100), (100, 179)):  # the middle of each edge; x2 and y2 are exclusive
        assert tuple(drawn[:, y, x].tolist()) == class_colour(0)
    mask = changed(drawn)
    assert not mask[66:144, 106:174].any()  # inside
    assert not mask[150:].any()
    assert not mask[:, 180:].any()
    assert not mask[:, :100].any()
    assert mask[40:60, 100:120].any()  # the name, above
    assert not mask[:40].any()


def test_no_detection_no_change() -> None:
    assert torch.equal(draw_detections(GREY, found(), NAMES), GREY)
    assert torch.equal(draw_detections(GREY, found(), NAMES, target=Target.make()), GREY)


def test_score_and_name_are_written() -> None:
    drawn = [draw_detections(GREY, found((BOX, 0, score)), names) for score, names in
             ((0.9, NAMES), (0.8, NAMES), (0.9, ("cyst", "dust")))]  # fmt: skip
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("corner", [(0, 0), (270, 0), (0, 170), (270, 170), (285, 90)])
def test_name_stays_inside_the_picture(corner: tuple[int, int]) -> None:
    x, y = corner
    box = [float(x), float(y), min(x + 30.0, 300), min(y + 30.0, 200)]
    drawn = draw_detections(GREY, found((box, 0, 0.9)), NAMES)
    is_name = (drawn.int() - torch.tensor(class_colour(0)).view(3, 1, 1)).abs().sum(dim=0) == 0
    rows, columns = torch.nonzero(is_name.sum(dim=1) > 35), torch.nonzero(is_name.any(dim=0))
    assert len(rows) >= 2  # a whole background, wider than the box: upper and lower margin at least
    assert int(columns.max()) - int(columns.min()) > 35


def test_boxes_outside_or_empty_do_no_harm() -> None:
    detections = found(([-50.0, -50.0, 400.0, 300.0], 0, 0.9), ([20.0, 20.0, 20.0, 20.0], 1, 0.5))
    assert draw_detections(GREY, detections, NAMES).shape == GREY.shape
    tiny = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert draw_detections(tiny, found(([0.0, 0.0, 5.0, 4.0], 0, 0.9)), NAMES).shape == tiny.shape


def test_lines_grow_with_the_picture() -> None:
    large = torch.full((3, 2000, 3000), 120, dtype=torch.uint8)
    drawn = draw_detections(large, found(([1000.0, 600.0, 1800.0, 1500.0], 0, 0.9)), NAMES)
    assert int((drawn[:, 1000, 990:1100] != 120).any(dim=0).sum()) >= 5


def test_colours_of_classes_differ() -> None:
    colours = [class_colour(label) for label in range(16)]
    assert len(set(colours)) == 16
    assert (
        min(sum(abs(a - b) for a, b in zip(colours[i], colours[j], strict=True)) for i in range(6) for j in range(i))
        > 90
    )


def test_mistakes_are_marked() -> None:
    plain = draw_detections(GREY, found((BOX, 0, 0.9)), NAMES)
    right = draw_detections(GREY, found((BOX, 0, 0.9)), NAMES, target=Target.make([BOX], [0]))
    assert torch.equal(plain[:, :59], right[:, :59])  # same name, and only the object's dashes differ
    assert not torch.equal(plain, right)
    false_alarm = draw_detections(GREY, found((BOX, 0, 0.9)), NAMES, target=Target.make())
    assert not torch.equal(plain[:, :59], false_alarm[:, :59])  # "?" behind the score

    missed = draw_detections(GREY, found(), NAMES, target=Target.make([BOX], [0]))
    name = missed[:, 40:60, 100:180]
    assert (name == 255).all(dim=0).sum() > 300  # white background
    assert (name < 90).all(dim=0).any()  # black letters
    ignored = draw_detections(GREY, found(), NAMES, target=Target.make([BOX], [0], difficult=[True]))
    assert not changed(ignored)[:60].any()  # a difficult object is drawn, but not missed


@pytest.mark.parametrize("image", [GREY.float(), GREY[0], GREY[:1]])
def test_other_images_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \(3, H, W\)"):
        draw_detections(image, found(), NAMES)
