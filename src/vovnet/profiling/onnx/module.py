"""An exported ONNX file as a module, run by ONNX Runtime, so that it can be measured like any other module."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vovnet.libraries import needs_extra
from vovnet.printing import line
from vovnet.profiling.onnx.inputs import IMAGE_DTYPES, OnnxInput, check_file, image_input, takes_shape, times
from vovnet.runtime.without_telemetry import import_onnxruntime

MAX_ELEMENTS = 2**28  # of an input that takes no images
_DTYPES = {"float": "float32", "double": "float64"}  # other number formats have the same name in both
_NUMBERS = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


class OnnxModule(nn.Module):
    """`module(images)`: (N, C, H, W) → the outputs of the file, in its order.

    A file may take channels last, (N, H, W, C), and one image without a batch, which is a batch of one here. All other
    inputs are ones, see `other_inputs`.

    The module stays on its device, CPU or CUDA, and keeps the number format of the file. It has no parameters that
    PyTorch can see. A copy, also in another process, loads the file again. Only ONNX Runtime's own operators can run,
    and weights are read only from the folder of the file.

    threads: CPU threads of an operator; None means as many as PyTorch uses.

    Raises ValueError for a file that is not a valid ONNX model with an input for images, see `IMAGE_DTYPES`,
    and with tensors of numbers as other inputs and as outputs, or for a device that ONNX Runtime does not support;
    OSError for a file that cannot be read; ModuleNotFoundError without the package onnxruntime.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self.threads = torch.get_num_threads() if threads is None else threads
        self.device = torch.device(device)
        self._binding_device = self.device.type, self.device.index or 0
        self._session = _load(self.path, self.threads, self.device)
        try:
            self._input, self._others = _inputs(self._session, self.path)
            self._outputs = _tensor_outputs(self._session, self.path)
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} cannot be loaded by ONNX Runtime: {_reason(error)}") from None
        self._ones: dict[tuple[int, ...], dict[str, Any]] = {}  # shape of the images → values of the other inputs

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self.path), self.threads, str(self.device))

    def extra_repr(self) -> str:
        return f"{self.path.name}, threads={self.threads}, device={self.device}"

    @property
    def input_dtype(self) -> torch.dtype:
        return getattr(torch, self._input.dtype)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of the images in the file, with None for a size that it leaves open."""
        return self._input.sizes

    def batch_shape(self, batch_size: int | None = None, input_size: int | None = None) -> tuple[int, int, int, int]:
        """A shape of images to run on; None is the size that the file states, else 1 image and 224 pixels."""
        return self._input.batch_shape(batch_size, input_size)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether images can have this shape, as far as the file states it."""
        return takes_shape(self.input_shape, self._input.own_shape(shape))

    def other_inputs(self, shape: tuple[int, ...]) -> dict[str, str]:
        """Name → shape and number format of each further input beside images of this shape; it is all ones.

        Raises ValueError if a size does not follow from the file and the shape of the images.
        """
        return {
            value.name: f"{times(sizes) or 'a single number'} in {value.dtype}" for value, sizes in self._beside(shape)
        }

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Raises ValueError for an input whose shape, number format or device is not that of the module."""
        self._check(images)
        if tuple(images.shape) not in self._ones:
            self._ones = {tuple(images.shape): self._make_ones(tuple(images.shape))}
        ones = self._ones[tuple(images.shape)]
        images = images.detach().contiguous()
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()  # ONNX Runtime uses another stream
        binding, shape = self._session.io_binding(), self._input.own_shape(images.shape)
        element_type = torch.empty(0, dtype=images.dtype).numpy().dtype
        binding.bind_input(self._input.name, *self._binding_device, element_type, shape, images.data_ptr())
        for name, value in ones.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, *self._binding_device)
        try:
            self._session.run_with_iobinding(binding)
        except _runtime_errors() as error:
            message = f"{self.path.name} cannot run on an input of {times(images.shape)}: {_reason(error)}"
            raise ValueError(message) from None
        return tuple(_tensor(output) for output in binding.get_outputs())

    def _beside(self, shape: tuple[int, ...]) -> list[tuple[OnnxInput, tuple[int, ...]]]:
        """The other inputs and their shapes."""
        found = []
        for value in self._others:
            beside = value.sizes_beside(self._input, self._input.own_shape(shape))
            sizes = tuple(size for size in beside if size is not None)
            if len(sizes) < len(beside):
                raise ValueError(
                    f"{self.path.name} leaves the shape of its input {line(str(value))} open: fix it in the file"
                )
            if math.prod(sizes) > MAX_ELEMENTS:
                raise ValueError(
                    f"{self.path.name} has an input of more than {MAX_ELEMENTS} elements: {line(str(value))}"
                )
            found.append((value, sizes))
        return found

    def _make_ones(self, shape: tuple[int, ...]) -> dict[str, Any]:
        onnxruntime = import_onnxruntime()
        device, index = self._binding_device
        return {
            value.name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ones(sizes, value.dtype), device, index)
            for value, sizes in self._beside(shape)
        }

    def _check(self, images: Tensor) -> None:
        if type(images) is not Tensor:  # ONNX Runtime would read memory that a fake tensor does not have
            raise TypeError(f"an exported file needs tensors with values, got a {type(images).__name__}")
        if not self.takes(tuple(images.shape)):
            raise ValueError(f"{self.path.name} takes an input of {times(self.input_shape)}, got {times(images.shape)}")
        if images.dtype != self.input_dtype:
            raise ValueError(f"{self.path.name} takes {self.input_dtype}, got {images.dtype}")
        if (images.device.type, images.device.index or 0) != self._binding_device:
            raise ValueError(f"{self.path.name} was loaded on {self.device}, got an input on {images.device}")


def _load(path: Path, threads: int, device: torch.device) -> Any:
    """An `onnxruntime.InferenceSession`, on the CPU or on CUDA and nothing else."""
    check_file(path)
    with needs_extra("onnx", f"{path.name} needs the package onnxruntime"):
        onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors come as exceptions
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Threads that spin while they wait for the next pass would slow down whatever is timed in between.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=_providers(device, onnxruntime), enable_fallback=0
        )
    except _runtime_errors() as error:
        raise ValueError(f"{path} cannot be loaded by ONNX Runtime: {_reason(error)}") from None
    if device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ValueError("ONNX Runtime could not start CUDA: install the CUDA and cuDNN versions that it was built for")
    return session


def _providers(device: torch.device, onnxruntime: Any) -> list[Any]:
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda":
        raise ValueError(f"an exported file runs on cpu or cuda, got {device}")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise ValueError("this ONNX Runtime does not support CUDA: install onnxruntime-gpu instead of onnxruntime")
    # Operators that the CUDA provider lacks run on the CPU.
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _inputs(session: Any, path: Path) -> tuple[OnnxInput, list[OnnxInput]]:
    """The input that takes the images, and the others."""
    inputs = []
    for value in session.get_inputs():
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        inputs.append(OnnxInput(value.name, _DTYPES.get(kind, kind), tuple(value.shape)))
    image = image_input(inputs)
    if image is None:
        takes = (
            f"images in {', '.join(IMAGE_DTYPES[:-1])} or {IMAGE_DTYPES[-1]} as (N, C, H, W), (N, H, W, C) or without N"
        )
        has = f"its inputs are {line(', '.join(map(str, inputs)), 200)}" if inputs else "it has no inputs"
        raise ValueError(f"{path} must take {takes}, but {has}")
    others = [value for value in inputs if value is not image]
    for value in others:
        if value.dtype not in _NUMBERS:
            raise ValueError(
                f"{path} must take tensors of numbers beside the images, but has an input {line(str(value))}"
            )
    return image, others


def _tensor_outputs(session: Any, path: Path) -> list[str]:
    outputs = session.get_outputs()
    for output in outputs:
        if not output.type.startswith("tensor(") or output.type == "tensor(string)":
            raise ValueError(
                f"{path} must return tensors of numbers, but its output {line(output.name)} is {line(output.type)}"
            )
    return [output.name for output in outputs]


def _tensor(output: Any) -> Tensor:
    tensor = torch.from_dlpack(output)
    # ONNX Runtime before 1.32 hands truth values over as bytes.
    return tensor.view(torch.bool) if output.data_type() == "tensor(bool)" else tensor


def _runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions of ONNX Runtime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    classes = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*classes, RuntimeError, UnicodeDecodeError)  # the last for a name that is not UTF-8


def _reason(error: Exception) -> str:
    """The message on one line, without the codes and the path at its beginning."""
    text = str(error).rpartition("[ONNXRuntimeError] : ")[2].split(" : ", 2)[-1]
    return line(text.split(" failed:", 1)[-1], 250)
