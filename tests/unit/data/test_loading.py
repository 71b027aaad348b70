import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data._utils.pin_memory import pin_memory

from vovnet.data.batches.resizing import ResizeAugmentation
from vovnet.data.formats import open_dataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation

BCCD = Path("samples/bccd")


def keys(stream):
    return [key for batch in stream for key in batch]


def test_every_epoch_shows_each_image_once():
    stream = keys(BatchStream(10, batch_size=4, micro_batch_size=2, steps=5))
    assert len(stream) == 20
    assert Counter(stream) == Counter((epoch, index) for epoch in range(2) for index in range(10))
    assert [index for epoch, index in stream if epoch == 0] != [index for epoch, index in stream if epoch == 1]


def test_more_images_a_step_than_there_are():
    stream = keys(BatchStream(3, batch_size=8, micro_batch_size=8, steps=1))
    assert sorted(stream[:6]) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert len(stream) == 8


def test_a_resumed_stream_is_the_rest_of_the_whole_one():
    whole = list(BatchStream(10, batch_size=4, micro_batch_size=2, steps=9, seed=3))
    assert list(BatchStream(10, batch_size=4, micro_batch_size=2, steps=9, seed=3, start_step=4)) == whole[8:]
    assert len(BatchStream(10, batch_size=4, micro_batch_size=2, steps=9, seed=3, start_step=4)) == 10


def test_processes_share_each_batch():
    alone = list(BatchStream(10, batch_size=4, micro_batch_size=4, steps=5))
    halves = [
        list(BatchStream(10, batch_size=4, micro_batch_size=2, steps=5, rank=rank, world_size=2)) for rank in range(2)
    ]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone


def test_similar_shapes_come_together():
    """Sorting by shape changes which images share a micro-batch, not which images a step sees."""
    ratios = torch.rand(30, generator=torch.Generator().manual_seed(0)).tolist()
    plain = list(BatchStream(30, batch_size=8, micro_batch_size=2, steps=12, seed=1))
    grouped = list(BatchStream(30, batch_size=8, micro_batch_size=2, steps=12, seed=1, aspect_ratios=ratios))
    for step in range(0, len(plain), 4):
        assert Counter(keys(plain[step : step + 4])) == Counter(keys(grouped[step : step + 4]))

    def spread(batches):
        return sum(max(ratios[i] for _, i in batch) - min(ratios[i] for _, i in batch) for batch in batches)

    assert spread(grouped) < spread(plain) / 2
    options = {"batch_size": 8, "micro_batch_size": 2, "steps": 12, "seed": 1, "aspect_ratios": ratios}
    halves = [list(BatchStream(30, **options, rank=rank, world_size=2)) for rank in (0, 1)]
    shared = [batch for step in range(12) for half in halves for batch in half[2 * step : 2 * step + 2]]
    assert shared == grouped
    late = BatchStream(30, batch_size=8, micro_batch_size=2, steps=12, seed=1, start_step=5, aspect_ratios=ratios)
    assert list(late) == grouped[20:]
    with pytest.raises(ValueError, match="expected 30 aspect ratios, one per image, got 29"):
        BatchStream(30, batch_size=8, micro_batch_size=2, steps=1, aspect_ratios=ratios[1:])


def test_batch_size_must_divide():
    with pytest.raises(ValueError, match="batch_size must be a multiple"):
        BatchStream(10, batch_size=4, micro_batch_size=3, steps=1)


