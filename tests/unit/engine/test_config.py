import re
from pathlib import Path

import pytest

from vovnet.engine.config import Section, TrainConfig, load_config

BASIC = """
model: dsod300_vovnet27_slim
data: {root: somewhere}
schedule: {iterations: 10}
batch_size: 8
micro_batch_size: 4
"""


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(BASIC)
    return path


def test_defaults_and_overrides(config_file):
    config = load_config(config_file, ["optimizer.learning_rate=1e-4", "model_options.anchors=coco", "resume=true"])
    assert config.optimizer.learning_rate == 1e-4
    assert config.optimizer.momentum == 0.9
    assert config.model_options == {"anchors": "coco"}
    assert config.resume is True
    assert config.output == Path("runs/small")


def test_numbers_with_an_exponent_are_numbers_in_the_file_too(config_file):
    config_file.write_text(BASIC + "optimizer: {learning_rate: 1e-3, weight_decay: 5E-4}\n")
    assert load_config(config_file).optimizer.learning_rate == 0.001
    assert load_config(config_file).optimizer.weight_decay == 0.0005


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batchsize=4", "unknown key 'batchsize', did you mean 'batch_size'"),
        ("optimizer.learnin_rate=0.1", "did you mean 'optimizer.learning_rate'"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate: .* got 'fast'"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate: .*greater than 0, got -1"),
        ("precision=fp8", "precision: .*'fp32', 'bf16' or 'fp16', got 'fp8'"),
        ("schedule.epochs=3", "schedule: give either iterations or epochs"),
        ("seed=-1", "seed: .*greater than or equal to 0, got -1"),
        ("micro_batch_size=3", "batch_size 8 must be a multiple of micro_batch_size 3"),
        ("seed", "expected key=value, got 'seed'"),
        (
            "data.more_train=[{root: a, splt: b}]",
            "unknown key 'data.more_train.0.splt', did you mean 'data.more_train.0.split'",
        ),
        ("optimizer.learning_rate=[1,", "optimizer.learning_rate=.1, is not valid YAML"),
        ("batch_size.x=3", "'batch_size' in 'batch_size.x' is a value"),
    ],
)
def test_wrong_settings_are_named(config_file, override, message):
    with pytest.raises(ValueError, match=message) as error:
        load_config(config_file, [override])
    assert "http" not in str(error.value)
    assert "\n" not in str(error.value)


def test_all_errors_at_once(config_file):
    with pytest.raises(ValueError, match="unknown key 'a'.*; .*unknown key 'b'"):
        load_config(config_file, ["a=1", "b=2"])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1, 2")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_config(broken)
    broken.write_text("- 1")
    with pytest.raises(ValueError, match="must hold keys and values, got list"):
        load_config(broken)


def test_every_key_is_documented():
    sections = [TrainConfig]
    while sections:
        section = sections.pop()
        for key, field in section.model_fields.items():
            assert re.search(rf"^    {key}: ", section.__doc__, re.MULTILINE), f"{section.__name__}.{key}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                sections.append(field.annotation)
