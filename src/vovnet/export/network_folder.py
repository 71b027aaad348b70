"""Writes exported detectors that are a folder, as `vovnet.runtime.network_folder` reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vovnet.files import new_folder, write_json
from vovnet.parsing import read_json
from vovnet.runtime.export_info import ExportInfo
from vovnet.runtime.network_folder import INFO_FILE, digest


def write_folder(folder: Path, contents: Mapping[str, bytes], info: ExportInfo) -> None:
    """Write the network's files and the description: all of them or none. The folder must be missing or empty."""
    check_empty(folder)
    description = json.loads(info.to_json()) | {"files": {name: digest(data) for name, data in contents.items()}}
    with new_folder(folder) as temporary:
        for name, data in contents.items():
            (temporary / name).write_bytes(data)
        write_json(temporary / INFO_FILE, description)


def check_empty(folder: Path) -> None:
    """FileExistsError unless the folder is missing or empty: before work that takes long."""
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there already and holds files; choose another folder or remove it")


def set_folder_info(folder: Path, info: ExportInfo) -> None:
    """Replace the description of a network in a folder, such as by one with what the gate found."""
    stated = read_json(folder / INFO_FILE)
    write_json(folder / INFO_FILE, json.loads(info.to_json()) | {"files": stated["files"]})