def test_large_batches_need_few_file_descriptors():
    """Every tensor that a loader process sends takes a descriptor; a process has about a thousand, here a hundred."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from vovnet.data.formats import open_dataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation
dataset, augment = open_dataset("samples/bccd", "train"), SSDAugmentation((32, 32), (0.0, 0.0, 0.0))
stream = BatchStream(len(dataset), batch_size=32, micro_batch_size=32, steps=6)
print(sum(len(batch.targets) for batch in training_batches(dataset, augment, stream, workers=1, pin_memory=False)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert result.stdout.strip() == "192", result.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_workers(workers):
    dataset = open_dataset(BCCD, "train")
    augment = SSDAugmentation((64, 64), (123.0, 117.0, 104.0))
    stream = BatchStream(len(dataset), batch_size=4, micro_batch_size=2, steps=2, seed=1)
    batches = list(training_batches(dataset, augment, stream, workers=workers, pin_memory=False))
    assert len(batches) == 4
    assert batches[0].images.shape == (2, 3, 64, 64)
    assert [sample.image_path.name for sample in (dataset[i] for _, i in next(iter(stream)))] == batches[0].names
    reference = list(training_batches(dataset, augment, stream, workers=0, pin_memory=False))
    for batch, expected in zip(batches, reference, strict=True):
        assert torch.equal(batch.images, expected.images)
        assert [t.boxes.tolist() for t in batch.targets] == [t.boxes.tolist() for t in expected.targets]


def coco(folder, sizes, kinds="polygons"):
    """Images of (height, width) with one square object each, but for the last, which has none.

    kinds: "polygons" or "runs", for all or for each object.
    """
    kinds = [kinds] * len(sizes) if isinstance(kinds, str) else kinds
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    images, annotations = [], []
    for number, (height, width) in enumerate(sizes, 1):
        Image.new("RGB", (width, height), (number, 0, 0)).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        corners = [5, 5, 15, 5, 15, 15, 5, 15]
        runs = [5 * height + 5, *[10, height - 10] * 9, 10, height * (width - 15) + height - 15]
        mask = [corners] if kinds[number - 1] == "polygons" else {"size": [height, width], "counts": runs}
        box = {"bbox": [5, 5, 10, 10], "area": 100, "segmentation": mask, "category_id": 1}
        annotations.append({"id": number, "image_id": number, "iscrowd": 0, **box})
    content = {"images": images, "annotations": annotations[:-1], "categories": [{"id": 1, "name": "square"}]}
    (folder / "annotations" / "train.json").write_text(json.dumps(content))
    return open_dataset(folder, "train", masks=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_different_sizes_are_padded(tmp_path, workers):
    dataset = coco(tmp_path, [(40, 60), (70, 50), (40, 40)], "runs")
    augment = ResizeAugmentation((40,), 100, flip=0)
    stream = BatchStream(3, batch_size=3, micro_batch_size=3, steps=1)
    (batch,) = training_batches(dataset, augment, stream, workers=workers, pin_memory=False)
    assert batch.images.shape == (3, 3, 64, 64)  # 40×60, 56×40 and 40×40, up to multiples of 32
    sizes = {"1.png": (40, 60), "2.png": (56, 40), "3.png": (40, 40)}
    for image, target, name in zip(batch.images, batch.targets, batch.names, strict=True):
        height, width = target.image_size
        assert (height, width) == sizes[name]
        assert (image[0, :height, :width] == int(name[0])).all()
        assert not image[:, height:].any()
        assert not image[:, :, width:].any()
        assert target.masks.shape == (len(target), 64, 64)
        for mask, (x1, y1, x2, y2) in zip(target.masks, target.boxes.round().int().tolist(), strict=True):
            assert mask[y1:y2, x1:x2].all()
            assert mask.sum() == (y2 - y1) * (x2 - x1)


def test_images_of_one_size_are_left_as_they_are():
    dataset = open_dataset(BCCD, "train")
    augment = SSDAugmentation((50, 70), (0.0, 0.0, 0.0))
    stream = BatchStream(8, batch_size=4, micro_batch_size=4, steps=1)
    (batch,) = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    assert batch.images.shape == (4, 3, 50, 70)
    assert [target.image_size for target in batch.targets] == [None] * 4
    assert batch.packed_masks is None
    assert all(target.masks is None for target in batch.targets)


def test_detectors_of_one_input_size_get_no_masks(tmp_path):
    dataset = coco(tmp_path, [(40, 60), (70, 50), (40, 40)])
    stream = BatchStream(3, batch_size=3, micro_batch_size=3, steps=1)
    augment = SSDAugmentation((32, 32), (0.0, 0.0, 0.0))
    (batch,) = training_batches(dataset, augment, stream, workers=0, pin_memory=False)
    assert batch.packed_masks is None
    assert all(target.masks is None for target in batch.targets)


def batch_of(dataset, workers=0):
    stream = BatchStream(len(dataset), batch_size=len(dataset), micro_batch_size=len(dataset), steps=1)
    augment = ResizeAugmentation((40,), 100, flip=0)
    (batch,) = training_batches(dataset, augment, stream, workers=workers, pin_memory=False)
    return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_without_objects_has_masks_all_the_same(tmp_path, workers):
    batch = batch_of(coco(tmp_path, [(40, 60)]), workers)
    assert [target.masks.shape for target in batch.targets] == [(0, 64, 64)]
    assert [target.boxes.shape for target in batch.targets] == [(0, 4)]


def test_masks_travel_as_one_tensor_of_bits(tmp_path):
    batch = batch_of(coco(tmp_path, [(40, 60), (40, 70), (40, 40), (40, 40)], "runs"))
    assert batch.packed_masks.dtype == torch.uint8
    assert batch.packed_masks.shape == (3, 64, 96 // 8)
    assert all(isinstance(target.masks, torch.Tensor) for target in batch.targets)


def test_polygons_travel_without_bitmaps(tmp_path):
    batch = batch_of(coco(tmp_path, [(40, 60), (40, 70), (40, 40), (40, 40)]), workers=1)
    assert batch.packed_masks.numel() == 0
    for target in batch.targets:
        if len(target):
            assert target.masks.polygons.points.tolist() == [[5, 5], [15, 5], [15, 15], [5, 15]]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_polygons_and_bitmaps_in_one_batch(tmp_path, workers):
    """Each object keeps its own, whatever the others in its batch have, and with any number of workers."""
    sizes = [(40, 60), (80, 120), (40, 60), (80, 120), (40, 60), (40, 60)]
    kinds = ["runs", "polygons", "polygons", "runs", "runs", "runs"]
    batch = batch_of(coco(tmp_path, sizes, kinds), workers)
    assert sorted(batch.counts) == [0, 1, 1, 1, 1, 1]
    assert batch.packed_masks.shape == (3, 64, 64 // 8)
    assert len(batch.polygons) == 5
    for target, name in zip(batch.targets, batch.names, strict=True):
        number = int(name[0])
        start, end = (5, 15) if sizes[number - 1] == (40, 60) else (2.5, 7.5)
        assert target.boxes.tolist() == [[start, start, end, end]] * len(target)
        if number == 6:
            assert target.masks.shape == (0, 64, 64)
        elif kinds[number - 1] == "polygons":
            assert target.masks.polygons.points.tolist() == [[start, start], [end, start], [end, end], [start, end]]
            assert target.masks.bitmaps.shape == (0, 64, 64)
        else:
            assert target.masks.shape == (1, 64, 64)
            assert target.masks.sum() == pytest.approx((end - start) ** 2, rel=0.5)


def test_data_without_masks_gives_batches_without(tmp_path):
    coco(tmp_path, [(40, 60), (40, 40), (40, 40)])
    batch = batch_of(open_dataset(tmp_path, "train"))
    assert batch.packed_masks is None
    assert [target.masks for target in batch.targets] == [None] * 3
    assert sorted(target.image_size for target in batch.targets) == [(40, 40), (40, 40), (40, 60)]


def test_pinning_memory_keeps_the_targets(tmp_path):
    """Pinning, which needs a GPU, turns tuples inside lists into lists."""
    batch = batch_of(coco(tmp_path, [(40, 60), (40, 40)]))
    pinned = batch._replace(sizes=[list(size) for size in batch.sizes])
    assert [target.image_size for target in pinned.targets] == [target.image_size for target in batch.targets]
    assert all(isinstance(target.image_size, tuple) for target in pinned.targets)


def test_what_a_gpu_gets_is_pinned(tmp_path, monkeypatch):
    """A copy from memory that is not pinned waits for the GPU."""
    batch = batch_of(coco(tmp_path, [(40, 60), (40, 40)]))
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, device=None: pinned.append(tensor) or tensor)
    again = pin_memory(batch)
    assert isinstance(again, type(batch))
    assert {id(batch.images), id(batch.packed_objects)} <= {id(tensor) for tensor in pinned}
    assert again.to(torch.device("meta")).padded.boxes.device.type == "meta"
    assert again.to(torch.device("meta")).images.device.type == "meta"


def test_masks_of_another_size_than_their_image_are_refused(tmp_path):
    dataset = coco(tmp_path, [(40, 60), (40, 60)])
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "1.png")
    alone = replace(dataset, samples=dataset.samples[:1])
    with pytest.raises(ValueError, match=r"1\.png has 30 × 20 pixels, but its masks have 60 × 40.*data check"):
        batch_of(alone)
