"""Libraries that are missing, too old, broken, or that do not fit each other: one sentence, with what mends it.

Nothing is looked up before an import has failed, so imports take no longer.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from traceback import walk_tb
from types import ModuleType

from vovnet.errors import install_extra, is_out_of_memory, is_runner, typed
from vovnet.printing import line

# The distributions whose modules have another name.
DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf", "markdown_it": "markdown-it-py", "pynvml": "nvidia-ml-py"}
DISTRIBUTIONS |= {"yaml": "pyyaml", "MNN": "mnn", "huggingface_hub": "huggingface-hub"}
_PAIR = ("torch", "torchvision")
_TORCH_MAJOR, _MINORS_APART = 2, 15  # torchvision 0.24 is made for torch 2.9, 0.25 for 2.10, and so on
_NO_OPERATORS = re.compile(r"torchvision::|torchvision.* C\+\+ ops|C\+\+ ops.*torchvision", re.DOTALL)
_OF_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO)  # no fault of a library


@contextmanager
def needs_extra(extra: str, what: str) -> Iterator[None]:
    """Lets an import in the block fail with what helps.

    what: the beginning of the sentence, such as "masks need an extra".

    Raises ModuleNotFoundError for what is not installed, ImportError for what is broken.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if _failing(error) not in ([], [_top(error.name)]):  # it is there, and lacks another one
            raise_explained(error)
        raise ModuleNotFoundError(f"{what}: {install_extra(extra)}", name=error.name) from error
    except Exception as error:
        raise_explained(error)


def import_extra(library: str, what: str) -> ModuleType:
    """The library, whose extra has the same name. Raises as `needs_extra`.

    what: needs it.
    """
    with needs_extra(library, f"{what} needs an extra"):
        return import_module(library)


def raise_explained(error: Exception) -> None:
    """Raises an ImportError with `explain_import` from the error, or the error itself if that has nothing to say."""
    text = explain_import(error)
    if text is None:
        raise error
    kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
    raise kind(text, name=getattr(error, "name", None)) from error


def explain_import(error: Exception) -> str | None:
    """Which library cannot be imported or used, why, and what mends it; None for an error of another kind."""
    text = str(error)
    of_machine = isinstance(error, OSError) and error.errno in _OF_MACHINE
    if "pip install" in text or of_machine or is_out_of_memory(error):
        return None
    if isinstance(error, RuntimeError) and _NO_OPERATORS.search(text):
        return _unfit_pair() or (
            f"torchvision {_version('torchvision')} lacks its compiled operators, or is made for another device than "
            f"torch {_version('torch')} ({line(text, 160)}): {_reinstall(['torchvision'])}"
        )
    if isinstance(error, RuntimeError) and text == "Numpy is not available":
        return f"torch {_version('torch')} cannot use numpy {_version('numpy')}: {_reinstall(['numpy'])}"
    names = _failing(error)
    if not names:
        return None
    unfit = _unfit_pair() if set(names) & set(_PAIR) else None
    return unfit or _missing(error, names) or _too_old(names) or _broken(error, names)


