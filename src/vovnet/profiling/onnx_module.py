"""An exported ONNX file as a module, so that it is timed like any other; ONNX Runtime runs it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.profiling.cost import ModelCost
from vovnet.profiling.onnx_cost import count_onnx_cost

_INPUTS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(uint8)": torch.uint8}


class OnnxModule(nn.Module):
    """`module(images)`: (N, C, H, W) → the file's outputs, in its order.

    threads: within an operator, None as many as PyTorch has now. device: "cpu" or "cuda"; the module stays on it and
    keeps the number format of its file. It holds no parameters that PyTorch could see. A copy, also one in another
    process, loads the file again.

    Only operators that ONNX Runtime brings along can run, and it reads weights only from the folder of the file.
    Raises ValueError for what is no sound ONNX file with one input (N, C, H, W) in float32, float16 or uint8 and
    tensors of numbers as outputs, or for a device that ONNX Runtime has not, OSError for a file that cannot be read,
    ModuleNotFoundError without the package onnxruntime.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self.threads = torch.get_num_threads() if threads is None else threads
        self.device = torch.device(device)
        self._place = self.device.type, self.device.index or 0
        self._session = _load(self.path, self.threads, self.device)
        self._input = _image_input(self._session, self.path)
        self._outputs = _tensor_outputs(self._session, self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.path), self.threads, str(self.device))

    def extra_repr(self) -> str:
        return f"{self.path.name}, threads={self.threads}, device={self.device}"

    @property
    def input_dtype(self) -> torch.dtype:
        return _INPUTS[self._input.type]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(N, C, H, W), None where the file leaves a size open."""
        return tuple(size if isinstance(size, int) and size > 0 else None for size in self._input.shape)

    def count_cost(self, shape: tuple[int, ...]) -> ModelCost:
        """See `count_onnx_cost`."""
        return count_onnx_cost(self.path, shape)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raises ValueError for an input of another shape, number format or device than the module's."""
        self._check(images)
        images = images.detach().contiguous()
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # ONNX Runtime has a stream of its own
        binding = self._session.io_binding()
        element_type = torch.empty(0, dtype=images.dtype).numpy().dtype
        binding.bind_input(self._input.name, *self._place, element_type, tuple(images.shape), images.data_ptr())
        for name in self._outputs:
            binding.bind_output(name, *self._place)
        try:
            self._session.run_with_iobinding(binding)
        except _runtime_errors() as error:
            raise ValueError(
                f"{self.path.name} cannot run on an input of {_times(images.shape)}: {_reason(error)}"
            ) from None
        return tuple(torch.from_dlpack(output) for output in binding.get_outputs())

    def _check(self, images: Tensor) -> None:
        if type(images) is not Tensor:  # ONNX Runtime would read the memory of a stand-in that has none
            raise TypeError(f"an exported file runs on tensors with values, got a {type(images).__name__}")
        expected = self.input_shape
        sizes = tuple(images.shape)
        if len(sizes) != 4 or any(own not in (None, size) for own, size in zip(expected, sizes, strict=True)):
            own = _times("any" if size is None else size for size in expected)
            raise ValueError(f"{self.path.name} takes an input of {own}, got {_times(sizes)}")
        if images.dtype != self.input_dtype:
            raise ValueError(f"{self.path.name} takes {self.input_dtype}, got {images.dtype}")
        if (images.device.type, images.device.index or 0) != self._place:
            raise ValueError(f"{self.path.name} was loaded on {self.device}, got an input on {images.device}")


def _load(path: Path, threads: int, device: torch.device) -> Any:
    """An `onnxruntime.InferenceSession`, on the CPU or on CUDA and nothing else."""
    with path.open("rb"):  # its error names the reason
        pass
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path.name} needs an extra: pip install 'vovnet[onnx]'", name=error.name) from error
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Threads that wait busily for the next pass would slow down whatever is timed in between.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=_providers(device, onnxruntime))
    except _runtime_errors() as error:
        raise ValueError(f"{path} cannot be loaded by ONNX Runtime: {_reason(error)}") from None
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ValueError("ONNX Runtime could not start CUDA: its CUDA and cuDNN must be the ones it was built for")
    return session


def _providers(device: torch.device, onnxruntime: Any) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda":
        raise ValueError(f"an exported file runs on cpu or cuda, got {device}")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ValueError("this ONNX Runtime has no CUDA: pip install onnxruntime-gpu in place of onnxruntime")
    # Operators that CUDA has not run on the CPU.
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _image_input(session: Any, path: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise ValueError(f"{path} must have one input, images as (N, C, H, W), and has {names}")
    (image,) = inputs
    if image.type not in _INPUTS or len(image.shape) != 4:
        raise ValueError(
            f"{path} must take images as (N, C, H, W) in float32, float16 or uint8, and its input {image.name} is "
            f"{image.type} with {len(image.shape)} dimensions"
        )
    return image


def _tensor_outputs(session: Any, path: Path) -> list[str]:
    outputs = session.get_outputs()
    for one in outputs:
        if not one.type.startswith("tensor(") or one.type == "tensor(string)":
            raise ValueError(f"{path} must give tensors of numbers, and its output {one.name} is {one.type}")
    return [one.name for one in outputs]


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes without a base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*classes, RuntimeError)


def _reason(error: Exception) -> str:
    """Without the codes and the path that it begins with, on one line."""
    text = str(error).rpartition("[ONNXRuntimeError] : ")[2].split(" : ", 2)[-1]
    return " ".join(text.split(" failed:", 1)[-1].split())


def _times(sizes: Iterable[object]) -> str:
    return " × ".join(map(str, sizes))
