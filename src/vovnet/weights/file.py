"""Weights and checkpoints in files: read without running anything that a file holds, checked, and written."""

from __future__ import annotations

import errno
import json
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from vovnet.errors import is_out_of_memory, listed
from vovnet.files import replacing
from vovnet.limits import check_limit
from vovnet.printing import line, quoted
from vovnet.weights.archive import read_npz
from vovnet.weights.pickled import read_pickled
from vovnet.weights.program import RefusedError
from vovnet.weights.zipped import ZIPPED, unzipped

SUFFIXES = (".pth", ".pt", ".safetensors", ".npz", ".pth.tar", ".ckpt", ".bin", ZIPPED)
BACKBONE_FORMAT = "vovnet-backbone-1"
DETECTOR_FORMAT = "vovnet-detector-1"

Shapes = dict[str, tuple[int, ...]]

# Where training scripts put the state dict, and the averaged one, which timm takes first too.
_NESTS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")
_MAX_NESTING = 4
# What DistributedDataParallel, torch.compile, Lightning and other wrappers put before all names. The backbones of
# VoVNet-Detectron and vovnet-detectron2 are recognised by theirs.
_WRAPPER = re.compile(r"module\.|_orig_mod\.|model\.|backbone\.(?!body\.|bottom_up\.)")
# Types whose objects hold values only: reading them runs nothing.
_VALUES_ONLY = ("argparse.Namespace", "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath")


def suffix_of(name: str | Path) -> str:
    """The suffix of a file's name, with "pth" if it ends in ".pth.tar", which is no tar archive, or ".pth.zip"."""
    path = Path(name)
    return "".join(path.suffixes[-2:]) if path.suffix in (".tar", ".zip") else path.suffix


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file from any source, and its metadata if it is a safetensors file.

    The files of PyTorch hold a state dict, or a checkpoint with one. If it also has averaged weights, they are taken.
    Prefixes that wrappers put before all names, such as "module.", are left out. An .npz file holds NumPy arrays, for
    example those of a Caffe net:

        numpy.savez(file, **{f"{name}.{i}": blob.data for name, b in net.params.items() for i, blob in enumerate(b)})

    Raises FileNotFoundError, or ValueError if the file is damaged, too large, of another format, or holds anything but
    tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        caffe = "; convert it to .npz with Caffe, as docs/weights.md shows" if suffix == ".caffemodel" else ""
        raise ValueError(f"weights are read from files that end in {', '.join(SUFFIXES)}, got {path}{caffe}")
    if suffix == ".safetensors":
        tensors, metadata = read_safetensors(path)
        own = metadata.get("format", "").startswith("vovnet-")
        return (tensors if own else _unwrapped(tensors)), metadata
    try:
        if suffix == ".npz":
            return _unwrapped({name: torch.from_numpy(array) for name, array in read_npz(path).items()}), {}
        if suffix == ZIPPED:
            with unzipped(path) as inner:
                content = read_pickled(inner)
        else:
            content = read_pickled(path)
    except RefusedError as error:
        raise problem(path, _refusal(path, error.types)) from error
    except ValueError as error:
        raise problem(path, str(error)) from error
    return _unwrapped(_state_dict(content, path)), {}


def problem(source: str | Path, text: str) -> ValueError:
    """The error of a file: its name and the text that goes on after it, on one line of a bounded length."""
    return ValueError(line(f"{line(str(source), 200)} {text}", 500))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. ValueError if it is damaged."""
    from safetensors import safe_open

    try:
        check_limit("weights_bytes", path.stat().st_size, "")
        with path.open("rb") as start:
            (header,) = struct.unpack("<Q", start.read(8).ljust(8, b"\0"))
        if 8 + header <= path.stat().st_size:
            check_limit("header_bytes", header, "without its tensors")
    except ValueError as error:
        raise problem(path, str(error)) from error
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no dict)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = line(str(error), 100)
        raise problem(path, f"is damaged or is no safetensors file ({reason}); download or copy it again") from error


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. A file that was there stays until the new one is complete."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary, disk_errors_as_oserror():
        save_file(contiguous, temporary, dict(metadata))
        temporary.chmod(0o644)  # safetensors makes it readable by its owner only


def update_metadata(path: Path, changes: Mapping[str, str]) -> None:
    """Change entries in the metadata of a safetensors file. Its tensors stay byte for byte, and a file that was there
    stays until the new one is complete. ValueError if it is damaged."""
    read_safetensors(path)
    with path.open("rb") as file, replacing(path) as temporary, temporary.open("wb") as new:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header["__metadata__"] = {**header.get("__metadata__", {}), **changes}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(file, new)
        temporary.chmod(path.stat().st_mode & 0o777)


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write a training state. The previous one stays until the new one is complete."""
    # Through a file of Python's: PyTorch 2.9 overlooks a full disk when it writes the file itself.
    with replacing(path) as temporary, disk_errors_as_oserror(), open(temporary, "wb") as file:
        torch.save(dict(checkpoint), file)