def _failing(error: Exception) -> list[str]:
    """The libraries whose modules the error came through while they were imported, the one that failed last.

    They begin with one that vovnet needs: what a module of the user's own does is not explained.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if frame.f_code.co_name == "<module>"]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    if isinstance(error, ImportError) and re.match("No module named|cannot import name|DLL load failed", str(error)):
        modules.append(error.name or "")
    names = list(dict.fromkeys(map(_top, modules)))
    needed = _needed()
    began = next((number for number, name in enumerate(names) if name in needed), len(names))
    return [name for name in names[began:] if name in needed or _version(name)]


def _needed() -> dict[str, str]:
    """The lower bound, or "", of each library that vovnet or an extra needs, by the name of its module."""
    from importlib.metadata import PackageNotFoundError, requires  # late, since it takes 20 ms

    try:
        found = requires("vovnet-runtime" if is_runner() else "vovnet") or []
    except PackageNotFoundError:  # the source runs without being installed
        found = ["numpy", "pillow", "torch", "torchvision"]
    modules = {distribution: module for module, distribution in DISTRIBUTIONS.items()}
    bounds = {}
    for requirement in found:
        name = re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        bound = re.match(r"[\w.\[\]-]+>=([\d.]+)", requirement)
        bounds[modules.get(name, name)] = bound[1] if bound else ""
    return {name: bound for name, bound in bounds.items() if not name.startswith("vovnet")}


def _missing(error: BaseException, names: list[str]) -> str | None:
    """Of a module that is not there, and belongs to a distribution that is not there."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    absent = _top(error.name)
    if _version(absent) or absent in sys.stdlib_module_names:
        return None
    *others, _ = names if absent in names else [*names, absent]
    if not others:
        return f"{_distribution(absent)} is not installed: pip install {_distribution(absent)}"
    name = _distribution(others[-1])
    return f"{name} {_version(others[-1])} needs {line(absent, 60)}, which is not installed: pip install {name}"


def _too_old(names: list[str]) -> str | None:
    needed = _needed()
    for name in reversed(names):
        bound, installed = needed.get(name, ""), _version(name)
        if bound and installed and _numbers(installed) < _numbers(bound):
            found = f"vovnet needs {_distribution(name)} {bound} or newer, found {installed}"
            return f"{found}: pip install --upgrade {' '.join(_PAIR if name in _PAIR else [_distribution(name)])}"
    return None


def _broken(error: Exception, names: list[str]) -> str:
    first, *others = reversed(names)
    through = f", which {_distribution(others[0])} {_version(others[0])} imports," if others else ""
    suspects = [first, *(name for name in others[:1] if name not in _PAIR)]
    return (
        f"{_distribution(first)} {_version(first)}{through} cannot be imported ({line(typed(error), 240)}): "
        f"{_reinstall(suspects)}; pip check names what does not fit"
    )


def _unfit_pair() -> str | None:
    """What to do if PyTorch and torchvision are of releases that are not made for each other."""
    torch, torchvision = _version("torch"), _version("torchvision")
    fitting = _fitting(torch)
    if not torchvision or fitting is None or _numbers(torchvision)[:2] == fitting:
        return None
    public = torch.partition("+")[0]
    wanted = f'"torch=={public}" "torchvision=={fitting[0]}.{fitting[1]}.*"{_index(torch)}'
    if _numbers(torch) < _numbers(_needed().get("torch", "")):
        wanted = f"--upgrade torch torchvision{_index(torch)}"
    return f"torch {torch} and torchvision {torchvision} do not fit together: pip install {wanted}"


def _fitting(torch: str) -> tuple[int, int] | None:
    """The release of torchvision for one of PyTorch, None where no rule is known."""
    numbers = _numbers(torch)
    return (0, numbers[1] + _MINORS_APART) if len(numbers) > 1 and numbers[0] == _TORCH_MAJOR else None


def _index(installed: str) -> str:
    """The option of pip for the index that a build such as "2.14.1+cpu" comes from."""
    build = re.search(r"\+(cpu|xpu|cu\d+|rocm[\d.]+)$", installed)
    return f" --index-url https://download.pytorch.org/whl/{build[1]}" if build else ""


def _reinstall(names: list[str]) -> str:
    """Of PyTorch and torchvision the release that is there, since another fits less; of others the newest."""
    wanted = []
    for name in names:
        public = _version(name).partition("+")[0]
        wanted.append(f'"{name}=={public}"' if name in _PAIR and public else _distribution(name))
    index = _index(_version("torch")) if names[0] in _PAIR else ""  # torchvision must be of the same build
    return f"pip install --upgrade --force-reinstall --no-deps {' '.join(wanted)}{index}"


def _top(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _distribution(name: str) -> str:
    return DISTRIBUTIONS.get(name, name)


def _version(name: str) -> str:
    """The installed version of the distribution that has the module, "" for none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(_distribution(name))
    except (PackageNotFoundError, ValueError):
        return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", text)[0]))
