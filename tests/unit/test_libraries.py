"""A library that is missing, too old, broken, or that does not fit another one: one sentence with what mends it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import vovnet
from vovnet import libraries
from vovnet.console import one_sentence
from vovnet.libraries import explain_import, import_extra, needs_extra

ROOT = Path(__file__).parents[2]
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a made-up library before the installed ones."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name: str, version: str | None, source: str, *, distribution: str | None = None) -> None:
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source, encoding="utf-8")
        if version is not None:
            info = tmp_path / f"{distribution or name}-{version}.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: {version}\n"
            (info / "METADATA").write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    return put


def explanation(name: str) -> str | None:
    """What is said of a library whose import fails."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (of any type)
        importlib.import_module(name)
    return explain_import(raised.value)


REINSTALL = "pip install --upgrade --force-reinstall --no-deps"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "raise TypeError('Descriptors cannot be created directly')",
            "TypeError: Descriptors cannot be created directly",
        ),
        (
            "raise ValueError('numpy.dtype size changed,\\nmay indicate binary incompatibility')",
            "ValueError: numpy.dtype size changed, may indicate binary incompatibility",
        ),
        ("raise ImportError('libx264.so: cannot open shared object file')", "ImportError: libx264.so: cannot open"),
        ("raise OSError('libcudart.so.12: cannot open shared object file')", "OSError: libcudart.so.12: cannot open"),
        ("def f():\n raise AttributeError('np.float_')\nf()", "AttributeError: np.float_"),
        ("import json.nothing_of_this_name", "ModuleNotFoundError: No module named 'json.nothing"),
    ],
)
@pytest.mark.parametrize("name", ["matplotlib", "hotcoco", "av", "openvino", "pandas"])
def test_an_import_that_raises_anything(install: Install, name: str, source: str, reason: str) -> None:
    install(name, "9999.1", source)
    text = explanation(name)
    assert text is not None
    assert text.startswith(f"{name} 9999.1 cannot be imported ({reason}")
    assert text.endswith(f"{REINSTALL} {name}; pip check names what does not fit")
    assert "\n" not in text


def test_a_library_fails_in_one_that_it_imports(install: Install) -> None:
    install("made_up_protobuf", "3.1", "raise TypeError('Descriptors')")
    install("onnx", "99.0", "import made_up_protobuf")
    assert explanation("onnx") == (
        "made_up_protobuf 3.1, which onnx 99.0 imports, cannot be imported (TypeError: Descriptors): "
        f"{REINSTALL} made_up_protobuf onnx; pip check names what does not fit"
    )


def test_the_name_of_a_distribution_that_differs_from_its_module(install: Install) -> None:
    install("pynvml", "99", "1 / 0", distribution="nvidia_ml_py")
    text = explanation("pynvml")
    assert text is not None
    assert text.startswith("nvidia-ml-py 99 cannot be imported (ZeroDivisionError: division by zero)")


@pytest.mark.parametrize(
    ("module", "distribution", "bound"), [("MNN", "mnn", "3.5"), ("huggingface_hub", "huggingface-hub", "1")]
)
def test_a_distribution_that_is_spelt_in_another_way(
    install: Install, module: str, distribution: str, bound: str
) -> None:
    """Metadata of a package spells the names of others as its builder likes."""
    install(module, "0.1", "raise TypeError('no')")
    needs = f"vovnet needs {distribution} {bound} or newer, found 0.1"
    assert explanation(module) == f"{needs}: pip install --upgrade {distribution}"


def test_a_library_that_is_older_than_vovnet_needs(install: Install) -> None:
    install("supervision", "0.2", "from json import nothing_of_this_name")
    assert explanation("supervision") == (
        "vovnet needs supervision 0.31 or newer, found 0.2: pip install --upgrade supervision"
    )


def test_a_name_that_an_older_library_lacks(install: Install) -> None:
    install("pandas", "1.0", "")
    with pytest.raises(ImportError) as raised:
        exec("from pandas import DataFrame")
    assert explain_import(raised.value) == "vovnet needs pandas 2.2.2 or newer, found 1.0: pip install --upgrade pandas"


def test_what_a_library_lacks(install: Install) -> None:
    install("onnx", "99.0", "import made_up_missing.part")
    assert explanation("onnx") == "onnx 99.0 needs made_up_missing, which is not installed: pip install onnx"