def load_checkpoint(path: Path, expected_format: str = DETECTOR_FORMAT) -> dict[str, Any]:
    """A training state; nothing in the file is run. ValueError if it is damaged or has another format."""
    try:
        checkpoint = read_pickled(path, complete=True)
    except ValueError as error:
        what = f"holds objects of {first_three(error.types)}" if isinstance(error, RefusedError) else str(error)
        raise problem(path, f"is not a readable checkpoint: it {what}; use another file or output folder") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != expected_format:
        raise problem(
            path, "is not a vovnet training checkpoint; vovnet weights import converts weights of other projects"
        )
    return checkpoint


@contextmanager
def disk_errors_as_oserror() -> Iterator[None]:
    """Turn what torch and safetensors raise for a full disk into the OSError that `replacing` explains."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        raise OSError(errno.EIO, " ".join(str(error).split())[:200]) from error


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_shapes(shapes: Shapes, expected: Shapes, what: str) -> None:
    """Raise ValueError unless the names and shapes are the expected ones.

    what: start of the message, such as "FILE is not a complete vovnet39".
    """
    missing, unexpected = expected.keys() - shapes.keys(), shapes.keys() - expected.keys()
    misshapen = {name for name in shapes.keys() & expected.keys() if shapes[name] != expected[name]}
    problems = []
    if missing:
        problems.append(f"missing {first_three(missing)}")
    if unexpected:
        problems.append(f"unexpected {first_three(unexpected)}")
    if misshapen:
        first = min(misshapen)
        sizes = f"{quoted(shapes[first], 60)}, expected {quoted(expected[first], 60)}"
        problems.append(f"wrong shape of {first_three(misshapen)}: {sizes}")
    if problems:
        raise ValueError(line(f"{what}: {', '.join(problems)}", 500))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict, checked by `check_state`."""
    check_state(model, state, source)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise ValueError unless the state of `source` has the names and shapes of the model's, and finite values."""
    source = line(source, 200)
    check_shapes(shapes_of(state), shapes_of(model.state_dict()), f"{source} holds weights of another model")
    for name, tensor in state.items():
        if not has_values(tensor):
            raise problem(source, f"must hold a dense tensor of real numbers under {line(name)}")
    check_finite(state, source)


def check_finite(state: Mapping[str, Tensor], source: str, names: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise ValueError for a value that is NaN or infinite: such a network finds nothing, and says nothing.

    names: what a tensor is called in the file, where that differs.
    """
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            why = "has values that are not finite, as after a training that diverged: take other weights"
            raise problem(source, f"cannot be used: {line(names.get(name, name))} {why}")


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor is dense and its real numbers are all there, which a hostile file may only claim."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return (
        plain
        and not tensor.is_complex()
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )


def first_three(names: Iterable[str]) -> str:
    """The first three names in alphabetical order, and the number of the others."""
    return listed(sorted(names), 3) or "none"


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    for _ in range(_MAX_NESTING):  # a hostile dict can hold itself
        if not isinstance(content, dict):
            raise problem(path, f"must hold a state dict, got {type(content).__name__}")
        content = next((content[nest] for nest in _NESTS if isinstance(content.get(nest), dict)), None) or (
            _only_state_dict(content, path)
        )
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            got = f"{type(tensor).__name__} under {quoted(name)}"
            raise problem(path, f"must hold a tensor under each name, got {got}")
    return dict(content)


def _only_state_dict(content: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """The one state dict among the values of a checkpoint; the checkpoint itself if there is none."""
    inner = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, dict) and value and all(isinstance(tensor, Tensor) for tensor in value.values())
    }
    if len(inner) > 1:
        raise problem(path, f"holds several state dicts ({first_three(inner)}); save only the one to use")
    return next(iter(inner.values()), content)


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefixes that all names share, and without the counter of an `AveragedModel`."""
    if all(name.startswith("module.") for name in tensors if name != "n_averaged"):
        tensors = {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}
    while tensors and (match := _WRAPPER.match(next(iter(tensors)))):
        if not all((other := _WRAPPER.match(name)) and other[0] == match[0] for name in tensors):
            break
        tensors = {name.removeprefix(match[0]): tensor for name, tensor in tensors.items()}
    return tensors


def _refusal(path: Path, types: list[str]) -> str:
    """That a file holds objects of these types, and what helps without running code that it may hold."""
    what = f"holds more than tensors, which vovnet does not read (objects of {first_three(types)}); "
    if not set(types) <= set(_VALUES_ONLY):
        return f"{what}ask its author for a file with the state dict alone, or take one from another source"
    modules = ", ".join(sorted({name.partition(".")[0] for name in types} | {"torch"}))
    command = (
        "this writes a file without them, and runs nothing that the file holds: python -c "
        f'"import {modules}; torch.serialization.add_safe_globals([{", ".join(sorted(types))}]); '
        f"c = torch.load('{path}', map_location='cpu', weights_only=True); "
        "torch.save({k: v for k, v in c.items() if isinstance(v, dict)}, 'weights.pth')\""
    )
    # A command that can be copied as it is: whole, and without what a name could add to it.
    fits = len(f"{path} {what}{command}") <= 500 and suffix_of(path) != ZIPPED
    if fits and re.fullmatch(r"[\w./ -]+", str(path)):
        return what + command
    return f"{what}docs/weights.md has a command that writes a file without them"
