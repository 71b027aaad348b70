"""Figure 2 and its numbers from invented strengths."""

import json

import numpy as np
import pytest

from vovnet.paper.aggregation.connections import early_to_late, hypothesis_rows, redundancy, unevenness, verdicts
from vovnet.paper.aggregation.figure2 import accuracy_rows, figure_2_section, plot_figure2, write_figure2


def dense(last, seed=0):
    """Three blocks of two layers: the first source is used most by the second layer."""
    block = [[1.0, None, None], [4.0, 1.0, None], last]
    return run("densenet40", [block] * 3, seed)


def osa(name, last, seed=0):
    return run(name, [[[1.0, None, None], [None, 2.0, None], last]] * 3, seed)


def run(name, strengths, seed):
    targets = [["1", "2", f"transition {number}"] for number in (1, 2, 3)]
    if name == "densenet40":
        targets[-1][-1] = "classifier"
    return {
        "network": name, "seed": seed, "test_accuracy": 0.9, "parameters": 10, "multiply_adds": 2000,
        "memory_access_cost": 3_000_000, "train_images": 50_000, "images": "original", "device": "CPU, 1 threads",
        "strengths": strengths, "targets": targets, "log": [[1, 2, 3]],
        "settings": {"epochs": 2.0, "precision": "fp32", "batch_size": 64, "learning_rate": 0.1, "weight_decay": 1e-4},
    }  # fmt: skip


RUNS = [
    osa("osa_5_43", [2.0, 2.0, 1.8]),
    dense([0.5, 1.0, 2.0]),
    osa("osa_12_20", [4.0, 2.0, 1.0], seed=1),
    osa("osa_12_20", [4.0, 2.0, 1.0]),
]


def test_sources_used_by_intermediate_layers_against_the_last():
    """Mean use: source 0 has (1 + 1) / 2, source 1 has 0.25; the last layer prefers source 1."""
    assert redundancy(RUNS[1]) == pytest.approx([-1] * 3)
    assert redundancy(dense([2.0, 1.0, 0.1])) == pytest.approx([1] * 3)
    assert redundancy(RUNS[0]) == []  # one source each: no choice


def test_the_last_column():
    assert unevenness(RUNS[0]) == pytest.approx([np.std([2, 2, 1.8]) / np.mean([2, 2, 1.8])] * 3)
    assert early_to_late(RUNS[3]) == pytest.approx([2] * 3)  # without the block's input
    assert early_to_late(RUNS[1]) == pytest.approx([0.5] * 3)
    middle = run("osa_5_43", [[[9.0, 1, 2, 7, 3, 5]]] * 3, 0)
    assert early_to_late(middle) == pytest.approx([1.5 / 4] * 3)


def test_equal_strengths_correlate_with_nothing():
    assert redundancy(dense([1.0, 1.0, 0.5])) == [0] * 3


def cases(runs):
    """For each hypothesis in how many of how many cases it holds."""
    return [(sum(holds), len(holds)) for holds in verdicts(runs).values()]


def test_verdicts_count_cases():
    """The classifier of DenseNet's last block is not compared with a transition."""
    assert cases(RUNS) == [(3, 3), (2, 4), (6, 6), (3, 3)]
    turned = [dense([2.0, 1.0, 0.1]), osa("osa_12_20", [1.0, 2.0, 4.0])]
    assert cases(turned) == [(0, 3), (2, 2), (0, 3)]
    assert verdicts(RUNS[:1]) == {}
    assert [total for _, total in cases([RUNS[1], RUNS[2]])] == [3, 3]  # no seed in common: nothing to compare


def test_rows_are_ordered_by_network_and_seed():
    header, rows = hypothesis_rows(RUNS)
    assert [row[:2] for row in rows] == [
        ["DenseNet-40", "0"],
        ["OSA (12/20)", "0"],
        ["OSA (12/20)", "1"],
        ["OSA (5/43)", "0"],
    ]
    assert rows[0][2] == "−1.00; −1.00; −1.00"
    assert len(header) == len(rows[0])
    header, rows = accuracy_rows(RUNS)
    assert rows[1] == ["OSA (12/20)", "10", "2,000", "3.00", "10.00", "10.00; 10.00", "6.4"]


def test_every_column_of_the_figure_has_a_one(tmp_path):
    figure = plot_figure2(RUNS, "jet")
    maps = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in maps][:4] == [
        *(f"DenseNet-40, block {n}" for n in (1, 2, 3)),
        "OSA (12/20), block 1",
    ]
    for axes in maps:
        cells = axes.images[0].get_array().filled(np.nan)
        assert np.nanmax(cells, axis=0).tolist() == [1, 1, 1]
    assert maps[0].images[0].get_array().filled(np.nan)[:, 2].tolist() == pytest.approx([0.25, 0.5, 1])
    assert [path.name for path in write_figure2(RUNS, tmp_path)] == ["figure2.png", "figure2_colour_blind_safe.png"]
    assert (tmp_path / "figure2.png").read_bytes().startswith(b"\x89PNG")
    assert write_figure2([{"network": "resnet56", "seed": 0}], tmp_path / "none") == []


def test_the_section_says_what_is_missing_or_what_was_run(tmp_path):
    (text,) = figure_2_section(tmp_path).parts
    assert "Not run. `vovnet study aggregation configs/cifar10_aggregation.yaml data=DIR`" in text
    plain = {key: value for key, value in RUNS[0].items() if key not in ("strengths", "targets")}
    for runs in ([], [{**plain, "network": "resnet56"}]):
        (tmp_path / "cifar10_aggregation.json").write_text(json.dumps({"runs": runs}))
        assert figure_2_section(tmp_path).parts == [text]
    (tmp_path / "cifar10_aggregation.json").write_text(json.dumps({"runs": RUNS}))
    section = figure_2_section(tmp_path)
    assert section.parts[0].startswith(
        "Measured: 2 epochs (paper: 300) on 50,000 images, batch 64, learning rate 0.1, "
    )
    assert "networks early in training" in section.parts[0]
    assert "CPU, 1 thread. " in section.parts[0]
    assert [figure.name for figure in section.figures] == ["figure2.png", "figure2_colour_blind_safe.png"]
    assert section.figures[0].make() == section.figures[0].make()


def test_a_run_by_the_published_protocol_needs_no_excuse(tmp_path):
    whole = [{**run, "settings": {**run["settings"], "epochs": 300}, "device": "NVIDIA X"} for run in RUNS]
    whole[0]["images"] = "JPEG copies"
    (tmp_path / "cifar10_aggregation.json").write_text(json.dumps({"runs": whole}))
    text = figure_2_section(tmp_path).parts[0]
    assert "paper: 300" not in text
    assert "early in training" not in text
    assert "JPEG-recompressed copies of CIFAR-10" in text
    assert text.count("NVIDIA X") == 2  # of the copies and of the original
