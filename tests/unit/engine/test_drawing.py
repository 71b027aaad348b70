"""What is drawn, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vovnet.engine.predicting import drawing
from vovnet.engine.predicting.drawing import draw_detections
from vovnet.masks import RleMasks, encode
from vovnet.media.drawing import FILL, TONES, class_colour
from vovnet.structures import Detections, Target

NAMES = ("cell", "dust")
GREY = torch.full((3, 200, 300), 120, dtype=torch.uint8)
BOX = [100.0, 60.0, 180.0, 150.0]


def found(*items: tuple[list[float], int, float]) -> Detections:
    boxes = torch.tensor([box for box, _, _ in items]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in items], dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor([score for _, _, score in items]), (200, 300))


def disc(x: int, y: int, radius: int = 25) -> Tensor:
    rows, columns = torch.arange(200)[:, None], torch.arange(300)
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def with_masks(detections: Detections, *masks: Tensor) -> Detections:
    return replace(detections, masks=encode(torch.stack(masks)))


def is_edge(mask: Tensor) -> Tensor:
    """Pixels of a mask, none at the image's border, with a neighbour beside, above or below that is outside."""
    return mask & ~(mask.roll(1, 0) & mask.roll(-1, 0) & mask.roll(1, 1) & mask.roll(-1, 1))


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
def test_name_stays_inside_the_image(corner: tuple[int, int]) -> None:
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


def test_lines_grow_with_the_image() -> None:
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


def test_a_mask_is_filled_and_outlined_and_nothing_else_changes() -> None:
    mask = disc(140, 105)
    boxes = found((BOX, 0, 0.9))
    drawn = draw_detections(GREY, with_masks(boxes, mask), NAMES)
    edge = is_edge(mask)
    filled = torch.tensor([(1 - FILL) * 120 + FILL * side for side in class_colour(0)]).round().to(torch.uint8)
    assert (drawn[:, mask & ~edge] == filled[:, None]).all()
    assert (drawn[:, edge] == torch.tensor(class_colour(0))[:, None]).all()
    assert torch.equal(drawn[:, ~mask], draw_detections(GREY, boxes, NAMES)[:, ~mask])
    assert (GREY == 120).all()  # the input is left alone

    rows = GREY.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # the memory layout of a decoded image
    assert torch.equal(draw_detections(rows, with_masks(boxes, mask), NAMES), drawn)
    assert (rows == 120).all()


def test_objects_of_one_class_can_be_told_apart() -> None:
    centres = [30 + 48 * place for place in range(len(TONES))]
    boxes = found(*([[x - 20.0, 80.0, x + 20.0, 120.0], 0, 0.9 - x / 1000] for x in centres))
    drawn = draw_detections(GREY, with_masks(boxes, *(disc(x, 100, 20) for x in centres)), NAMES)
    fills = [drawn[:, 105, x].int() for x in centres]
    assert min(int((a - b).abs().sum()) for i, a in enumerate(fills) for b in fills[:i]) >= 30
    lines = [tuple(drawn[:, 80, x - 15].tolist()) for x in centres]  # upper edge of each box, away from its mask
    assert len(set(lines)) == len(TONES)
    assert lines[0] == class_colour(0)
    plain = draw_detections(GREY, boxes, NAMES)
    assert {tuple(plain[:, 80, x - 15].tolist()) for x in centres} == {class_colour(0)}


def test_the_best_mask_lies_on_top() -> None:
    best, other = disc(130, 105), disc(150, 105)
    drawn = draw_detections(GREY, with_masks(found((BOX, 0, 0.9), (BOX, 1, 0.5)), best, other), NAMES)
    assert (drawn[:, is_edge(best)] == torch.tensor(class_colour(0))[:, None]).all()
    hidden = is_edge(other) & best
    assert hidden.any()
    assert not (drawn[:, hidden] == torch.tensor(class_colour(1))[:, None]).all(dim=0).any()


