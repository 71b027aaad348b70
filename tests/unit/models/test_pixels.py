"""The option `pixels` of every detector, whose values may come from a config or a stranger's file."""

import pytest
import torch

from vovnet import create_model
from vovnet.errors import UsageError

DETECTORS = (
    *("dsod300_vovnet27_slim", "dsod300_densenet67", "ssd300_mobilenet", "pelee304"),
    *("ssdfpn320_vovnet19_tiny", "refinedet320_vovnet27_slim", "fasterrcnn_vovnet27_slim_gn"),
)


def preprocessing(name, pixels):
    with torch.device("meta"):
        return create_model(name, 2, pixels=pixels).preprocessing


@pytest.mark.parametrize("name", DETECTORS)
def test_only_what_is_given_changes(name):
    usual, changed = preprocessing(name, None), preprocessing(name, {"antialias": False, "mean": [1, 2.5, 3]})
    assert usual.antialias
    assert not changed.antialias
    assert changed.mean == (1, 2.5, 3)
    assert (changed.std, changed.channel_order, changed.image_size) == (
        usual.std,
        usual.channel_order,
        usual.image_size,
    )


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"antialias": "maybe"}, r"pixels\.antialias must be true or false, got 'maybe'"),
        ({"antialias": 0}, r"pixels\.antialias must be true or false, got 0"),
        ({"antialiasing": False}, "no key of pixels is called 'antialiasing', did you mean 'antialias'"),
        ({"image_size": [64, 64]}, "no key of pixels is called 'image_size'"),
        ({"channel_order": "rgb"}, r"pixels\.channel_order must be 'BGR' or 'RGB', got 'rgb'"),
        ({"mean": 104}, r"pixels\.mean must be three numbers, got 104"),
        ({"mean": [104, 117]}, r"pixels\.mean must be three numbers"),
        ({"std": [1, 0, 1]}, r"pixels\.std must be three positive numbers"),
        ({"std": [1, 1, float("nan")]}, r"pixels\.std must be three positive numbers"),
        (["antialias"], "pixels must be a section"),
    ],
)
def test_what_is_no_key_or_no_value_of_pixels_is_refused(name, pixels, message):
    with pytest.raises(UsageError, match=message):
        preprocessing(name, pixels)
