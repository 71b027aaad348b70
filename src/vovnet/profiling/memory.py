"""Measuring the memory of a forward pass: what its tensors hold, and the peak that the device provides for it."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from vovnet.errors import typed
from vovnet.printing import line
from vovnet.profiling.energy.nvml import find_nvml
from vovnet.profiling.energy.sensors import NoSensor
from vovnet.profiling.live_tensors import follow_tensors, in_eval
from vovnet.profiling.ranges import NonNegative

PASSES = 3
MIB = 2**20
_RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class MemoryUse:
    """Memory of one forward pass of a batch in MiB (2²⁰ bytes), with the input, which the caller holds.

    method: how the peak was measured.
    parameters_mib: with buffers.
    peak_mib: parameters, input, activations and workspace of the kernels; None with `reason`.
    live_mib: the most that tensors held at one moment, found by following every storage; includes parameters and input.
    live_layer: path of the module that ran at that moment; "" is the model itself.
    reserved_mib: reserved by the allocator (CUDA only).
    process_mib: memory of the whole process according to NVML (CUDA only).
    """

    method: str
    parameters_mib: NonNegative
    peak_mib: NonNegative | None
    live_mib: NonNegative | None
    live_layer: str | None
    reserved_mib: NonNegative | None = None
    process_mib: NonNegative | None = None
    reason: str | None = None


@dataclass(frozen=True)
class _Peak:
    """The measured part of `MemoryUse`."""

    method: str
    peak_mib: float | None = None
    reserved_mib: float | None = None
    process_mib: float | None = None
    reason: str | None = None


def measure_memory(
    module: nn.Module, *inputs: Tensor, timeout_s: float = 600, own_allocator: bool = False
) -> MemoryUse:
    """The memory of `module(*inputs)` in eval mode on the device that both are on. The module is not changed.

    On the CPU a new process loads and runs the model, so that the memory of this process does not matter. In it glibc
    is set to return freed memory at once, since it would otherwise keep tens of MiB, and not equally many in each run.
    Autocast of this process does not apply there.

    timeout_s: upper limit for the new process.
    own_allocator: the module gets GPU memory from another library than PyTorch. PyTorch's allocator does not see it,
        so on CUDA only NVML reports it.

    Raises what the model raises on these inputs.
    """
    live_bytes, live_layer = follow_tensors(module, *inputs)
    device = inputs[0].device
    own_mib = _storage_mib(*module.parameters(), *module.buffers(), *inputs)
    if device.type == "cpu":
        peak = _measure_cpu(module, inputs, timeout_s)
    elif device.type == "cuda" and own_allocator:
        _run(module, inputs)
        reason = "the model gets its memory from another library than PyTorch, whose peak is not known"
        peak = _Peak("none", process_mib=_nvml_process_mib(device), reason=reason)
    elif device.type == "cuda":
        peak = _measure_cuda(module, inputs, own_mib)
    elif device.type == "mps":
        peak = _measure_mps(module, inputs, own_mib)
    else:
        peak = _Peak("none", reason=f"memory is measured on cpu, cuda and mps, not on {device.type}")
    return MemoryUse(
        parameters_mib=_storage_mib(*module.parameters(), *module.buffers()),
        live_mib=live_bytes / MIB,
        live_layer=live_layer,
        **vars(peak),
    )


def measure_memory_of_pass(
    module: nn.Module, images: Tensor, *, make: Callable[[], Callable[[], object]], graph: bool
) -> MemoryUse:
    """The memory of a pass that is not eager, on CUDA; elsewhere the reason why it is not known.

    make: makes the pass anew, with all that it keeps; what it returns runs it once.
    graph: the pass is a CUDA graph, whose memory stays reserved for it.
    """
    parameters_mib = _storage_mib(*module.parameters(), *module.buffers())
    if images.device.type != "cuda":
        reason = f"the memory of a graph or a compiled model is measured on CUDA only, not on {images.device.type}"
        return MemoryUse("none", parameters_mib, None, None, None, reason=reason)
    own_mib = _storage_mib(*module.parameters(), *module.buffers(), images)
    peak = (
        _measure_cuda_graph(make, images.device, own_mib)
        if graph
        else _measure_cuda_passes(make(), images.device, own_mib)
    )
    return MemoryUse(parameters_mib=parameters_mib, live_mib=None, live_layer=None, **vars(peak))


def _run(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    with in_eval(module), torch.inference_mode():
        for _ in range(PASSES):
            module(*inputs)


def _storage_mib(*tensors: Tensor) -> float:
    return sum(storage.nbytes() for storage in {tensor.untyped_storage() for tensor in tensors}) / MIB


# CPU: the resident set of a new process -----------------------------------------------------------------------------


def _measure_cpu(module: nn.Module, inputs: tuple[Tensor, ...], timeout_s: float) -> _Peak:
    for kind in map(type, module.modules()):
        if kind.__module__ == "__main__":
            name = kind.__name__
            return _failed(f"it cannot import {name} from the main script; move {name} to a module")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.pt")
        try:
            torch.save((module, inputs), file)
        except Exception as error:  # pickling runs code of the model, which can raise anything
            return _failed(f"the model cannot be saved for it ({_sentence(error)})")
        command = [sys.executable, "-P", "-m", __name__, str(file), str(torch.get_num_threads())]
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        # A fixed threshold. Otherwise glibc raises it when a tensor is freed, and does not return the next tensors.
        environment = os.environ | {"PYTHONPATH": paths, "MALLOC_MMAP_THRESHOLD_": "131072"}
        try:
            child = subprocess.run(
                command, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace",
                timeout=timeout_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return _failed(f"it took longer than {timeout_s:g} s for {PASSES} passes")
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        cause = ", as happens if the machine runs out of memory" if name == "SIGKILL" else ""
        return _failed(f"{name} ended it{cause}")
    if child.returncode:
        last_line = child.stderr.strip().rpartition("\n")[2]
        return _failed(f"it ended with status {child.returncode}: {line(last_line, 300)}")
    try:
        return TypeAdapter(_Peak).validate_json(child.stdout.rstrip("\n").rpartition("\n")[2])
    except ValidationError:  # code of the model wrote to the same output
        return _failed("it wrote something else than its result")


def _failed(why: str) -> _Peak:
    return _Peak("resident set of a fresh process", reason=f"a fresh process could not measure it: {why}")


def _sentence(error: Exception) -> str:
    return line(typed(error).partition("\n")[0], 300)


def _main() -> None:
    """The program of the fresh process. Its last line of output is a `_Peak` as JSON."""
    file, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # whatever the model prints
            peak = _resident_set(file)
    except Exception as error:
        peak = _failed(_sentence(error))
    print(json.dumps(vars(peak)))


def _resident_set(file: str) -> _Peak:
    _warm_up()
    module, inputs = torch.load(file, mmap=True, weights_only=False)  # for its imports; the values stay in the file
    resettable = reset_peak_resident()
    if resettable:  # otherwise the peak would include this pass
        follow_tensors(module, *inputs)  # for imports during a pass; it computes shapes only, so kernels keep nothing
    del module, inputs
    gc.collect()
    reset_peak_resident()
    before = peak_resident_mib()
    module, inputs = torch.load(file, weights_only=False)
    reset_peak_resident()
    _run(module, inputs)
    start = "what was resident" if resettable else "the peak"  # subtracts too much if memory was freed before
    method = f"peak resident set of a fresh process, less {start} before the model was loaded"
    return _Peak(method, peak_resident_mib() - before)


def _warm_up() -> None:
    """Let the libraries start their threads and load their kernels. Smaller feature maps would not reach oneDNN."""
    with torch.inference_mode():
        x = F.conv2d(torch.ones(1, 3, 96, 96), torch.ones(32, 3, 3, 3), stride=2, padding=1)
        x = F.conv2d(x, torch.ones(32, 32, 3, 3), padding=1)
        x = F.batch_norm(x, torch.ones(32), torch.ones(32))
        x = F.max_pool2d(torch.cat((x, x.relu()), 1), 2)
        x = F.conv2d(x, torch.ones(8, 64, 1, 1))
        F.linear(x.flatten(1), torch.ones(4, 8 * 24 * 24)).softmax(1)


def reset_peak_resident() -> bool:
    """Reset the peak resident set to the current one; False where the system cannot do that (only Linux can)."""
    try:
        _RESET_PEAK.write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def peak_resident_mib() -> float:
    """The peak resident set of this process since the last reset, or since its start."""
    if _RESET_PEAK.exists():
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        (peak,) = (entry for entry in status if entry.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    if sys.platform == "win32":
        return _peak_working_set() / MIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def _peak_working_set() -> int:
    """Bytes, as Windows counts them."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            ("peak_working_set", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        )

    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.POINTER(Counters), ctypes.c_uint32)
    counters = Counters(size=ctypes.sizeof(Counters))
    if not kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size):
        raise OSError("Windows does not tell how much memory this process took")
    return int(counters.peak_working_set)


