"""Adds the files of vovnet that pyproject.toml lists: from the source folder beside this one, or from the sdist."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Files(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        own = Path(self.root)
        source = own / "src" if (own / "src").is_dir() else own.parent / "src"
        folder = "vovnet" if self.target_name == "wheel" else "src/vovnet"
        for name in self.config["files"]:
            build_data["force_include"][str(source / "vovnet" / name)] = f"{folder}/{name}"
