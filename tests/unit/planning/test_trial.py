"""What a detector is measured with before it is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vovnet.data.formats import open_dataset
from vovnet.engine.config import load_config
from vovnet.planning import trial


def test_a_trial_has_the_threads_that_training_will_have(small_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []

    def create(*_: object, **__: object) -> None:
        seen.append(torch.get_num_threads())
        raise InterruptedError

    monkeypatch.setattr(trial, "create_model", create)
    config = load_config("voc_dsod300_vovnet27_slim", [f"data.root={small_voc}", "threads=3"])
    try:
        with pytest.raises(InterruptedError):
            trial.try_detector(config, open_dataset(small_voc, "train"), torch.device("cpu"))
    finally:
        torch.set_num_threads(before)
    assert seen == [3]
