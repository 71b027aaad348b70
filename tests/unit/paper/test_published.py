"""The published values: complete, consistent with each other and with the configs; some are typed here again."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from vovnet.paper.published import FIGURES, TABLE_1, TABLE_1_BACKBONES, TABLES
from vovnet.paper.published_claims import CLAIMS, PRINTED_TWICE
from vovnet.zoo import is_detector

CONFIGS = Path(__file__).parents[3] / "configs"
NUMBERED = ("table2", "table3", "table4", "table5", "table6", "table7")


@pytest.mark.parametrize(
    ("table", "row", "printed_values"),
    [
        ("table2", "Pelee304, PeleeNet", "flops 1.2 fps 35 parameters 5.4 memory 1104 energy 2.4 efficiency 43"),
        ("table2", "DSOD300, VoVNet-27-slim", "fps 71 memory 825 energy 0.9 efficiency 400 map 74.8"),
        ("table3", "VoVNet-27-slim, bottleneck", "flops 4.6 time 18 parameters 4.8 memory 895 map 71.1"),
        ("table4", "ResNet-101", "flops 33.02 fps 17.5 parameters 82.45 memory 3013 energy 7.5 efficiency 579.2"),
        ("table4", "VoVNet-57", "ap 33.9 ap_small 12.8 ap_medium 37.1 ap_large 50.3"),
        ("table5", "VoVNet-39-GN", "ap 41.7 ap50 62.2 ap75 45.8 mask_ap 36.8 mask_ap50 59.0 mask_ap75 39.5 time 152"),
        ("table6", "RetinaNet800, ResNet-101-FPN", "ap 37.8 ap50 57.5 ap75 40.8 ap_small 20.2 ap_large 49.2 fps 5.0"),
        ("table6", "RefineDet512, VoVNet-57, multi-scale", "ap 43.6 ap50 64.9 ap_small 27.2 ap_medium 46.9"),
        ("table7", "VoVNet-57, batch 32", "ap 39.2 fps 14.9"),
    ],
)  # fmt: skip
def test_rows_as_printed(table, row, printed_values):
    words = printed_values.split()
    expected = dict(zip(words[::2], words[1::2], strict=True))
    assert {key: TABLES[table].row(row).values[key] for key in expected} == expected


def test_sizes_of_the_tables():
    assert [len(TABLES[key].rows) for key in NUMBERED] == [4, 2, 6, 4, 28, 6]
    for key in NUMBERED:
        names = [row.name for row in TABLES[key].rows]
        assert len(set(names)) == len(names)
    assert [len(row) for row in TABLE_1] == [2 + len(TABLE_1_BACKBONES)] * 7


@pytest.mark.parametrize("key", NUMBERED)
def test_values_are_numbers_of_known_columns(key):
    columns = {column.key for column in TABLES[key].columns}
    for row in TABLES[key].rows:
        assert row.values.keys() <= columns
        missing = columns - row.values.keys()
        assert missing <= ({"fps"} if key == "table6" else {"parameters"} if key == "table5" else set()), row.name
        for column, text in row.values.items():
            assert "×" in text if column == "input" and text.startswith("~") else Decimal(text) > 0


@pytest.mark.parametrize("key", NUMBERED)
def test_models_have_a_config(key):
    for row in TABLES[key].rows:
        assert bool(row.model) == bool(row.config)
        if row.model:
            assert is_detector(row.model)
            config = CONFIGS / f"{row.config}.yaml"
            assert yaml.safe_load(config.read_text())["model"] == row.model


def test_published_accuracy_is_in_the_header_of_the_config():
    for key in ("table2", "table4", "table7"):
        accuracy = "map" if key == "table2" else "ap"
        for row in TABLES[key].rows:
            header = (CONFIGS / f"{row.config}.yaml").read_text().partition("\nmodel:")[0]
            assert row.values[accuracy] in header, row.name


def test_axes_of_the_scatter_plots():
    panels = [
        FIGURES[name].panels[index] for name, index in (("figure3", 0), ("figure3", 3), ("figure4", 1), ("figure4", 2))
    ]
    assert [(panel.x.key, panel.x_ticks, panel.y.key, panel.y_ticks) for panel in panels] == [
        ("fps", (30, 70), "map", (68, 75)),
        ("energy", (1, 4), "efficiency", (50, 400)),
        ("efficiency", (400, 800), "ap", (30, 34)),
        ("energy", (4, 10), "ap", (30, 34)),
    ]


def test_values_of_the_claims_exist():
    for claim in CLAIMS:
        for value in filter(None, (claim.first, claim.second, claim.equals, claim.rather)):
            assert Decimal(value.text) > 0
    for _, first, second in PRINTED_TWICE:
        assert Decimal(first.text) > 0
        assert Decimal(second.text) > 0
