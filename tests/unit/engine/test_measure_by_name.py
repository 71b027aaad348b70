from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vovnet.engine.measure_by_name import measure_by_name
from vovnet.errors import UsageError
from vovnet.profiling import measure as comparison
from vovnet.profiling.measurement import write_measurements
from vovnet.profiling.peak import DevicePeak
from vovnet.report.measurement_remarks import remarks

SAMPLES = Path(__file__).parents[3] / "samples/bccd"


@pytest.fixture(autouse=True)
def peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known peak: the real one takes a second and is tested by itself."""
    monkeypatch.setattr(comparison, "measure_peak", lambda device, precision: DevicePeak("float32", 100.0, 10.0))


def export(path: Path, batch: int | str) -> None:
    """One 3×3 convolution of 4 channels for 8×8 images."""
    write_net(path, {"image": [batch, 3, 8, 8]}, (4, 3, 3, 3))


def write_net(path: Path, inputs: dict[str, list[int | str]], weight_shape: tuple[int, ...]) -> None:
    """One 3×3 convolution of the input called image; it only reads the others."""
    onnx = pytest.importorskip("onnx")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones(weight_shape, np.float32), "weight")
    node = helper.make_node("Conv", ["image", "weight"], ["map"], name="conv", pads=[1, 1, 1, 1])
    others = [name for name in inputs if name != "image"]
    nodes = [node, *(helper.make_node("Identity", [name], [f"{name}_read"]) for name in others)]
    values = [helper.make_tensor_value_info(name, real, shape) for name, shape in inputs.items()]
    outputs = [
        helper.make_tensor_value_info(name, real, None) for name in ("map", *(f"{name}_read" for name in others))
    ]
    graph = helper.make_graph(nodes, "net", values, outputs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


@pytest.mark.slow
def test_an_exported_file_beside_a_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = str(tmp_path / "net.onnx")
    export(Path(file), "N")
    exported, ours = measure_by_name([file, "vovnet27_slim"], device="cpu", repetitions=2, batch_sizes=[2])
    assert exported.runtime == "ONNX Runtime"
    assert exported.input_shape == (1, 3, 8, 8)
    assert ours.input_shape == (1, 3, 224, 224)
    assert exported.cost.total.multiply_adds == 8 * 8 * 4 * 27
    assert exported.layer_seconds is None
    assert exported.memory is not None
    assert exported.memory.live_mib is None
    assert exported.memory.parameters_mib == pytest.approx(4 * 27 * 4 / 2**20)
    assert ours.ratio_to == file
    assert ours.ratio.median > 1


def test_an_exported_file_that_cannot_take_the_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(tmp_path / "net.onnx", 1)
    with pytest.raises(ValueError, match="net.onnx"):
        measure_by_name([str(tmp_path / "net.onnx")], device="cpu", batch_size=2, memory=False)


@pytest.mark.parametrize(
    ("inputs", "weight", "shape", "other"),
    [
        ({"image": [1, 1, 8, 8]}, (4, 1, 3, 3), (1, 1, 8, 8), None),
        ({"image": [2, 3, 8, 8]}, (4, 3, 3, 3), (2, 3, 8, 8), None),
        ({"image": ["n", 3, "h", "w"]}, (4, 3, 3, 3), (1, 3, 224, 224), None),
        ({"sizes": [1, 2], "image": [1, 3, 8, 8]}, (4, 3, 3, 3), (1, 3, 8, 8), {"sizes": "1 × 2 in float32"}),
    ],
)
def test_an_exported_file_is_measured_at_the_shape_it_states(
    tmp_path: Path,
    inputs: dict[str, list[int | str]],
    weight: tuple[int, ...],
    shape: tuple[int, ...],
    other: dict[str, str] | None,
) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    write_net(path, inputs, weight)
    (measurement,) = measure_by_name([str(path)], device="cpu", repetitions=2, memory=False)
    assert measurement.input_shape == shape
    assert measurement.cost.total.multiply_adds == shape[0] * shape[2] * shape[3] * 4 * 9 * weight[1]
    assert measurement.other_inputs == other
    assert any("given ones: sizes (1 × 2 in float32)" in line for line in remarks([measurement])) == bool(other)
    write_measurements([measurement], tmp_path / "record.json")
    assert measure_by_name([str(tmp_path / "record.json")]) == [measurement]


def test_an_exported_file_of_a_fixed_size(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(tmp_path / "net.onnx", 1)
    for sizes in ({"input_size": 16}, {"batch_size": 2}):
        with pytest.raises(
            ValueError, match=r"net\.onnx takes 1 × 3 × 8 × 8, got .*: leave out the size that the file"
        ):
            measure_by_name([str(tmp_path / "net.onnx")], device="cpu", memory=False, **sizes)  # type: ignore[arg-type]


def test_an_exported_file_has_its_own_precision(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(tmp_path / "net.onnx", 1)
    with pytest.raises(UsageError, match="it takes float32 as it is and cannot run in bfloat16"):
        measure_by_name([str(tmp_path / "net.onnx")], device="cpu", precision="bfloat16", memory=False)


def test_a_trained_detector_has_stages_and_a_record_is_read_again(tmp_path: Path) -> None:
    images = sorted((SAMPLES / "JPEGImages").glob("*.jpg"))[:2]
    (one,) = measure_by_name(["bccd"], device="cpu", repetitions=2, memory=False, image_paths=images)
    assert one.input_shape == (1, 3, 300, 300)
    assert one.stages is not None
    assert set(one.stages) == {"read image", "pre-process", "network", "decode + NMS", "draw"}
    assert one.accuracy is None
    write_measurements([one], tmp_path / "record.json")
    assert measure_by_name([str(tmp_path / "record.json")]) == [one]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image_paths": [Path("a.jpg")]},
            "images and data are for trained detectors, and none of these is one: vovnet39",
        ),
        ({"data": SAMPLES}, "images and data are for trained detectors"),
    ],
)
def test_what_untrained_models_cannot_be_asked(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure_by_name(["vovnet39"], device="cpu", **options)  # type: ignore[arg-type]


def test_accuracy_is_that_of_the_weights_as_they_are() -> None:
    with pytest.raises(UsageError, match="measured in float32, got bfloat16"):
        measure_by_name(["bccd"], device="cpu", data=SAMPLES, precision="bfloat16")
