"""`vovnet versions`."""

from __future__ import annotations

import platform
import re

from vovnet import __version__
from vovnet.cli.app import app
from vovnet.cli.options import Json
from vovnet.cli.output import Output
from vovnet.errors import describe
from vovnet.printing import CELL, line

_FOR_DEVELOPMENT = re.compile(r"extra == ['\"](dev|docs)['\"]")


@app.command
def versions(*, json_file: Json = None) -> int:
    """Print what a bug report needs: the versions of vovnet and its libraries, and the machine."""
    from vovnet.provenance import count_threads, installed_versions, processor, source_commit
    from vovnet.runtime.cpu import instruction_set, processors

    out = Output(json_file)
    commit = source_commit()
    machine = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": f"{processor()} ({instruction_set()}), {count_threads(processors())}",
        "gpu": _gpus(),
    }
    libraries = installed_versions(library_names())
    versions = {"vovnet": __version__ + (f", commit {commit}" if commit else ""), **machine}
    first, *others = versions.items()
    out.table(first, others)
    out.table(["library", "version"], [list(row) for row in libraries.items()])
    out.json({"vovnet": __version__, "commit": commit, **machine, "libraries": libraries})
    return 0


def library_names() -> list[str]:
    """The packages that vovnet asks for, with all its extras but those for developers."""
    import importlib.metadata

    try:
        requirements = importlib.metadata.requires("vovnet") or []
    except importlib.metadata.PackageNotFoundError:  # the source runs without being installed
        requirements = ["torch", "torchvision"]
    wanted = (text for text in requirements if not _FOR_DEVELOPMENT.search(text))
    return sorted({re.split(r"[^\w.-]", text)[0] for text in wanted} - {"vovnet"}, key=str.casefold)


def _gpus() -> str:
    """What PyTorch can use beside the processor. A PyTorch that cannot be imported is what a report is about."""
    try:
        import torch

        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        names += ["mps"] if torch.backends.mps.is_available() else []
    except Exception as error:
        return line(f"PyTorch says: {describe(error)}", CELL)
    return ", ".join(names) or "none"
