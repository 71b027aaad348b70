"""Where training images are drawn, by how many processes, and whether they are cached: nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vovnet.data.batches.image_cache import CachedImages
from vovnet.data.loading import Batch
from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.distributed import Workers
from vovnet.engine.train import train
from vovnet.engine.training import data as training_data
from vovnet.engine.training.data import draws_on_device, mean_pixels, open_batches, open_data
from vovnet.errors import UsageError
from vovnet.zoo import create_model

STEPS = "schedule: {iterations: 2}\nbatch_size: 4\nmicro_batch_size: 2\nworkers: 0\n"
CPU = Workers(0, 1, torch.device("cpu"))


def config_of(tmp_path: Path, root: Path, *overrides: str, model: str = "dsod300_vovnet27_slim") -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {model}\ndata: {{root: {root}, val: null}}\n{STEPS}")
    return load_config(path, [f"output={tmp_path / 'run'}", "tensorboard=false", *overrides])


def batches_of(config: TrainConfig) -> list[Batch]:
    dataset, _ = open_data(config)
    preprocessing = create_model(config.model, num_classes=len(dataset.class_names)).preprocessing
    return list(open_batches(dataset, config, preprocessing, CPU, start_step=0))


def test_both_places_draw_the_same_images(tmp_path: Path, small_voc: Path) -> None:
    usual, device = (batches_of(config_of(tmp_path, small_voc, f"draw_images={place}")) for place in ("auto", "device"))
    assert [batch.undrawn is None for batch in usual + device] == [True] * 4 + [False] * 4
    for batch, expected in zip((batch.to(CPU.device) for batch in device), usual, strict=True):
        assert batch.names == expected.names
        assert torch.equal(batch.packed_objects, expected.packed_objects)
        assert (batch.images.float() - expected.images.float()).abs().mean() < 0.5


@pytest.mark.parametrize(
    ("place", "on_cuda", "expected"),
    [("auto", False, False), ("auto", True, True), ("workers", True, False), ("device", False, True)],
)
def test_the_device_draws_on_cuda(tmp_path: Path, place: Any, on_cuda: bool, expected: bool) -> None:
    fixed, ratio_kept = "dsod300_vovnet27_slim", "fasterrcnn_vovnet39"
    config = config_of(tmp_path, tmp_path, f"draw_images={place}")
    assert draws_on_device(config, create_model(fixed, num_classes=2).preprocessing, on_cuda) == expected
    preprocessing = create_model(ratio_kept, num_classes=2).preprocessing
    if place == "device":
        with pytest.raises(UsageError, match="keeps the aspect ratio of images, which only .*set draw_images=auto"):
            draws_on_device(config, preprocessing, on_cuda)
    else:
        assert not draws_on_device(config, preprocessing, on_cuda)


def losses(config: TrainConfig) -> list[float]:
    train(config)
    records = [json.loads(text) for text in (config.output / "log.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def test_a_run_whose_images_the_device_draws(tmp_path: Path, small_voc: Path) -> None:
    """With the same images within rounding, the losses are nearly the same; either may resume the other."""
    config = config_of(tmp_path, small_voc, "log_every=1", "draw_images=device", "schedule.iterations=1")
    drawn = losses(config)
    plain = losses(config_of(tmp_path, small_voc, "log_every=1", f"output={tmp_path / 'plain'}"))
    assert drawn == pytest.approx(plain[:1], rel=0.01)
    resumed = losses(config_of(tmp_path, small_voc, "log_every=1", "resume=true", f"data.cache={tmp_path / 'cache'}"))
    assert resumed == pytest.approx(plain, rel=0.05)
    assert len(list((tmp_path / "cache").rglob("*.images"))) == 1


def test_a_cache_gives_the_same_batches(
    tmp_path: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOVNET_CACHE", str(tmp_path / "home"))
    expected = batches_of(config_of(tmp_path, small_voc))
    assert not (tmp_path / "home").exists()
    for _ in range(2):
        found = batches_of(config_of(tmp_path, small_voc, "data.cache=true"))
        assert all(torch.equal(a.images, b.images) for a, b in zip(found, expected, strict=True))
    assert len(list((tmp_path / "home/images").rglob("*.images"))) == 1
    assert capsys.readouterr().err.count("decodes ") == 1


def test_the_images_of_the_cache_are_those_of_the_training_split(
    tmp_path: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[CachedImages | None] = []
    original = training_data.open_cache

    def note(*args: Any, **options: Any) -> CachedImages | None:
        seen.append(original(*args, **options))
        return seen[-1]

    monkeypatch.setattr(training_data, "open_cache", note)
    config = config_of(tmp_path, small_voc, f"data.cache={tmp_path / 'cache'}")
    batches_of(config)
    dataset, _ = open_data(config)
    assert seen[0] is not None
    assert len(seen[0].sizes) == len(dataset)


@pytest.mark.parametrize(
    ("override", "workers"), [("workers=auto", 7), ("workers=3", 3), ("workers=0", 0), ("seed=1", 0)]
)
def test_workers_are_chosen_unless_the_config_states_them(
    tmp_path: Path, small_voc: Path, monkeypatch: pytest.MonkeyPatch, override: str, workers: int
) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(training_data, "choose_workers", lambda *arguments: asked.append(arguments) or 7)
    seen: list[int] = []
    monkeypatch.setattr(training_data, "training_batches", lambda *_, workers, **__: seen.append(workers) or iter(()))
    batches_of(config_of(tmp_path, small_voc, override))
    assert seen == [workers]
    images = [("cpu", 2 * 3 * 300 * 300)] if workers == 7 else []
    assert asked == images  # and what a batch of two takes in shared memory


def test_auto_is_the_default(tmp_path: Path, small_voc: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"model: x\ndata: {{root: {small_voc}}}\n{STEPS}".replace("workers: 0\n", ""))
    config = load_config(path)
    assert (config.workers, config.draw_images, config.data.cache) == ("auto", "auto", False)


@pytest.mark.parametrize("override", ["workers=many", "workers=-2", "draw_images=gpu"])
def test_wrong_values_are_named(tmp_path: Path, small_voc: Path, override: str) -> None:
    with pytest.raises(UsageError, match=override.partition("=")[0]) as error:
        config_of(tmp_path, small_voc, override)
    assert "auto" in str(error.value)


def test_the_memory_of_a_batch_is_estimated_by_the_images(tmp_path: Path, small_voc: Path) -> None:
    dataset, _ = open_data(config_of(tmp_path, small_voc))
    sizes = [sample.image_size for sample in dataset]
    assert all(size is not None for size in sizes)
    areas = [size[0] * size[1] for size in sizes if size is not None]
    assert min(areas) <= mean_pixels(dataset) <= max(areas)
