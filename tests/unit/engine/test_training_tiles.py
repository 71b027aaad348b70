"""Training on tiles: the same batches however they are made, and evaluation in tiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vovnet.data.loading import Batch
from vovnet.engine import train as train_module
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.distributed import Workers
from vovnet.engine.training.data import fingerprint, open_batches, open_data
from vovnet.errors import UsageError
from vovnet.runtime.tiles import Tiling
from vovnet.zoo import create_model

STEPS = "schedule: {iterations: 3}\nbatch_size: 4\nmicro_batch_size: 4\nworkers: 0\n"
CPU = Workers(0, 1, torch.device("cpu"))
TILES = "data.tiles={size: 64, overlap: 0.25}"


def config_of(tmp_path: Path, root: Path, *overrides: str, model: str = "ssd300_mobilenet") -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {model}\ndata: {{root: {root}}}\n{STEPS}")
    return load_config(path, [f"output={tmp_path / 'run'}", "tensorboard=false", *overrides])


def batches_of(config: TrainConfig, start_step: int = 0) -> list[Batch]:
    dataset, _ = open_data(config)
    preprocessing = create_model(config.model, num_classes=len(dataset.class_names)).preprocessing
    return list(open_batches(dataset, config, preprocessing, CPU, start_step=start_step))


def assert_same(batches: list[Batch], expected: list[Batch]) -> None:
    assert [batch.names for batch in batches] == [batch.names for batch in expected]
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.packed_objects, other.packed_objects)


def test_training_images_are_tiles_and_validation_images_whole(tmp_path: Path, small_voc: Path) -> None:
    whole, _ = open_data(config_of(tmp_path, small_voc))
    tiles, val = open_data(config_of(tmp_path, small_voc, TILES))
    assert len(tiles) > len(whole)
    assert val is not None
    assert all(sample.tile is not None for sample in tiles)
    assert all(sample.tile is None for sample in val)
    assert fingerprint(tiles) != fingerprint(replace(tiles, samples=tiles.samples[::-1]))


def test_a_cache_and_a_resumed_run_see_the_same_tiles(tmp_path: Path, small_voc: Path) -> None:
    usual = batches_of(config_of(tmp_path, small_voc, TILES))
    cached = config_of(tmp_path, small_voc, TILES, f"data.cache={tmp_path / 'cache'}")
    assert_same(batches_of(cached), usual)
    assert list((tmp_path / "cache").glob("*/*.images"))
    assert_same(batches_of(cached, start_step=1), usual[1:])


def test_the_run_evaluates_in_tiles(tmp_path: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SeenError(Exception):
        pass

    def detect(*_: object, tiling: Tiling | None, **__: object) -> None:
        raise SeenError(tiling)

    config = config_of(tmp_path, small_voc, TILES)
    _, val = open_data(config)
    monkeypatch.setattr(train_module, "detect_dataset", detect)
    assert val is not None
    model = create_model(config.model, num_classes=len(val.class_names))
    with pytest.raises(SeenError, match=r"size=64, overlap=0.25"):
        train_module._evaluate(model, val, config, CPU)


def test_masks_are_not_cut(tmp_path: Path, small_voc: Path) -> None:
    with pytest.raises(UsageError, match="data.tiles cuts boxes only"):
        open_data(config_of(tmp_path, small_voc, TILES, model="maskrcnn_vovnet39_gn"))


@pytest.mark.parametrize(
    ("tiles", "said"),
    [("{size: 8}", "data.tiles.size: input should be greater than or equal to 32"), ("{size: 64, overlap: 1}", "0.9")],
)
def test_nonsense_is_refused(tmp_path: Path, small_voc: Path, tiles: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config_of(tmp_path, small_voc, f"data.tiles={tiles}")
