"""Libraries that are there only if their extra is installed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from vovnet.errors import install_extra


def import_extra(library: str, what: str) -> ModuleType:
    """The library, whose extra has the same name. ModuleNotFoundError with how to install it.

    what: needs it.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise ModuleNotFoundError(f"{what} needs an extra: {install_extra(library)}", name=library) from None
