"""What Mask R-CNN keeps from pass to pass, and what it no longer asks of a device, changes none of its results."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from vovnet import create_model
from vovnet.data.loading import unpack_bits
from vovnet.losses.mask_rcnn import _mask_targets
from vovnet.models.detectors import mask_rcnn as module
from vovnet.models.detectors.mask_rcnn import PADDED_MULTIPLE, STRIDES, MaskRCNN, _pad
from vovnet.structures import Target, TrainingMasks


@pytest.fixture(params=["torchvision", "detectron"])
def model(request: pytest.FixtureRequest) -> MaskRCNN:
    return create_model("fasterrcnn_vovnet27_slim", 2, anchors=request.param, image_size=[64, 96]).eval()


def anchors_as_before(model: MaskRCNN, sizes: list[tuple[int, int]], dtype: torch.dtype) -> Tensor:
    generator = copy.deepcopy(model.rpn.anchor_generator)
    generator.set_cell_anchors(dtype, torch.device("cpu"))
    return torch.cat(generator.grid_anchors(sizes, [[torch.tensor(stride)] * 2 for stride in STRIDES]))


def pyramid(height: int, width: int) -> list[tuple[int, int]]:
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anchors_are_the_same_and_made_once(model: MaskRCNN, dtype: torch.dtype) -> None:
    like = torch.zeros((), dtype=dtype)
    for height, width in ((64, 96), (96, 64), (64, 96), (800, 800)):
        sizes = pyramid(height, width)
        anchors = model._anchors(sizes, like)
        assert torch.equal(anchors, anchors_as_before(model, sizes, dtype))
        assert anchors.dtype == dtype
        assert model._anchors(sizes, like) is anchors
    assert "anchors" not in " ".join(model.state_dict())


def test_the_sizes_of_few_batches_are_remembered(model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_SIZES", 2)
    like, first = torch.zeros(()), pyramid(32, 32)
    kept = model._anchors(first, like)
    for side in (64, 96, 128):
        model._anchors(pyramid(side, side), like)
        assert model._anchors(first, like) is kept  # the one that is used again stays
    assert len(model._latest_anchors) == 2


def test_outputs_of_a_copy_and_of_another_size_are_the_same(model: MaskRCNN) -> None:
    torch.manual_seed(0)
    images = [torch.randn(1, 3, 64, 96), torch.randn(1, 3, 96, 64)]
    fresh = [copy.deepcopy(model)(image) for image in images]
    for image, expected in [*zip(images, fresh, strict=True)] * 2:
        outputs = model(image)
        assert all(torch.equal(outputs[name], value) for name, value in expected.items())


@pytest.mark.parametrize("sizes", [[(40, 50), (33, 61)], [(40, 61), (40, 61)], [(64, 64), (10, 64)]])
def test_padding_is_the_product_with_a_mask(sizes: list[tuple[int, int]]) -> None:
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    images = torch.randn(2, 3, height, width)
    before = images.clone()
    padded = F.pad(images, (0, -width % PADDED_MULTIPLE, 0, -height % PADDED_MULTIPLE))
    rows, columns = torch.arange(padded.shape[-2]).view(1, -1, 1), torch.arange(padded.shape[-1]).view(1, 1, -1)
    ends = torch.tensor(sizes).view(-1, 2, 1, 1)
    expected = padded * ((rows < ends[:, 0]) & (columns < ends[:, 1])).unsqueeze(1)
    assert torch.equal(_pad(images, sizes), expected)
    assert torch.equal(images, before)


def test_bits_are_unpacked_as_numpy_does() -> None:
    packed = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    unpacked = unpack_bits(packed)
    assert unpacked.dtype == torch.uint8
    assert np.array_equal(unpacked.numpy(), np.unpackbits(packed.numpy(), axis=-1))
    assert unpack_bits(torch.empty((0, 4, 2), dtype=torch.uint8)).shape == (0, 4, 16)


def test_bitmaps_are_pooled_without_a_look_at_their_indices() -> None:
    torch.manual_seed(0)
    bitmaps = (torch.rand(3, 40, 48) > 0.5).to(torch.uint8)
    corners = torch.rand(6, 2) * 20
    boxes, matched = torch.cat([corners, corners + 2 + 15 * torch.rand(6, 2)], dim=1), torch.tensor([2, 0, 1, 1, 2, 0])
    found = _mask_targets(TrainingMasks.of(bitmaps), boxes, matched, 28)
    assert torch.equal(found, project_masks_on_boxes(bitmaps, boxes, matched, 28))
    assert _mask_targets(TrainingMasks.of(bitmaps), boxes[:0], matched[:0], 28).shape == (0, 28, 28)


def test_selecting_all_objects_copies_nothing() -> None:
    target = Target.make([[0, 0, 2, 2], [1, 1, 3, 3]], [0, 1], crowd=[False, True], masks=torch.ones(2, 4, 4))
    assert target[torch.tensor([True, True])] is target
    assert target[~target.crowd].labels.tolist() == [0]
    assert target[torch.tensor([1, 0])].labels.tolist() == [1, 0]
    assert len(Target.make()[torch.ones(0, dtype=torch.bool)]) == 0
