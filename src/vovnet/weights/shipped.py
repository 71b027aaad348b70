"""The public `load`."""

from __future__ import annotations

from pathlib import Path

from vovnet.engine.detector import Detector
from vovnet.weights.detector import load_weights


def load(source: str | Path, device: str = "auto") -> Detector:
    """A detector ready to predict, from a shipped name such as "bccd", a file, a run's folder or a URL."""
    loaded = load_weights(source)
    info = loaded.info
    return Detector(loaded.model, info.class_names, info.category_ids, loaded.record, device=device)
