"""An exported detector costs what its network costs in PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vovnet.export.onnx_file import make_onnx
from vovnet.export.source import describe_export
from vovnet.profiling.cost import count_cost
from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.module import OnnxModule
from vovnet.weights.detector import LoadedModel, load_weights


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_weights("bccd")


@pytest.fixture(scope="module")
def exported(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "bccd.onnx"
    path.write_bytes(make_onnx(loaded.model, describe_export(loaded, "float32")).SerializeToString())
    return path


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_exported_file_has_the_multiply_adds_of_the_network(
    loaded: LoadedModel, exported: Path, batch_size: int
) -> None:
    shape = OnnxModule(exported, threads=1).batch_shape(batch_size, None)
    assert shape == (batch_size, 3, 300, 300)
    ours, its = count_cost(loaded.model, shape).total, count_onnx_cost(exported, shape)
    assert its.total.multiply_adds == ours.multiply_adds
    assert its.total.memory_access_cost == ours.memory_access_cost
    assert not its.is_lower_bound


def test_the_command_measures_an_exported_file(exported: Path, run_vovnet) -> None:
    """Images are uint8, and the second input, the threshold, is filled with ones."""
    done = run_vovnet("measure", exported, "--repetitions", "2", "--no-memory", "--json", "-")
    assert done.returncode == 0, done.stderr
    (measurement,) = json.loads(done.stdout)["measurements"]
    assert measurement["input_shape"] == [1, 3, 300, 300]
    assert measurement["other_inputs"] == {"score_threshold": "1 in float32"}
    assert measurement["cost"]["total"]["multiply_adds"] == 5_288_770_304