def test_a_required_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_version", lambda name: "")
    error = ModuleNotFoundError("No module named 'PIL'", name="PIL.Image")
    assert explain_import(error) == "pillow is not installed: pip install pillow"
    assert one_sentence(error, str(error)) == "pillow is not installed: pip install pillow"


def test_the_library_of_an_extra_that_is_missing_names_the_extra() -> None:
    error = ModuleNotFoundError("No module named 'av'", name="av")
    assert one_sentence(error, str(error)) == "No module named 'av'; this needs an extra: pip install \"vovnet[video]\""


@pytest.mark.parametrize(
    ("torch", "torchvision", "remedy"),
    [
        ("2.14.1", "0.28.0", 'pip install "torch==2.14.1" "torchvision==0.29.*"'),
        ("2.9.0", "0.29.1", 'pip install "torch==2.9.0" "torchvision==0.24.*"'),
        (
            "2.14.1+cpu",
            "0.27.0",
            'pip install "torch==2.14.1" "torchvision==0.29.*" --index-url https://download.pytorch.org/whl/cpu',
        ),
        (
            "2.14.1+cu130",
            "0.27.0+cpu",
            'pip install "torch==2.14.1" "torchvision==0.29.*" --index-url https://download.pytorch.org/whl/cu130',
        ),
        ("2.4.0", "0.29.1", "pip install --upgrade torch torchvision"),
        ("2.14.0a0+gitabc", "0.28", 'pip install "torch==2.14.0a0" "torchvision==0.29.*"'),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        RuntimeError("Couldn't load custom C++ ops. This can happen if your PyTorch and torchvision versions are ..."),
        NotImplementedError("Could not run 'torchvision::nms' with arguments from the 'CUDA' backend."),
        ImportError("cannot import name 'tv_tensors' from 'torchvision'", name="torchvision"),
        ImportError("cannot import name 'opaque' from 'torch.library'", name="torch.library"),
    ],
)
def test_a_pair_that_does_not_fit(
    torch: str, torchvision: str, remedy: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "_version", {"torch": torch, "torchvision": torchvision}.get)
    expected = f"torch {torch} and torchvision {torchvision} do not fit together: {remedy}"
    assert explain_import(error) == expected
    assert one_sentence(error, str(error)) == expected


def test_a_pair_that_fits_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_version", {"torch": "2.14.1+cpu", "torchvision": "0.29.0+cpu"}.get)
    text = explain_import(RuntimeError("operator torchvision::nms does not exist"))
    assert text == (
        "torchvision 0.29.0+cpu lacks its compiled operators, or is made for another device than torch 2.14.1+cpu "
        f'(operator torchvision::nms does not exist): {REINSTALL} "torchvision==0.29.0" '
        "--index-url https://download.pytorch.org/whl/cpu"
    )


