"""The distribution vovnet-runtime: which files it holds, what they import, and that they run alone."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import vovnet

from .tiny_detector import write_tiny

ROOT = Path(__file__).parents[3]
SOURCE = Path(vovnet.__file__).parent
PROJECT = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text(encoding="utf-8"))
MAIN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INCLUDED = PROJECT["tool"]["hatch"]["build"]["hooks"]["custom"]["files"]
HELPERS = ["bounded_http", "console", "download", "errors", "files", "folder_lock", "libraries", "limits", "parsing"]
HELPERS += ["printing", "run_lengths", "sizes", "urls"]
INSTALLED = {"numpy", "PIL", "onnxruntime"}
OPTIONAL = {"av", "openvino", "MNN"}  # the extras


def shipped_files() -> list[Path]:
    named = [SOURCE / name for name in INCLUDED]
    return sorted({path.resolve() for name in named for path in ([name] if name.is_file() else name.glob("**/*.py"))})


SHIPPED = shipped_files()
NAMES = {".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in SHIPPED}


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_files_are_these() -> None:
    assert set(INCLUDED) == {"__init__.py", "exchange", "media", "runtime", *(f"{name}.py" for name in HELPERS)}
    assert all((SOURCE / name).exists() for name in INCLUDED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_they_import_only_what_comes_with_them(path: Path) -> None:
    foreign = set()
    for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        is_ours = top == "vovnet" and any(part in NAMES for part in (rest, rest.rpartition(".")[0]))
        if not is_ours and top not in sys.stdlib_module_names | INSTALLED | OPTIONAL and name != "vovnet.__version__":
            foreign.add(name)
    if path == SOURCE / "__init__.py":  # it lists for type checkers what only vovnet has
        foreign = {name for name in foreign if not name.startswith("vovnet.")}
    assert foreign == set()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_what_is_optional_is_imported_late(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    late = OPTIONAL | {"onnxruntime"}
    assert {name.partition(".")[0] for name in imported(at_once)} & late == set()


def test_both_distributions_say_the_same() -> None:
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "../src/vovnet/__init__.py"
    assert PROJECT["project"]["license"] == MAIN["project"]["license"]
    assert (ROOT / "runtime/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        assert set(requirements) <= set(MAIN["project"]["optional-dependencies"][extra])
    assert PROJECT["project"]["scripts"].items() <= MAIN["project"]["scripts"].items()
    targets = MAIN["tool"]["ruff"]["per-file-target-version"]
    assert set(targets.values()) == {"py310"}
    checked = {path for pattern in targets for path in _braces(pattern)}
    assert checked == {f"src/vovnet/{name}" + ("" if name.endswith(".py") else "/*.py") for name in INCLUDED}


def _braces(pattern: str) -> list[str]:
    head, brace, rest = pattern.partition("{")
    names, _, tail = rest.partition("}")
    return [f"{head}{name}{tail}" for name in names.split(",")] if brace else [pattern]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as pip would have hatchling build it."""
    folder = tmp_path_factory.mktemp("wheel")
    pytest.importorskip("hatchling", reason="hatchling builds the wheel and is not installed")
    code = f"import hatchling.build; hatchling.build.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "runtime", check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the wheel holds, as if it were installed."""
    folder = tmp_path_factory.mktemp("installed")
    for path in SHIPPED:
        target = folder / "vovnet" / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def run(installed: Path, code: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs code that sees the installed files and, of all packages, only those that come with them."""
    preparation = (
        "import sys\n"
        f"sys.path.insert(0, {str(installed)!r})\n"
        f"sys.path[1:1] = {sorted(_site_packages())!r}\n"
        "class OnlyThese:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        allowed = {sorted(ALLOWED)!r}\n"
        "        if name.partition('.')[0] not in sys.stdlib_module_names and name.partition('.')[0] not in allowed:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, OnlyThese())\n"
    )
    command = [sys.executable, "-I", "-S", "-c", preparation + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


ALLOWED = {"vovnet", "numpy", "PIL", "onnxruntime", "flatbuffers", "google", "packaging"}


def _site_packages() -> set[str]:
    return {path for path in sys.path if "site-packages" in path}


COMMAND = "from vovnet.runtime.command import main\nmain()"


def test_it_runs_alone(installed: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    Image.new("RGB", (40, 20), (51, 51, 51)).save(tmp_path / "a.jpg")
    done = run(installed, COMMAND, "predict", "tiny.onnx", "a.jpg", "--json", "-", cwd=tmp_path)
    assert (done.returncode, '"dark": 1' in done.stdout) == (0, True), done.stderr
    assert (tmp_path / "runs/predict/drawn/a.jpg").is_file()


def test_all_of_it_can_be_imported_alone(installed: Path) -> None:
    modules = sorted(f"vovnet.{name}" for name in NAMES - {"__init__", ""})
    done = run(installed, f"import importlib\nfor name in {modules!r}:\n    importlib.import_module(name)")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("statement", ["import vovnet; vovnet.load('bccd')", "from vovnet import Detections"])
def test_what_needs_pytorch_says_so(installed: Path, statement: str) -> None:
    done = run(installed, statement)
    last = done.stderr.strip().splitlines()[-1]
    assert "needs PyTorch, and this is vovnet-runtime" in last
    assert "vovnet.runtime.load" in last


def test_a_missing_extra_is_one_of_this_distribution(installed: Path, tmp_path: Path) -> None:
    write_tiny(tmp_path / "tiny.onnx")
    (tmp_path / "a.mp4").write_bytes(b"x")
    done = run(installed, COMMAND, "predict", "tiny.onnx", "a.mp4", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert 'pip install "vovnet-runtime[video]"' in done.stderr
    done = run(installed, COMMAND, "info", "tiny.onnx", "--runtime", "openvino", cwd=tmp_path)
    assert 'pip install "vovnet-runtime[openvino]"' in done.stderr


def test_its_detections_go_to_other_libraries(installed: Path) -> None:
    code = (
        "import numpy as np\n"
        "from vovnet.runtime import Detections\n"
        "found = Detections(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0), image_size=(2, 2),\n"
        "    class_names=('a',), category_ids=(1,), source='0')\n"
        "found.to_supervision()\n"
    )
    done = run(installed, code)
    assert 'to_supervision() needs an extra: pip install "vovnet-runtime[supervision]"' in done.stderr


def test_it_runs_where_posix_is_missing(installed: Path, tmp_path: Path) -> None:
    """As on Windows, as far as that can be shown elsewhere."""
    write_tiny(tmp_path / "tiny.onnx")
    Image.new("RGB", (40, 20), (51, 51, 51)).save(tmp_path / "a.png")
    hidden = (
        "import os, sys\n"
        "for name in ('fcntl', 'resource', 'termios', 'tty', 'pwd', 'grp', 'readline', 'syslog'):\n"
        "    sys.modules[name] = None\n"
        "for name in ('fork', 'getloadavg', 'getuid', 'geteuid', 'sched_getaffinity', 'killpg', 'statvfs', 'mkfifo'):\n"
        "    if hasattr(os, name):\n"
        "        delattr(os, name)\n"
    )
    done = run(installed, hidden + COMMAND, "predict", "tiny.onnx", "a.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "vovnet: this system has no locks of the kind used here: start no second run in runs/predict\n"
    )


def test_the_wheel_holds_these_files_and_no_others(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted("vovnet/" + path.relative_to(SOURCE).as_posix() for path in SHIPPED)
    assert wheel.name.startswith(f"vovnet_runtime-{vovnet.__version__}-py3-none-any")
    (license_file,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/LICENSE")]
    assert zipfile.ZipFile(wheel).read(license_file) == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    write_tiny(tmp_path / "tiny.onnx")
    Image.new("RGB", (40, 20), (51, 51, 51)).save(tmp_path / "a.png")
    done = run(tmp_path / "unpacked", COMMAND, "predict", "tiny.onnx", "a.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