def test_masks_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def decode(masks: RleMasks) -> Tensor:
        decoded.append(len(masks))
        return plain(masks)

    plain = drawing.decode
    monkeypatch.setattr(drawing, "decode", decode)
    boxes = found(*[(BOX, 0, 0.9)] * 7)
    draw_detections(GREY, with_masks(boxes, *[disc(140, 105)] * 7), NAMES)
    assert decoded == [1] * 7


def test_masks_of_missed_objects_are_outlined() -> None:
    seen, missed, crowd = disc(60, 100), disc(150, 100), disc(240, 100)
    boxes = [[35.0, 75.0, 86.0, 126.0], [125.0, 75.0, 176.0, 126.0], [215.0, 75.0, 266.0, 126.0]]
    target = Target.make(boxes, [0, 1, 1], crowd=[False, False, True], masks=encode(torch.stack([seen, missed, crowd])))
    detections = found((boxes[0], 0, 0.9))
    drawn = draw_detections(GREY, detections, NAMES, target=target)
    plain = draw_detections(GREY, detections, NAMES, target=replace(target, masks=None))
    ring = (drawn != plain).any(dim=0)
    edge = is_edge(missed)
    away = (torch.arange(300) - 150).abs() < 20  # where the disc does not touch the box's own line
    assert (drawn[:, edge & away & ~changed(plain)] == 255).all()
    inner = is_edge(missed & ~edge)
    assert (drawn[:, inner & away & ~changed(plain)] == 0).all()
    assert not ring[~missed].any()
    assert not ring[disc(150, 100, 20)].any()  # an outline, no fill


def test_masks_that_do_not_belong_here() -> None:
    other = RleMasks(encode(torch.ones(1, 300, 200, dtype=torch.bool)).counts, (300, 200))
    with pytest.raises(ValueError, match=r"the image's size \(200, 300\) \(height, width\), got \(300, 200\)"):
        draw_detections(GREY, replace(found((BOX, 0, 0.9)), masks=other), NAMES)
    nothing = torch.zeros(200, 300, dtype=torch.bool)
    whole = ~nothing
    boxes = found((BOX, 0, 0.9))
    assert torch.equal(draw_detections(GREY, with_masks(boxes, nothing), NAMES), draw_detections(GREY, boxes, NAMES))
    assert changed(draw_detections(GREY, with_masks(boxes, whole), NAMES)).all()


def test_objects_have_the_colours_of_detections_and_no_score() -> None:
    target = Target.make([BOX, [10, 100, 60, 150]], [0, 1], difficult=[False, True])
    drawn = drawing.draw_target(GREY, target, NAMES)
    assert tuple(drawn[:, 149, 140].tolist()) == class_colour(0)
    assert tuple(drawn[:, 149, 30].tolist()) == class_colour(1)
    assert not changed(drawn)[66:144, 106:174].any()
    plain = drawing.draw_target(GREY, replace(target, difficult=torch.tensor([False, False])), NAMES)
    assert torch.equal(plain[:, :, 100:], drawn[:, :, 100:])
    assert not torch.equal(plain, drawn)  # "~" behind the name of what is ignored

    mask = disc(140, 105)
    with_mask = drawing.draw_target(GREY, Target.make([BOX], [0], masks=encode(mask[None])), NAMES)
    assert (with_mask[:, is_edge(mask)] == torch.tensor(class_colour(0))[:, None]).all()
    with pytest.raises(ValueError, match=r"uint8 of shape \(3, H, W\)"):
        drawing.draw_target(GREY.float(), target, NAMES)


def test_small_objects_lie_on_top() -> None:
    boxes = [[100.0, 60.0, 120.0, 80.0], [100.0, 60.0, 180.0, 150.0]]
    drawn = drawing.draw_target(GREY, Target.make(boxes, [0, 1]), NAMES)
    assert tuple(drawn[:, 70, 100].tolist()) == class_colour(0)