# GPUs: the allocator of this process ---------------------------------------------------------------------------------


def _measure_cuda(module: nn.Module, inputs: tuple[Tensor, ...], own_mib: float) -> _Peak:
    with in_eval(module):
        return _measure_cuda_passes(lambda: module(*inputs), inputs[0].device, own_mib)


def _measure_cuda_passes(start: Callable[[], object], device: torch.device, own_mib: float) -> _Peak:
    method = "peak of the CUDA allocator in warm passes, less what it held for other tensors and for cuBLAS"
    find_nvml(device)  # it may take and free memory, which must not happen between the passes and the last reading
    try:
        _repeat(start)
    except torch.OutOfMemoryError as error:
        return _Peak(method, reason=_sentence(error))
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    other_mib = torch.cuda.memory_allocated(device) / MIB - own_mib
    torch.cuda.reset_peak_memory_stats(device)
    _repeat(start)
    torch.cuda.synchronize(device)
    peak_mib, reserved_mib = torch.cuda.max_memory_allocated(device) / MIB, torch.cuda.max_memory_reserved(device) / MIB
    return _Peak(method, peak_mib - other_mib, reserved_mib - other_mib, _nvml_process_mib(device))


def _measure_cuda_graph(make: Callable[[], Callable[[], object]], device: torch.device, own_mib: float) -> _Peak:
    """Of a graph made anew: the difference that it makes to what the allocator reserves, since it keeps all of that."""
    method = "parameters, input, and what the CUDA allocator keeps reserved for the graph with its outputs and cuBLAS"
    find_nvml(device)
    try:
        make()  # so that all that is kept without a graph, such as the workspace of cuBLAS, is there before
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        before_mib = torch.cuda.memory_reserved(device) / MIB
        start = make()
        _repeat(start)
    except torch.OutOfMemoryError as error:
        return _Peak(method, reason=_sentence(error))
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    graph_mib = torch.cuda.memory_reserved(device) / MIB - before_mib
    return _Peak(method, own_mib + graph_mib, own_mib + graph_mib, _nvml_process_mib(device))


def _repeat(start: Callable[[], object]) -> None:
    with torch.inference_mode():
        for _ in range(PASSES):
            start()


def _nvml_process_mib(device: torch.device) -> float | None:
    board = find_nvml(device)
    used_bytes = None if isinstance(board, NoSensor) else board.process_bytes()
    return None if used_bytes is None else used_bytes / MIB


def _measure_mps(module: nn.Module, inputs: tuple[Tensor, ...], own_mib: float) -> _Peak:
    _run(module, inputs)
    torch.mps.synchronize()
    torch.mps.empty_cache()
    other_mib = torch.mps.current_allocated_memory() / MIB - own_mib
    _run(module, inputs)
    torch.mps.synchronize()
    method = "memory of Metal after warm passes that began with an empty cache, less that of other tensors; "
    method += "MPS does not record a peak, but keeps what is freed"
    return _Peak(method, torch.mps.driver_allocated_memory() / MIB - other_mib)


if __name__ == "__main__":
    _main()
