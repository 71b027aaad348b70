from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vovnet.profiling.onnx.cost import count_onnx_cost
from vovnet.profiling.onnx.module import OnnxModule

from .onnx_files import FLOAT, IMAGE, MODELS, PIXELS, Exported, TensorProto, array, node, numbers, write


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_gives_what_the_module_gives(exported: Callable[[str], Exported], name: str) -> None:
    model = exported(name)
    module = OnnxModule(model.path, threads=1)
    assert module.input_shape == model.shape
    assert module.input_dtype == torch.float32
    images = torch.rand(model.shape).to(memory_format=torch.channels_last)
    with torch.no_grad():
        outputs, expected = module(images), model.module(images)
    expected = [expected] if isinstance(expected, Tensor) else expected
    assert isinstance(outputs, tuple)
    assert len(outputs) == len(expected)
    for output, other in zip(outputs, expected, strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, other, rtol=1e-4, atol=1e-4)
    assert count_onnx_cost(module.path, model.shape) == count_onnx_cost(model.path)


def test_weights_beside_the_file_are_not_needed_to_count_but_to_run(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    model = exported("vovnet27_slim")
    assert model.path.with_name(f"{model.path.name}.data").exists()
    alone = tmp_path / model.path.name
    alone.write_bytes(model.path.read_bytes())
    assert count_onnx_cost(alone) == count_onnx_cost(model.path)
    with pytest.raises(ValueError, match=r"cannot be loaded by ONNX Runtime: .*vovnet27_slim\.onnx\.data"):
        OnnxModule(alone)


# Faulty files.


def test_a_wrong_size(tmp_path: Path) -> None:
    path = write(tmp_path, node("Relu", "x"), shape=("batch", 4, 6, 6))
    for shape in [(1, 3, 6, 6), (1, 4, 6), (0, 4, 6, 6)]:
        with pytest.raises(ValueError, match=r"takes any × 4 × 6 × 6, got an input of "):
            count_onnx_cost(path, shape)
    module = OnnxModule(path)
    assert module.input_shape == (None, 4, 6, 6)
    assert module(torch.rand(3, 4, 6, 6))[0].shape == (3, 4, 6, 6)
    for shape in [(1, 3, 6, 6), (4, 6, 6)]:
        with pytest.raises(ValueError, match=r"model\.onnx takes an input of any × 4 × 6 × 6, got "):
            module(torch.rand(shape))
    with pytest.raises(ValueError, match=r"model\.onnx takes torch\.float32, got torch\.float16"):
        module(torch.rand(IMAGE).half())
    with pytest.raises(ValueError, match="was loaded on cpu, got an input on meta"):
        module(torch.empty(IMAGE, device="meta"))


def test_a_size_that_a_node_inside_cannot_take(tmp_path: Path) -> None:
    path = write(tmp_path, node("Reshape", "x r"), constants=[numbers("r", 1, 144)], shape=("n", "c", "h", "w"))
    assert OnnxModule(path)(torch.rand(IMAGE))[0].shape == (1, 144)
    with pytest.raises(ValueError, match=r"cannot run on an input of 1 × 4 × 7 × 6: ") as caught:
        OnnxModule(path)(torch.rand(1, 4, 7, 6))
    assert "\n" not in str(caught.value)
    gemm = write(tmp_path, node("Gemm", "x w"), constants=[array("w", 5, 3)], shape=("n", "c"))
    with pytest.raises(ValueError, match="has a node that does not fit its inputs: ") as caught:
        count_onnx_cost(gemm, (1, 4))
    assert "\n" not in str(caught.value)


def test_files_that_are_not_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for read in (count_onnx_cost, OnnxModule):
        with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
            read(path)
    whole = write(tmp_path, node("Conv", "x w"), constants=[array("w", 8, 4, 1, 1)]).read_bytes()
    for content in (b"", b"\x00nothing" * 20, whole[: len(whole) // 2]):
        path.write_bytes(content)
        for read in (count_onnx_cost, OnnxModule):
            with pytest.raises(ValueError, match=r"model\.onnx (is not an ONNX model|cannot be loaded)") as caught:
                read(path)
            assert "\n" not in str(caught.value)


def test_a_file_without_images(tmp_path: Path) -> None:
    path = write(tmp_path, node("Identity", "w"), inputs=[], constants=[array("w", 2)])
    with pytest.raises(ValueError, match="must have one input, .* but has none"):
        count_onnx_cost(path)
    with pytest.raises(ValueError, match="must take images in .* but it has no inputs"):
        OnnxModule(path)
    for wrong in ({"shape": (4, 6)}, {"elem_type": TensorProto.INT64, "outputs": {"y": TensorProto.INT64}}):
        path = write(tmp_path, node("Identity", "x"), **wrong)
        with pytest.raises(ValueError, match=r"must take images in float32, .* but its inputs are x \(.* × 6, .*\)"):
            OnnxModule(path)


def test_outputs_must_be_tensors(tmp_path: Path) -> None:
    path = write(tmp_path, node("Cast", "x", to=TensorProto.STRING), outputs={"y": TensorProto.STRING})
    with pytest.raises(ValueError, match=r"must return tensors of numbers, but its output y is tensor\(string\)"):
        OnnxModule(path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 32))
    inside = tmp_path / "inside"
    inside.mkdir()
    for location in ("../secret", str(secret)):
        weight = TensorProto(name="w", data_type=FLOAT, dims=[8, 4, 1, 1], data_location=TensorProto.EXTERNAL)
        entry = weight.external_data.add()
        entry.key, entry.value = "location", location
        path = write(inside, node("Conv", "x w"), constants=[weight])
        assert count_onnx_cost(path).total.multiply_adds == PIXELS * 32
        with pytest.raises(ValueError, match="cannot be loaded by ONNX Runtime: External data path validation failed"):
            OnnxModule(path)


def test_operators_from_elsewhere_do_not_run(tmp_path: Path) -> None:
    path = write(tmp_path, node("Foo", "x", domain="their"))
    with pytest.raises(ValueError, match="their:Foo.* is not a registered function/op"):
        OnnxModule(path)


# Running.


@pytest.mark.parametrize(
    ("elem_type", "dtype"), [(TensorProto.FLOAT16, torch.float16), (TensorProto.UINT8, torch.uint8)]
)
def test_number_formats_of_the_input(tmp_path: Path, elem_type: int, dtype: torch.dtype) -> None:
    path = write(tmp_path, node("Cast", "x", to=FLOAT), elem_type=elem_type)
    module = OnnxModule(path)
    assert module.input_dtype == dtype
    images = (200 * torch.rand(IMAGE)).to(dtype)
    assert torch.equal(module(images)[0], images.float())


def test_outputs_of_other_formats_and_without_elements(tmp_path: Path) -> None:
    nodes = node("Greater", "x one", "more"), node("NonZero", "more", "where")
    path = write(
        tmp_path, *nodes, constants=[array("one")], outputs={"more": TensorProto.BOOL, "where": TensorProto.INT64}
    )
    module = OnnxModule(path)
    more, where = module(torch.zeros(IMAGE))
    assert (more.dtype, where.dtype, where.shape) == (torch.bool, torch.int64, (4, 0))
    assert not more.any()
    more, where = module(torch.full(IMAGE, 2.0))
    assert more.all()
    assert where.shape == (4, 144)


def test_outputs_stay_when_the_module_runs_again_or_is_gone(tmp_path: Path) -> None:
    module = OnnxModule(write(tmp_path, node("Neg", "x")))
    (first,) = module(torch.ones(IMAGE))
    module(torch.zeros(IMAGE))
    del module
    assert torch.equal(first, -torch.ones(IMAGE))


def test_a_fake_tensor_is_refused(tmp_path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    module = OnnxModule(write(tmp_path, node("Relu", "x")))
    with FakeTensorMode() as mode, pytest.raises(TypeError, match="tensors with values, got a FakeTensor"):
        module(mode.from_tensor(torch.rand(IMAGE)))


def test_copies_load_the_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, node("Neg", "x"))
    monkeypatch.chdir(tmp_path)
    module = OnnxModule("model.onnx", threads=2).eval()
    monkeypatch.chdir("/")
    images = torch.rand(IMAGE)
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert twin.threads == 2
        assert torch.equal(twin(images)[0], -images)
    assert repr(module) == "OnnxModule(model.onnx, threads=2, device=cpu)"


def test_threads_are_those_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, node("Relu", "x"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    module = OnnxModule(path)
    assert module.threads == module._session.get_session_options().intra_op_num_threads == 3


# Missing devices and packages.


def test_other_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    path = write(tmp_path, node("Relu", "x"))
    with pytest.raises(ValueError, match="runs on cpu or cuda, got mps"):
        OnnxModule(path, device="mps")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="does not support CUDA: install onnxruntime-gpu"):
        OnnxModule(path, device="cuda")
    # ONNX Runtime drops a provider that does not start, without an exception.
    asked: list[Any] = []

    def session(path: Path, options: Any, providers: list[Any], enable_fallback: int) -> Any:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(ValueError, match="could not start CUDA"):
        OnnxModule(path, device="cuda:1")
    assert asked == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]


@pytest.mark.parametrize(("package", "read"), [("onnx", count_onnx_cost), ("onnxruntime", OnnxModule)])
def test_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, read: Callable[[Path], object]
) -> None:
    path = write(tmp_path, node("Relu", "x"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "vovnet\[onnx\]"'):
        read(path)