@pytest.mark.parametrize(
    ("torch", "torchvision", "index"),
    [
        ("2.14.1+cpu", "0.29.0", " --index-url https://download.pytorch.org/whl/cpu"),
        ("2.14.1+cpu", "0.29.0+cu130", " --index-url https://download.pytorch.org/whl/cpu"),
        ("2.14.1+xpu", "0.29.0", " --index-url https://download.pytorch.org/whl/xpu"),
        ("2.14.1", "0.29.0+cpu", ""),
    ],
)
def test_a_pair_of_two_builds_gets_that_of_pytorch(
    torch: str, torchvision: str, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build of torchvision that is there would not fit any better if it were installed again."""
    monkeypatch.setattr(libraries, "_version", {"torch": torch, "torchvision": torchvision}.get)
    text = explain_import(RuntimeError("operator torchvision::nms does not exist"))
    assert text is not None
    assert text.partition("): ")[2] == f'{REINSTALL} "torchvision==0.29.0"{index}'


@pytest.mark.parametrize(("torch", "torchvision"), [("3.0.0", "0.29.0"), ("2", "0.29"), ("", "0.29"), ("2.14", "")])
def test_no_rule_no_blame(torch: str, torchvision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_version", {"torch": torch, "torchvision": torchvision}.get)
    text = explain_import(RuntimeError("operator torchvision::nms does not exist"))
    assert text is not None
    assert "do not fit together" not in text


def test_a_numpy_that_pytorch_cannot_use() -> None:
    text = explain_import(RuntimeError("Numpy is not available"))
    assert text is not None
    assert re.fullmatch(rf"torch \S+ cannot use numpy \S+: {REINSTALL} numpy", text)


def test_what_is_no_fault_of_a_library(install: Install) -> None:
    for error in (
        RuntimeError("something else"),
        ValueError("numpy"),
        ModuleNotFoundError("No module named 'made_up'", name="made_up"),
        ModuleNotFoundError('needs the package onnx: pip install "vovnet[onnx]"', name="onnx"),
        ModuleNotFoundError("no module is called 'torch.foo'", name="torch.foo"),
    ):
        assert explain_import(error) is None, error
    install("my_own_module", None, "raise ValueError('mine')")
    assert explanation("my_own_module") is None
    install("av", "99", "raise OSError(28, 'No space left on device')")
    assert explanation("av") is None
    install("onnx", "99", "raise MemoryError")
    assert explanation("onnx") is None


def test_a_module_of_the_users_own_that_imports_a_broken_library(install: Install) -> None:
    install("hotcoco", "99", "raise TypeError('no')")
    install("my_own_module", "1.0", "import hotcoco")
    text = explanation("my_own_module")
    assert text is not None
    assert text.startswith("hotcoco 99 cannot be imported (TypeError: no): ")


def test_extras_say_whether_they_are_missing_or_broken(install: Install) -> None:
    what = re.escape('it needs it: pip install "vovnet[eval]"')
    with pytest.raises(ModuleNotFoundError, match=what) as missing, needs_extra("eval", "it needs it"):
        import made_up_missing  # type: ignore[import-not-found]  # noqa: F401
    assert missing.value.name == "made_up_missing"
    install("pandas", "99", "raise TypeError('no')")
    with pytest.raises(ImportError, match=r"pandas 99 cannot be imported \(TypeError: no\)") as broken:
        import_extra("pandas", "to_pandas()")
    assert not isinstance(broken.value, ModuleNotFoundError)
    assert isinstance(broken.value.__cause__, TypeError)
    with pytest.raises(ZeroDivisionError), needs_extra("eval", "it"):
        1 / 0  # noqa: B018


def test_bounds_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = libraries._needed()
    modules = {distribution: module for module, distribution in libraries.DISTRIBUTIONS.items()}
    for requirement in project["dependencies"]:
        name, _, bound = requirement.partition(">=")
        assert needed[modules.get(name, name)] == bound
    assert needed["hotcoco"] == "1.3"
    assert not {"vovnet", "vovnet-runtime"} & needed.keys()


# In one process, since PyTorch takes seconds: the function, the command, and what was imported by then.
PROGRAM = """
import sys, json
import vovnet, vovnet.libraries, vovnet.cli.main
early = sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "torchvision", "numpy", "email"})
try:
    vovnet.load("bccd")
except Exception as error:
    print(json.dumps([early, type(error).__name__, str(error), type(error.__cause__).__name__]))
sys.argv = ["vovnet", "predict", sys.argv[1], "--output", sys.argv[2]]
vovnet.cli.main.main()
"""


def test_a_torchvision_that_does_not_fit_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A made-up one fails as a real one does: it states an operator that its library should have brought."""
    fake = tmp_path / "packages" / "torchvision"
    fake.mkdir(parents=True)
    source = 'import torch\ntorch.library.register_fake("torchvision::nms")(lambda dets, scores, iou: None)\n'
    (fake / "__init__.py").write_text(source, encoding="utf-8")
    info = fake.with_name("torchvision-0.3.0.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.3.0\n", encoding="utf-8")
    photo = ROOT / "samples/bccd/JPEGImages/BloodImage_00385.jpg"
    source_folder = str(Path(vovnet.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(photo), str(tmp_path / "out")], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(fake.parent), source_folder])},
    )  # fmt: skip
    early, kind, sentence, cause = json.loads(done.stdout)
    assert early == []
    remedy = r'pip install "torch==[\d.]+" "torchvision==0\.\d+\.\*"'
    assert re.match(rf"torch \S+ and torchvision 0\.3\.0 do not fit together: {remedy}", sentence)
    assert (kind, cause) == ("ImportError", "RuntimeError")
    assert done.stderr == f"vovnet: {sentence}\n"
    assert done.returncode == 1
