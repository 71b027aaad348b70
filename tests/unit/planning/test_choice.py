"""Which candidate is taken, by the time that each needs and was given; no clock is asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.config_file import validated
from vovnet.errors import UsageError
from vovnet.planning import trial as trials
from vovnet.planning.candidates import Candidate, find_candidate
from vovnet.planning.choice import LONGEST_S, Tried, choose, possible_candidates
from vovnet.planning.facts import Facts
from vovnet.planning.recipe import (
    Length,
    evaluation_seconds,
    final_config,
    first_config,
    length_of,
    reasons_of,
    usual_epochs,
)
from vovnet.planning.splits import Splits
from vovnet.planning.trial import Trial

SMALL, LARGE = Candidate("small", 320, 0.05, 0, "here"), Candidate("large", 300, 0.05, 3000, "there")


def tried(candidate, *, ms, images=10_000, minutes=10.0, seconds=600.0, exported=None):
    trial = Trial("fp32", {"fp32": 1.0}, 0.1, ms, 100.0, 8, 8)
    return Tried(candidate, trial, 1.0, Length(None, minutes, images // 8, seconds), exported)


def name_of(items, max_ms=None):
    return choose(items, max_ms)[0].candidate.model


def test_the_most_accurate_one_that_has_the_time():
    assert name_of([tried(SMALL, ms=10), tried(LARGE, ms=80)]) == "large"
    assert name_of([tried(SMALL, ms=10), tried(LARGE, ms=80, images=2000)]) == "small"


def test_without_a_limit_a_run_that_takes_too_long_is_avoided():
    long = tried(LARGE, ms=80, minutes=None, seconds=LONGEST_S + 1)
    assert name_of([tried(SMALL, ms=10, minutes=None), long]) == "small"
    assert name_of([long]) == "large"  # nothing else was wanted


def test_only_what_is_fast_enough():
    items = [tried(SMALL, ms=10), tried(LARGE, ms=80)]
    chosen, reason = choose(items, 25)
    assert chosen.candidate is SMALL
    assert "too slow: large" in reason
    assert name_of([items[0], tried(LARGE, ms=80, exported=20)], 25) == "large"
    with pytest.raises(UsageError, match=r"takes 5 ms or less.*the fastest is small: 10\.0 ms an image"):
        choose(items, 5)


class Images:
    """As much of a dataset as a recipe looks at."""

    def __init__(self, count, class_names):
        self.count, self.class_names = count, class_names

    def __len__(self):
        return self.count


def facts(side=0.2, classes=("a", "b"), images=205):
    splits = Splits(Path("data"), "train", "val", None)
    return Facts(splits, Images(images, classes), Images(87, classes), None, np.full(3, 1000 * side), np.full(3, side))


def test_small_objects_open_the_way_to_a_larger_input():
    assert "refinedet512_vovnet27_slim" not in [c.model for c in possible_candidates(facts(), None)]
    assert "refinedet512_vovnet27_slim" in [c.model for c in possible_candidates(facts(side=0.03), None)]
    with pytest.raises(UsageError, match=r"vovnet init DIR > my\.yaml"):
        possible_candidates(facts(), "maskrcnn_resnet50")


def test_few_images_are_for_the_small_detector():
    assert [c.model for c in possible_candidates(facts(), None)] == ["ssdfpn320_vovnet19_tiny"]
    assert "dsod300_vovnet27_slim" in [c.model for c in possible_candidates(facts(images=5000), None)]
    assert [c.model for c in possible_candidates(facts(), "dsod300_vovnet27_slim")] == ["dsod300_vovnet27_slim"]


def test_usual_epochs_are_those_of_the_blood_cells_for_as_many_images():
    assert [usual_epochs(LARGE, images) for images in (205, 12, 1000, 100_000)] == [60, 300, 13, 12]


@pytest.mark.parametrize("name", ["ssdfpn320_vovnet19_tiny", "dsod300_vovnet27_slim"])
def test_recipes_are_those_of_the_published_configs(tmp_path, name):
    pytest.importorskip("hotcoco")
    candidate, published = find_candidate(name), load_config(f"bccd_{name}")
    config = validated(TrainConfig, first_config(candidate, facts(), tmp_path, 8), "test")
    assert usual_epochs(candidate, 205) == published.schedule.epochs
    for key in ("metric", "ema_decay", "batch_size", "model_options"):
        assert getattr(config, key) == getattr(published, key)
    assert config.optimizer == published.optimizer


def test_loading_may_take_longer_than_training(monkeypatch):
    item = tried(LARGE, ms=80)
    for cores, load_s, expected in ((16, 0.0, 1.0), (16, 1.6, 1.1), (16, 4.0, 2.0), (2, 4.0, 4.0), (2, 1.0, 1.5)):
        monkeypatch.setattr(trials, "usable_cores", lambda cores=cores: cores)
        assert replace(item.trial, load_s=load_s).seconds_per_step(torch.device("cpu")) == pytest.approx(expected)


def test_a_precision_that_is_asked_for_is_the_only_one_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(trials, "has_bf16_products", lambda: True)
    config = validated(TrainConfig, first_config(LARGE, facts(), tmp_path, 8), "test")
    cpu = torch.device("cpu")
    assert trials._precisions(config, cpu) == ("fp32", "bf16")
    assert trials._precisions(config.model_copy(update={"precision": "fp32"}), cpu) == ("fp32",)


def test_the_config_follows_what_was_measured(tmp_path):
    data = facts()
    item = tried(LARGE, ms=80)
    trial = replace(item.trial, micro_batch_size=4, precision="bf16", step_s={"fp32": 2.0, "bf16": 1.0})
    length = length_of(LARGE, data, trial, step_s=1.0, seconds=600.0, epochs=None)
    values = final_config(first_config(LARGE, data, tmp_path, 8), trial, length, data, 1.0)
    assert values["schedule"] == {"kind": "cosine", "minutes": 10.0, "warmup_iterations": 50}
    assert (values["precision"], values["micro_batch_size"], values["batch_size"]) == ("bf16", 4, 8)
    assert values["augment"] == {"expand": 1.5, "crop_min_scale": 0.5}
    assert values["evaluate_every"] >= 4  # 87 images at 0.09 s each take at most a tenth of the time
    config = validated(TrainConfig, values, "test")
    reasons = reasons_of(LARGE, data, trial, config, length)
    assert any("fp32 2.00 s, bf16 1.00 s" in reason for reason in reasons)


def test_an_evaluation_in_tiles_takes_longer():
    trial = tried(LARGE, ms=80).trial  # 0.1 s for a batch of 8 images
    assert evaluation_seconds(trial, facts(), 100) == pytest.approx(8 + 100 * 0.1 / 8)
    assert evaluation_seconds(trial, replace(facts(), parts=13), 100) == pytest.approx(13 * 8 + 100 * 0.1 / 8)


def test_classes_with_sides_are_not_flipped(tmp_path):
    data = facts(classes=("left hand", "right hand"))
    values = first_config(LARGE, data, tmp_path, 8)
    assert values["augment"]["flip"] == 0.0
    item = tried(LARGE, ms=80)
    *_, last = reasons_of(LARGE, data, item.trial, validated(TrainConfig, values, "test"), item.length)
    assert "no flips, because classes are left and right (left hand, right hand)" in last


def test_tiles_are_named_where_objects_are_too_small_for_the_input(tmp_path):
    for side, expected in ((0.02, "data.tiles='{size: 192}'"), (0.2, "larger than 60 pixels")):
        item = tried(LARGE, ms=80)
        config = validated(TrainConfig, first_config(LARGE, facts(), tmp_path, 8), "test")
        first, *_ = reasons_of(LARGE, facts(side=side), item.trial, config, item.length)
        assert expected in first
        assert ("tiles" in first) == (side < 0.04)
