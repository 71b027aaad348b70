"""What a plan knows of the data before anything is tried."""

import math

import pytest

from tests.small_voc import write_small_voc
from vovnet.data.formats import open_dataset
from vovnet.engine.config import TilesConfig
from vovnet.planning.facts import read_facts
from vovnet.planning.splits import find_splits


def test_an_evaluation_in_tiles_detects_in_every_part(tmp_path):
    """Its time is part of what a plan promises."""
    write_small_voc(tmp_path, train=4, val=2)
    splits = find_splits(tmp_path)
    assert read_facts(splits, None).parts == 1
    counts = []
    for sample in open_dataset(tmp_path, "val"):
        assert sample.image_size is not None
        rows, columns = (max(1, math.ceil((side - 64) / 64) + 1) for side in sample.image_size)
        assert rows * columns > 1
        counts.append(1 + rows * columns)
    assert read_facts(splits, TilesConfig(size=64, overlap=0)).parts == pytest.approx(sum(counts) / len(counts))
