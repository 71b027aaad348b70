import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

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
    assert Counter(keys(BatchStream(3, batch_size=8, micro_batch_size=8, steps=1))) == Counter(
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), *keys(BatchStream(3, 8, 8, 1))[6:]]
    )


def test_a_resumed_stream_is_the_rest_of_the_whole_one():
    whole = list(BatchStream(10, 4, 2, steps=9, seed=3))
    assert list(BatchStream(10, 4, 2, steps=9, seed=3, start_step=4)) == whole[8:]
    assert len(BatchStream(10, 4, 2, steps=9, seed=3, start_step=4)) == 10


def test_processes_share_each_batch():
    alone = list(BatchStream(10, 4, 4, steps=5))
    halves = [list(BatchStream(10, 4, 2, steps=5, rank=rank, world_size=2)) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone


def test_batch_size_must_divide():
    with pytest.raises(ValueError, match="batch_size must be a multiple"):
        BatchStream(10, 4, 3, steps=1)


def test_large_batches_need_few_file_descriptors():
    """Every tensor that a loader process sends takes one; a process has about a thousand, here a hundred."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from vovnet.data.formats import open_dataset
from vovnet.data.loading import BatchStream, training_batches
from vovnet.data.transforms import SSDAugmentation
dataset, augment = open_dataset("samples/bccd", "train"), SSDAugmentation((32, 32), (0.0, 0.0, 0.0))
stream = BatchStream(len(dataset), 32, 32, steps=6)
print(sum(len(batch.targets) for batch in training_batches(dataset, augment, stream, workers=1, pin_memory=False)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert result.stdout.strip() == "192", result.stderr


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_the_workers(workers):
    dataset = open_dataset(BCCD, "train")
    augment = SSDAugmentation((64, 64), (123.0, 117.0, 104.0))
    stream = BatchStream(len(dataset), 4, 2, steps=2, seed=1)
    batches = list(training_batches(dataset, augment, stream, workers=workers, pin_memory=False))
    assert len(batches) == 4
    assert batches[0].images.shape == (2, 3, 64, 64)
    assert [sample.image_path.name for sample in (dataset[i] for _, i in next(iter(stream)))] == batches[0].names
    reference = list(training_batches(dataset, augment, stream, workers=0, pin_memory=False))
    for batch, expected in zip(batches, reference, strict=True):
        assert torch.equal(batch.images, expected.images)
        assert [t.boxes.tolist() for t in batch.targets] == [t.boxes.tolist() for t in expected.targets]
