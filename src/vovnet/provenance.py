"""Where a record comes from: the command, the commit, the date, the versions of the libraries."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def record_header(command: str | None = None) -> dict[str, Any]:
    """The first entries of every record: "command" (if one is given), "commit" and "date" (UTC, ISO 8601)."""
    run = {} if command is None else {"command": command}
    return {**run, "commit": source_commit(), "date": datetime.now(UTC).date().isoformat()}


def command_line() -> str:
    """The `vovnet` command that is running, as one would type it."""
    return shlex.join(["vovnet", *sys.argv[1:]])


def source_commit() -> str | None:
    """The commit of the source tree this package runs from, with "+" if files differ from it; None outside git.

    An installed copy has none, though its environment may lie in a repository: that of another project, or of a later
    state of this one.
    """
    folder = Path(__file__).parent
    reading: dict[str, Any] = {"capture_output": True, "text": True, "encoding": "utf-8", "errors": "replace"}
    try:
        tracked = ["git", "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(tracked, cwd=folder, check=True, **reading)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, **reading)
        changes = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder, **reading)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changes.stdout.strip() else "")


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Package → version, of those that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def device_name(device: torch.device) -> str:
    """The maker's name of a device, such as "AMD EPYC 9654"."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return processor()


def processor() -> str:
    """The maker's name of the processor, or what the system says of it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_and_torch() -> str:
    """The device of a record that was made on the CPU: threads, architecture, PyTorch."""
    import torch

    threads = count_threads(torch.get_num_threads())
    return f"CPU, {threads}, {platform.machine()}, torch {torch.__version__}"


def count_threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"
