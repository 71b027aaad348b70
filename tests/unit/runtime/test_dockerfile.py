"""The steps of runtime/Dockerfile, run in a bare virtual environment: a container engine may be missing."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shlex
import signal
import subprocess
import urllib.request
import venv
from pathlib import Path

import pytest
from PIL import Image

from .test_distribution import MAIN, PROJECT, ROOT
from .test_distribution import wheel as wheel  # the fixture
from .tiny_detector import write_tiny

DOCKERFILE = ROOT / "runtime/Dockerfile"
DEPENDENCIES = ("numpy", "PIL", "onnxruntime", "flatbuffers", "google", "packaging")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the image is one of Linux")


def read_instructions() -> dict[str, str]:
    """What follows each instruction, on one line. None occurs twice."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = re.findall(r"^([A-Z]+) (.+)$", "\n".join(lines).replace("\\\n", " "), flags=re.MULTILINE)
    instructions = dict(found)
    assert len(instructions) == len(found) == 9
    return instructions


INSTRUCTIONS = read_instructions()


class Container:
    """What the image would hold: a Python with pip, the commands that were called as root, and /models.

    root: its folders `python`, `bin` (stand-ins for what changes the system), `models` and `empty` (the home).
    """

    def __init__(self, root: Path, wheel: Path) -> None:
        self.root, self.wheels = root, wheel.parent
        for name in ("bin", "models", "empty"):
            (root / name).mkdir()
        venv.create(root / "python", with_pip=True)
        (packages,) = (root / "python/lib").glob("python*/site-packages")
        for name in DEPENDENCIES:  # which pip would fetch
            self._link(name, packages)
        stand_in = root / "bin/useradd"
        stand_in.write_text(f'#!/bin/sh\necho "$@" > {shlex.quote(str(root / "added"))}\n')
        stand_in.chmod(0o755)

    @staticmethod
    def _link(name: str, packages: Path) -> None:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        for place in spec.submodule_search_locations or []:
            source = Path(place)
            for path in (source, *source.parent.glob(f"{name.replace('PIL', 'pillow')}.libs")):
                if not (packages / path.name).exists():
                    (packages / path.name).symlink_to(path)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.root}/bin:{self.root}/python/bin:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",  # an unprivileged user could not write them
        }

    def shell(self, command: str) -> str:
        """Run a command of RUN. pip has the dependencies already."""
        offline = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(
            ["sh", "-c", command.replace("/wheels/", f"{self.wheels}/")],
            env=self.environment | offline,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *words: str) -> list[str]:
        return [str(self.root / "python/bin" / words[0]), *words[1:]]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Container:
    container = Container(tmp_path_factory.mktemp("container"), wheel)
    container.shell(re.sub(r"--mount=\S+", "", INSTRUCTIONS["RUN"]))
    return container


def test_the_python_of_the_image_is_one_that_the_runner_takes() -> None:
    found = re.fullmatch(r"python:3\.(\d+)-slim", INSTRUCTIONS["FROM"])
    assert found
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    assert least
    assert int(found[1]) >= int(least[1])


def test_the_context_holds_what_is_mounted() -> None:
    """`docker build runtime` sees only what is below runtime, where the instructions put the wheel."""
    assert "--mount=type=bind,source=dist,target=/wheels" in INSTRUCTIONS["RUN"]
    said = DOCKERFILE.read_text(encoding="utf-8") + (ROOT / "docs/runtime.md").read_text(encoding="utf-8")
    assert said.count("pip wheel --no-deps --wheel-dir runtime/dist ./runtime") == 2
    assert said.count("docker build --tag vovnet-runtime runtime\n") == 2


@pytest.mark.parametrize("extras", ["", "openvino", "openvino,mnn"])
def test_extras_are_installed_by_a_build_argument(extras: str, tmp_path: Path) -> None:
    assert INSTRUCTIONS["ARG"] == "EXTRAS="
    wheel = tmp_path / "vovnet_runtime-1.0-py3-none-any.whl"
    wheel.touch()
    for name in ("pip", "useradd"):
        (tmp_path / name).write_text(f'#!/bin/sh\nfor word in "$@"; do echo "$word"; done >> {tmp_path}/{name}.log\n')
        (tmp_path / name).chmod(0o755)
    command = re.sub(r"--mount=\S+", "", INSTRUCTIONS["RUN"]).replace("/wheels/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "EXTRAS": extras}
    assert subprocess.run(["sh", "-c", command], env=environment, timeout=60).returncode == 0
    asked = (tmp_path / "pip.log").read_text().splitlines()
    assert asked[2] == f"{wheel}{f'[{extras}]' if extras else ''}"
    assert set(extras.split(",")) - {""} <= PROJECT["project"]["optional-dependencies"].keys()


def test_it_runs_as_a_user_that_was_added(container: Container) -> None:
    added = (container.root / "added").read_text().split()
    assert added[-1] == INSTRUCTIONS["USER"] != "root"
    assert "--system" in added
    assert int(INSTRUCTIONS["EXPOSE"]) > 1023, "a user without rights cannot listen below"


def test_pip_is_gone_and_the_command_is_there(container: Container) -> None:
    (entry,) = json.loads(INSTRUCTIONS["ENTRYPOINT"])
    assert entry in MAIN["project"]["scripts"]
    done = subprocess.run(container.command(entry, "--version"), env=container.environment, capture_output=True)
    assert done.returncode == 0
    assert not list((container.root / "python/lib").glob("python*/site-packages/pip"))
    with_pip = subprocess.run(container.command("python", "-m", "pip"), env=container.environment, capture_output=True)
    assert b"No module named pip" in with_pip.stderr


def test_it_serves_and_is_healthy_until_it_is_stopped(container: Container) -> None:
    models, home = container.root / "models", container.root / "empty"
    write_tiny(models / "model.onnx")
    before = sorted(container.root.rglob("*"))
    words = [*json.loads(INSTRUCTIONS["ENTRYPOINT"]), *json.loads(INSTRUCTIONS["CMD"]), "--port", "0"]
    words = [word.replace("/models/", f"{models}/") for word in words]
    check = json.loads(INSTRUCTIONS["HEALTHCHECK"].partition(" CMD ")[2])
    content = io.BytesIO()
    Image.new("RGB", (40, 20), (51, 51, 51)).save(content, "PNG")
    with subprocess.Popen(
        container.command(*words), env=container.environment, cwd=home, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip().rpartition(":")[2]
        healthy = [word.replace(f":{INSTRUCTIONS['EXPOSE']}/", f":{port}/") for word in check]
        assert healthy != check
        asked = [subprocess.run(container.command(*healthy), env=container.environment, timeout=60).returncode]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", content.getvalue(), timeout=20) as answer:
            found = json.loads(answer.read())
        process.send_signal(signal.SIGTERM)  # as `docker stop` does
        assert process.wait(timeout=20) == 0
    failed = subprocess.run(container.command(*healthy), env=container.environment, capture_output=True, timeout=60)
    assert (asked, failed.returncode) == ([0], 1)
    assert [item["class"] for item in found["detections"]] == ["dark"]
    assert sorted(container.root.rglob("*")) == before, "it would fail with --read-only"
