"""Configs as YAML: what is printed reads back as the same, and every key is explained."""

import pytest
from pydantic import BaseModel

from vovnet.engine.config import TrainConfig, load_config
from vovnet.engine.config_file import validated
from vovnet.engine.config_text import commented_yaml, config_yaml, meanings
from vovnet.names import published_configs
from vovnet.yaml_parsing import ConfigLoader, parse_yaml

TRAINING = sorted(name for name in published_configs() if not name.startswith(("cifar10", "bccd_study")))


@pytest.mark.parametrize("name", TRAINING)
def test_a_printed_config_is_the_same_config(name, tmp_path):
    config = load_config(name)
    path = tmp_path / "printed.yaml"
    path.write_text(config_yaml(config))
    assert load_config(path) == config


def test_with_comments_too(tmp_path):
    config = load_config("coco_refinedet512_vovnet39")
    path = tmp_path / "printed.yaml"
    path.write_text(commented_yaml(config.model_dump(exclude_unset=True)))
    assert load_config(path) == config


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "012",
        "1e-4",
        "null",
        "~",
        "0x1f",
        "a: b",
        "# x",
        "",
        " x ",
        "ünï",
        "📷 \x7f\x85",
        'a"b',
        "12:30",
        ".5",
        "-",
        "a\n",
    ],
)
def test_text_stays_text(text):
    values = {"output": text, "model_options": {text: [text, {text: text}]}}
    assert parse_yaml(config_yaml(values), ConfigLoader) == values


def sections(schema):
    yield schema
    for field in schema.model_fields.values():
        kind = field.annotation
        while kind is not None and not hasattr(kind, "model_fields") and getattr(kind, "__args__", ()):
            kind = kind.__args__[0]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from sections(kind)


@pytest.mark.parametrize("schema", list(sections(TrainConfig)), ids=lambda schema: schema.__name__)
def test_every_key_is_explained(schema):
    assert set(meanings(schema)) == set(schema.model_fields)


def test_the_meaning_stands_above_the_key():
    text = commented_yaml({"model": "pelee304", "data": {"root": "x"}, "schedule": {"epochs": 2}, "output": "y"})
    assert "# Images per optimizer step, over all processes; up to 65,536.\nbatch_size:" in text
    assert "  # Probability of a horizontal flip.\n  flip: 0.5\n" in text
    assert "  #   match: pattern of parameter names" in text
    values = parse_yaml(text.replace("batch_size: null", "batch_size: 8"), ConfigLoader)
    assert validated(TrainConfig, values, "text").data.root.name == "x"
