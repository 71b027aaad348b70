"""Weights from strangers: small files that state gigabytes, damaged ones, and what each refusal says."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vovnet.weights.backbone import read_weights
from vovnet.weights.detector import ModelInfo, load_model
from vovnet.weights.file import DETECTOR_FORMAT, load_checkpoint, read_tensors, write_safetensors
from vovnet.weights.pickled import read_pickled

INFO = ModelInfo("dsod300_vovnet27_slim", {"anchors": "coco"}, ("cat", "dog"), (17, 18))


def parts(path: Path, program: bytes, values: bytes = b"\0" * 4, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("a/data/0", values)
    return path


def tensor(numel: int, size: tuple[int, ...], stride: tuple[int, ...] = (1,)) -> bytes:
    """Opcodes of a tensor in the storage "0", which states `numel` elements."""
    storage = pickle.dumps(("storage", None, "0", "cpu", numel), 2)[2:-1].replace(b"N", b"ctorch\nFloatStorage\n", 1)
    sizes = pickle.dumps((0, size, stride, False, None), 2)[3:-4]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"Q" + sizes.lstrip(b"(") + b"tR"


def deflated(path: Path) -> Path:
    return parts(path, b"}X\1\0\0\0a" + tensor(2**28, (2**28,)) + b"s", b"\0" * 2**28, zipfile.ZIP_DEFLATED)


def legacy(path: Path) -> Path:
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    body = b"\x80\x02}X\1\0\0\0a" + tensor(10**9, (10**9,)) + b"s."
    path.write_bytes(head + body + pickle.dumps(["0"], 2) + struct.pack("<q", 10**9))
    return path


def many_names(path: Path) -> Path:
    names = b"".join(b"X\4\0\0\0%04d" % n + tensor(10**6, (10**6,)) for n in range(400))
    return parts(path, b"}(" + names + b"u", b"\0" * 4 * 10**6)


def copied_text(path: Path) -> Path:
    text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
    return parts(path, b"c_codecs\nencode\nq\0" + text + b"X\6\0\0\0latin1\x86q\1(" + b"h\0h\1R" * 100_000 + b"l")


def numpy_file(path: Path, header: str, values: bytes = b"\0" * 16) -> Path:
    text = f"{header}\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + values)
    return path


def header(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "deflated.pth": (deflated, "would unpack to 1028 times its size"),
    "legacy.pth": (legacy, "is damaged .it states storages of 4000000000 bytes"),
    "storage.pth": (
        lambda p: parts(p, b"}X\1\0\0\0a" + tensor(10**9, (10**9,)) + b"s"),
        "a storage of 4000000000 bytes has 4",
    ),
    "beyond.pth": (lambda p: parts(p, b"}X\1\0\0\0a" + tensor(1, (9,)) + b"s"), "has fewer values in the file"),
    "shared.pth": (many_names, "tensors of 8 times its size, which share their values"),
    "bytearray.pth": (
        lambda p: parts(p, b"cbuiltins\nbytearray\n\x8a\5\0\0\0\0\5\x85R"),
        "must hold a state dict, got NoneType",
    ),
    "copied.pth": (copied_text, "must hold a state dict, got list"),
    "lists.pth": (lambda p: parts(p, b"(" + b"]" * 1_500_000 + b"l"), "more than 1,000,000 values and tensors"),
    "hash.pth": (lambda p: parts(p, b"K\1" + b"q\0h\0\x86" * 60 + b"q\0}h\0K\1s"), "a key that is no text or number"),
    "memo.pth": (lambda p: parts(p, b"K\1r\xff\xff\xff\x7f"), "must hold a state dict, got int"),
    "elements.npz": (
        lambda p: numpy_file(p, header("(1000000000000,)")),
        "states a size of the array a that it does not",
    ),
    "zeros.npz": (lambda p: numpy_file(p, header(f"({2**26},)"), b"\0" * 2**28), "would unpack to 10.. times its size"),
    "names.npz": (lambda p: numpy_file(p, header("(1,)", "'<U100000000'")), "holds no array of numbers under a"),
    "nested.npz": (lambda p: numpy_file(p, header("(" * 300)), "is damaged"),
    "other.npz": (lambda p: numpy_file(p, header("(1,)", "'|O'")), "holds no array of numbers under a"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_states_gigabytes_takes_no_memory(name: str, tmp_path: Path) -> None:
    make, reason = HOSTILE[name]
    path = make(tmp_path / name)
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from vovnet.weights.file import read_tensors\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "try:\n    print(read_tensors(Path(sys.argv[1])))\n"
        "except ValueError as error:\n    print(error)\n"
        "print((peak() - before) // 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=True)
    message, megabytes = run.stdout.splitlines()
    assert re.search(f"{re.escape(name)} .*{reason}", message), message
    assert int(megabytes) < 250


def test_values_that_a_file_repeats_are_no_weights(tmp_path: Path) -> None:
    path = parts(tmp_path / "expanded.pth", b"}X\1\0\0\0a" + tensor(1, (10**9,), (0,)) + b"s")
    assert read_tensors(path)[0]["a"].is_meta
    with pytest.raises(
        ValueError, match=r"expanded\.pth is not a readable checkpoint: it holds a tensor without values"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".npz", ".safetensors"])
def test_damaged_files_are_named(suffix: str, tmp_path: Path) -> None:
    """A file is cut, and its bytes flipped, wherever."""
    path = tmp_path / f"w\n\x1b[2J{suffix}"
    values = {"stem1/conv.0": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}
    whole = io.BytesIO()
    if suffix == ".npz":
        np.savez(whole, **{name: value.numpy() for name, value in values.items()})
    elif suffix == ".safetensors":
        from safetensors.torch import save

        whole.write(save(values))
    else:
        torch.save(values, whole, _use_new_zipfile_serialization=suffix == ".pth")
    content = whole.getvalue()
    damaged = [content[:end] for end in range(0, len(content), len(content) // 40)]
    damaged += [content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :] for at in range(0, len(content), 7)]
    failed = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_tensors(path)
        except ValueError as error:
            failed += 1
            text = str(error)
            assert len(text) <= 500
            assert text.isprintable()
            assert f"w \N{REPLACEMENT CHARACTER}[2J{suffix}" in text
    assert failed > 40


def test_the_suffix_decides_how_a_file_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "pickle.safetensors")
    with pytest.raises(ValueError, match=r"pickle\.safetensors is damaged or is no safetensors file"):
        read_tensors(tmp_path / "pickle.safetensors")


CONTENT = {
    "state": {"weight": torch.ones(2, 3), "half": torch.ones(2).half(), "brain": torch.ones(3).bfloat16()},
    "view": torch.arange(10)[2:8:2],
    "transposed": torch.ones(3, 4).T,
    "empty": torch.empty(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "flag": torch.tensor(True),
    "complex": torch.ones(2, dtype=torch.complex64),
    "values": [1, 2.5, None, True, "ä" * 300, ("a", -1), {3: 2**70}],
}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_what_torch_saves_is_read_as_torch_reads_it(options: dict[str, Any], tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "a.pt", **options)
    expected = torch.load(tmp_path / "a.pt", weights_only=False)

    def compare(one: Any, other: Any) -> None:
        assert type(one) is type(other) or isinstance(other, torch.Tensor)
        if isinstance(other, torch.Tensor):
            assert one.dtype == other.dtype
            assert one.stride() == other.stride()
            assert torch.equal(one, other)
        elif isinstance(other, dict):
            assert one.keys() == other.keys()
            for key in other:
                compare(one[key], other[key])
        elif isinstance(other, list | tuple):
            for left, right in zip(one, other, strict=True):
                compare(left, right)
        else:
            assert one == other

    compare(read_pickled(tmp_path / "a.pt"), expected)


# --- what a weights file says ---------------------------------------------------------------------------------------

SAID: dict[str, str] = {
    "model": INFO.name,
    "model_options": json.dumps(INFO.options),
    "class_names": json.dumps(INFO.class_names),
    "category_ids": json.dumps(INFO.category_ids),
    "record": "{}",
}
MASK = {"model": "maskrcnn_vovnet27_slim_gn"}
WRONG: list[tuple[dict[str, str], str]] = [
    ({"class_names": '"ab"'}, "class_names: Input should be a valid tuple, got 'ab'"),
    ({"class_names": "[1, 2]"}, "class_names.0: Input should be a valid string, got 1"),
    ({"class_names": '["a", "a"]'}, "class_names repeats 'a'"),
    ({"class_names": "null"}, "class_names: Input should be a valid tuple"),
    ({"class_names": "[]", "category_ids": "[]"}, "class_names: .*at least 1 item"),
    ({"category_ids": '["1", "2"]'}, "category_ids.0: .*got '1'"),
    ({"category_ids": "[1, 1]"}, "category_ids repeats 1"),
    ({"category_ids": "[1]"}, "2 class_names and 1 category_ids"),
    ({"category_ids": "[1, 99999999999999999999]"}, "category_ids: holds the number"),
    ({"category_ids": "[1, true]"}, "category_ids.1: .*got True"),
    ({"record": "[]"}, "record: Input should be a valid dictionary"),
    ({"record": "[" * 100_000}, "record: is not valid JSON"),
    ({"record": '{"a":' * 60 + "1" + "}" * 60}, "record: more than 50 levels"),
    ({"model": "dsod"}, "no detector is called 'dsod'"),
    ({"model": "x" * 1000}, "model: String should have at most 200 characters"),
    ({"model": "refinedet320_timm/none", "model_options": "{}"}, "no backbone is called 'timm/none'"),
    ({"model_options": '{"name": "x"}'}, "no network has an option called name"),
    ({"model_options": '{"num_classes": "x"}'}, "no network has an option called num_classes"),
    ({"model_options": '{"anchor": "coco"}'}, "no option of dsod300_vovnet27_slim is called 'anchor'"),
    ({"model_options": '{"anchors": ["coco"]}'}, "anchors must be 6 lists of default boxes, one a feature map, got 1"),
    ({"model_options": '{"pixels": {"mean": [0, 0, NaN]}}'}, "the number nan"),
    ({"model_options": '{"pixels": {"std": [1, 0, 1]}}'}, "pixels.std must be three positive numbers"),
    (MASK | {"model_options": '{"image_size": [20000, 20000]}'}, "20000 × 20000 has more than 16,777,216 pixels"),
    (MASK | {"model_options": '{"image_size": [0, 0]}'}, "image_size must be two whole numbers of at least 1"),
    (MASK | {"model_options": '{"image_size": [800.5, 1333]}'}, "image_size must be two whole numbers of at least 1"),
    (MASK | {"model_options": '{"rois": 1e30}'}, "the number 1e.30"),
    (MASK | {"model_options": '{"rois": 2.5}'}, "rois must be a whole number"),
    (MASK | {"model_options": '{"backbone": {"ese": 5}}'}, "5"),
    (MASK | {"model_options": '{"backbone": {"identity": "yes"}}'}, "identity must be true or false"),
    (MASK | {"model_options": '{"backbone": [1]}'}, "backbone must be a section"),
    ({"model_options": "[1]"}, "model_options: Input should be a valid dictionary"),
]


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(INFO.build().state_dict())


@pytest.mark.parametrize(("changed", "reason"), WRONG)
def test_wrong_metadata_is_refused_in_one_sentence(
    changed: dict[str, str], reason: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"heads.0.cls.conv.weight": torch.ones(1)}, {"format": DETECTOR_FORMAT, **SAID, **changed})
    with pytest.raises(ValueError, match=rf"w\.safetensors has damaged metadata \(.*{reason}") as caught:
        load_model(path)
    assert len(str(caught.value)) <= 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"info": None}, "info: "),
        ({"info": {**INFO.to_dict(), "class_names": "ab"}}, "info.class_names: "),
        ({"model": {"a": 1}}, "model.a: "),
        ({"model": [1]}, "model: "),
        ({"ema": 3}, "ema: "),
        ({"config": 1}, "config: "),
        ({"config": {"a": torch.ones(1)}}, "config: a Tensor, which JSON cannot hold"),
        (("info",), "info: Field required"),
        (("model", "ema", "config"), "model: Field required"),
    ],
)
def test_wrong_checkpoints_are_refused_in_one_sentence(
    change: Any, reason: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    good = {"format": DETECTOR_FORMAT, "model": state, "ema": None, "info": INFO.to_dict(), "config": {"seed": 1}}
    torch.save(good, tmp_path / "last.pt")
    loaded = load_model(tmp_path / "last.pt")
    assert (loaded.info, loaded.record) == (INFO, {"config": {"seed": 1}})
    changed = good | change if isinstance(change, dict) else {key: good[key] for key in good.keys() - set(change)}
    torch.save(changed, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=rf"last\.pt is a damaged checkpoint \({reason}"):
        load_model(tmp_path / "last.pt")


def test_weights_without_values_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    whole = {"format": DETECTOR_FORMAT, "ema": None, "info": INFO.to_dict(), "config": {}}
    name = next(iter(state))
    for odd in (
        state[name].to_sparse(),
        state[name][:1, :1, :1, :1].clone().expand(state[name].shape),
        state[name].to("meta"),
    ):
        torch.save(whole | {"model": state | {name: odd}}, tmp_path / "last.pt")
        with pytest.raises(
            ValueError, match=r"last\.pt is not a readable checkpoint: it holds a tensor without values"
        ):
            load_model(tmp_path / "last.pt")
    torch.save(whole | {"model": state | {name: state[name].to(torch.complex64)}}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=rf"last\.pt must hold a dense tensor of real numbers under {name}"):
        load_model(tmp_path / "last.pt")


@pytest.mark.parametrize(
    "pixels",
    [
        '{"mean": [1, 2], "std": [1, 1, 1], "channel_order": "RGB"}',
        '{"mean": [1, 2, Infinity], "std": [1, 1, 1], "channel_order": "RGB"}',
        '{"mean": [1, 2, 3], "std": [1, 0, 1], "channel_order": "RGB"}',
        '{"mean": [1, 2, 3], "std": "111", "channel_order": "RGB"}',
        '{"mean": [1, 2, 3], "std": [1, 1, 1], "channel_order": "GBR"}',
        "[]",
    ],
)
def test_wrong_pixels_of_a_backbone_are_refused(pixels: str, tmp_path: Path) -> None:
    said = {"format": "vovnet-backbone-1", "model": "vovnet27_slim", "model_options": "{}", "pixels": pixels}
    write_safetensors(tmp_path / "b.safetensors", {"a": torch.ones(1)}, said)
    with pytest.raises(ValueError, match=r"b\.safetensors has damaged metadata \(pixels"):
        read_weights(tmp_path / "b.safetensors")
