"""What ends a training run before its first step, in one sentence and without taking memory."""

import resource
import sys
from types import SimpleNamespace

import pytest

from vovnet.engine.config import load_config
from vovnet.engine.distributed import Workers
from vovnet.engine.train import train
from vovnet.engine.training.initial_model import initial_model

from ..held_lock import held_elsewhere

BASIC = "data: {root: x}\nschedule: {iterations: 1}\nbatch_size: 1\nmicro_batch_size: 1\n"


@pytest.mark.parametrize(
    ("model", "options", "classes", "message"),
    [
        ("refinedet320_vovnet39", "{width: 65536}", 3, "has more than 2,147,483,648 bytes"),
        ("dsod300_vovnet27_slim", "{}", 100_000, "has more than 2,147,483,648 bytes"),
        ("maskrcnn_vovnet39_gn", "{image_size: [20000, 20000]}", 3, "has more than 16,777,216 pixels"),
        ("fasterrcnn_resnet50", "{image_size: no}", 3, "image_size must be two whole numbers"),
    ],
)
def test_a_network_of_any_size_takes_no_memory(tmp_path, model, options, classes, message):
    path = tmp_path / "config.yaml"
    path.write_text(f"model: {model}\nmodel_options: {options}\n{BASIC}")
    names = tuple(map(str, range(classes)))
    dataset = SimpleNamespace(class_names=names, category_ids=tuple(range(classes)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as error:
        initial_model(load_config(path), dataset, None)
    assert len(str(error.value)) <= 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_a_second_run_in_a_folder_stops_before_anything_else(tmp_path, small_voc):
    path = tmp_path / "config.yaml"
    path.write_text("model: dsod300_vovnet27_slim\n" + BASIC.replace("root: x", f"root: {small_voc}"))
    config = load_config(path, [f"output={tmp_path / 'run'}", "workers=0"])
    with held_elsewhere(config.output), pytest.raises(OSError, match="is in use by .*choose another output folder"):
        train(config)
    assert list(tmp_path.glob("run/*")) == []


def test_processes_wait_for_each_others_images_before_the_first_step(tmp_path, small_voc, monkeypatch):
    """In main memory, where the limit is half an hour: to write or check a cache of images may take minutes."""
    events = []

    class EndedError(Exception):
        pass

    def end(*_, **__):
        events.append("step")
        raise EndedError

    train_module = sys.modules[train.__module__]
    open_batches, gather = train_module.open_batches, Workers.gather
    monkeypatch.setattr(train_module, "train_step", end)
    monkeypatch.setattr(train_module, "open_batches", lambda *a, **k: (events.append("open"), open_batches(*a, **k))[1])
    monkeypatch.setattr(Workers, "gather", lambda *a: (events.append("wait"), gather(*a))[1])
    path = tmp_path / "config.yaml"
    path.write_text("model: dsod300_vovnet27_slim\n" + BASIC.replace("root: x", f"root: {small_voc}"))
    with pytest.raises(EndedError):
        train(load_config(path, [f"output={tmp_path / 'run'}", "workers=0", "tensorboard=false"]))
    assert events[events.index("open") :] == ["open", "wait", "step"]
