"""What the wheels and sdists hold: all that the package needs, each file once, and nothing else of the repository."""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath

from packaging.metadata import Metadata
from packaging.version import Version

import vovnet
from vovnet.names import SAMPLE_IMAGES

from .conftest import FOLDERS, ROOT, Built

SUFFIXES = {".py", ".css", ".js", ".safetensors", ".typed"}  # of files in src/vovnet
AT_THE_TOP = {"PKG-INFO", "README.md", "LICENSE", "pyproject.toml", ".gitignore"}


def source_files(folder: Path) -> set[str]:
    """Relative to src/."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / "src").as_posix() for path in files}


def expected(name: str) -> dict[str, Path]:
    """Place in the wheel, without what its format adds → file of the repository."""
    if name == "vovnet_runtime":
        settings = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text(encoding="utf-8"))
        listed = settings["tool"]["hatch"]["build"]["hooks"]["custom"]["files"]
        folders = (ROOT / "src/vovnet" / file for file in listed if not file.endswith(".py"))
        names = {f"vovnet/{file}" for file in listed if file.endswith(".py")}.union(*map(source_files, folders))
        return {name: ROOT / "src" / name for name in names}
    samples = ROOT / "samples/bccd"
    return {
        **{name: ROOT / "src" / name for name in source_files(ROOT / "src/vovnet")},
        **{f"vovnet/configs/{path.name}": path for path in (ROOT / "configs").iterdir()},
        **{f"vovnet/sample_images/{name}.jpg": samples / f"JPEGImages/{name}.jpg" for name in SAMPLE_IMAGES},
        "vovnet/sample_images/LICENSE": samples / "LICENSE",
    }


def test_the_source_has_only_files_that_belong_in_a_package() -> None:
    assert {PurePosixPath(name).suffix for name in source_files(ROOT / "src/vovnet")} == SUFFIXES
    assert {path.suffix for path in (ROOT / "configs").iterdir()} == {".yaml"}


def test_the_wheel_holds_the_package(built: tuple[str, Built]) -> None:
    name, files = built
    code = {place: content for place, content in files.wheel.items() if ".dist-info/" not in place}
    assert code == {place: path.read_bytes() for place, path in expected(name).items()}


def test_the_wheel_has_the_commands_and_the_licences(built: tuple[str, Built]) -> None:
    name, files = built
    folder = f"{name}-{vovnet.__version__}.dist-info/"
    added = {place.removeprefix(folder): content for place, content in files.wheel.items() if place.startswith(folder)}
    licences = {"LICENSE", "samples/bccd/LICENSE"} if name == "vovnet" else {"LICENSE"}
    assert added.keys() == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", *(f"licenses/{x}" for x in licences)}
    assert all(added[f"licenses/{licence}"] == (ROOT / licence).read_bytes() for licence in licences)
    assert b"Root-Is-Purelib: true" in added["WHEEL"]
    assert b"vovnet-runtime = vovnet.runtime.command:main" in added["entry_points.txt"]
    assert (b"vovnet = vovnet.cli.main:main" in added["entry_points.txt"]) == (name == "vovnet")


def test_the_sdist_holds_what_builds_the_wheel(built: tuple[str, Built]) -> None:
    name, files = built
    if name == "vovnet":
        needed = {path.relative_to(ROOT).as_posix() for path in expected(name).values()} | {"CHANGELOG.md"}
    else:
        needed = {f"src/{place}" for place in expected(name)} | {"hatch_build.py"}
    assert files.sdist.keys() == needed | AT_THE_TOP


def test_the_sdist_builds_the_same_wheel(built: tuple[str, Built]) -> None:
    _, files = built
    assert files.wheel_of_sdist == files.wheel


def test_an_index_takes_the_metadata(built: tuple[str, Built]) -> None:
    name, files = built
    (text,) = (content for place, content in files.wheel.items() if place.endswith(".dist-info/METADATA"))
    metadata = Metadata.from_email(text, validate=True)  # each field by its standard
    assert metadata.name == name.replace("_", "-")
    assert metadata.version == Version(vovnet.__version__)
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (FOLDERS[name] / "README.md").read_text(encoding="utf-8")
    assert metadata.license_expression == "Apache-2.0"
    assert not [classifier for classifier in metadata.classifiers or [] if classifier.startswith("License ::")]
    pythons = [text.rpartition(" ")[2] for text in metadata.classifiers or [] if text[:-2].endswith(":: 3.")]
    assert pythons == sorted(pythons)
    assert metadata.requires_python is not None
    assert metadata.requires_python.contains(pythons[0])
    assert all(url.startswith("https://") for url in (metadata.project_urls or {}).values())
