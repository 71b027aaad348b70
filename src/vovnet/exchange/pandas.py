"""Detections as rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from vovnet.exchange.columns import box_array, class_names_of
from vovnet.libraries import import_extra


def to_pandas(found: Any) -> Any:
    pandas = import_extra("pandas", "to_pandas()")
    names, labels = class_names_of(found), found.labels.tolist()
    columns: dict[str, Any] = {}
    if names is not None:
        columns["file"] = pandas.Series([found.source] * len(labels), dtype="str")
        columns["frame"] = pandas.Series([found.frame] * len(labels), dtype="Int64")  # which has missing values
        columns["class"] = pandas.Series(names, dtype="str")
    columns["label"] = np.array(labels, dtype=np.int64)
    if names is not None:
        columns["category_id"] = np.array([found.category_ids[label] for label in labels], dtype=np.int64)
    columns["score"] = np.array(found.scores.tolist(), dtype=np.float32)
    columns |= zip(("x1", "y1", "x2", "y2"), box_array(found).T, strict=True)
    return pandas.DataFrame(columns)
