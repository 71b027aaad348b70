from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.data.check import check_dataset

from .small_datasets import (
    make_voc,
    xml_of,
)


def test_statistics(tmp_path: Path) -> None:
    root = make_voc(tmp_path / "d")
    (root / "Annotations/a.xml").write_text(xml_of())
    statistics = check_dataset(root, workers=1).statistics
    split = next(split for split in statistics.splits if split.split == "train")
    assert (split.images, split.images_without_objects, split.objects) == (6, 1, 10)
    assert split.objects_per_class == {"cat": 10}
    assert split.images_per_class == {"cat": 5}
    boxes = statistics.boxes  # nine of 60 × 40 and nine of 16 × 26
    assert (boxes.small, boxes.medium, boxes.large) == (9, 9, 0)
    assert boxes.relative_size[100] == pytest.approx(1)
    assert boxes.relative_size[0] == pytest.approx((16 * 26 / 2400) ** 0.5)
    assert boxes.aspect_ratio[100] == pytest.approx(1.5)
