import os
import subprocess
import sys
from pathlib import Path

import pytest

from .small_voc import write_small_voc


@pytest.fixture(scope="session", autouse=True)
def _few_threads():
    # pytest-xdist runs one process a core; more threads than that only wait for each other.
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_known_exports(tmp_path_factory):
    # What runs must not depend on the exports that the user of this machine has made.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOVNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def small_voc(tmp_path):
    """A VOC folder with five training and three validation images of BCCD."""
    root = tmp_path / "data"
    write_small_voc(root, train=5, val=3)
    return root


@pytest.fixture
def run_vovnet(tmp_path):
    """Run the command line in a process of its own, in an empty folder, with one thread."""

    def run(*arguments, launcher=(sys.executable, "-m", "vovnet"), **options):
        env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        return subprocess.run(
            [*launcher, *map(str, arguments)], cwd=tmp_path, env=env, capture_output=True, text=True, **options
        )

    return run


@pytest.fixture(scope="session")
def bccd_onnx(tmp_path_factory):
    """The shipped detector as an ONNX file; writing it takes seconds."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from . import exported

    path = tmp_path_factory.mktemp("exported") / "bccd.onnx"
    path.write_bytes(exported.bccd_onnx())
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, which must be built without a warning."""
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install ".[docs]"')
    folder, root = tmp_path_factory.mktemp("site"), Path(__file__).parents[1]
    paths = os.pathsep.join([str(root / "src"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mkdocs.__main__ import cli; cli()",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            folder,
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return folder
