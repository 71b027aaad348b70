"""Detections become rows of a table, the same as those of detections.csv."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vovnet.media.prediction_files import PredictionWriter
from vovnet.structures import Detections

from .both_kinds import BOXES, LABELS, SCORES, SIZE, make

pandas = pytest.importorskip("pandas", reason="pandas is not installed (the extra of that name)")
KINDS = pytest.mark.parametrize("kind", ["tensors", "arrays"])
COLUMNS = ["file", "frame", "class", "label", "category_id", "score", "x1", "y1", "x2", "y2"]


@KINDS
def test_a_row_for_each_detection(kind: str) -> None:
    table = make(kind).to_pandas()
    assert list(table.columns) == COLUMNS
    assert table["file"].tolist() == ["images/a.jpg"] * 3
    assert table["frame"].isna().all()
    assert table["class"].tolist() == ["platelet", "red cell", "platelet"]
    assert table["label"].tolist() == LABELS
    assert table["category_id"].tolist() == [3, 7, 3]
    assert table["score"].tolist() == pytest.approx(SCORES)
    assert table[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == BOXES


@KINDS
def test_tables_of_many_images_join_with_one_type_a_column(kind: str) -> None:
    parts = [make(kind, count=0).to_pandas(), make(kind, frame=4).to_pandas(), make(kind).to_pandas()]
    table = pandas.concat(parts, ignore_index=True)
    assert len(table) == 6
    assert table["frame"].tolist()[:3] == [4, 4, 4]
    assert [table[name].dtype for name in COLUMNS] == [parts[1][name].dtype for name in COLUMNS]
    assert (parts[0].dtypes == parts[1].dtypes).all()


@KINDS
def test_the_table_has_the_values_of_the_csv_file(kind: str, tmp_path: Path) -> None:
    found = make(kind)
    with PredictionWriter(tmp_path, draw=False) as writer:
        writer.write(found)
    written = pandas.read_csv(tmp_path / "detections.csv")
    table = found.to_pandas()
    shared = [name for name in COLUMNS if name in written and name != "frame"]
    assert {"file", "class", "score", "x1", "y2"} <= set(shared)
    pandas.testing.assert_frame_equal(table[shared], written[shared], check_dtype=False, atol=5e-5)


def test_detections_without_classes_lack_their_columns() -> None:
    plain = Detections(torch.tensor(BOXES), torch.tensor(LABELS), torch.tensor(SCORES), SIZE)
    assert list(plain.to_pandas().columns) == ["label", "score", "x1", "y1", "x2", "y2"]
