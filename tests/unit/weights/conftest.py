"""What every test of weights needs: the same random weights each time, and no gigabytes left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded_and_tidy(tmp_path: Path) -> Iterator[None]:
    torch.manual_seed(0)
    yield
    for path in tmp_path.glob("*.*"):  # pytest would keep them
        if path.is_file():
            path.unlink()
