"""FiftyOne, where it is installed, and its database, which labels and samples do without; else tests are skipped."""

from __future__ import annotations

import os
import warnings
from types import ModuleType

import pytest


def import_or_skip() -> ModuleType:
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has some of its own
        return pytest.importorskip("fiftyone", reason="FiftyOne is not installed (the extra fiftyone)")


def need_database() -> None:
    """Skip the test if FiftyOne has none, with the reason."""
    fiftyone = import_or_skip()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fiftyone.list_datasets()
        except Exception as error:  # its own kinds: no program mongod, no server, one that is too old
            pytest.skip(f"FiftyOne has no database ({error}): set FIFTYONE_DATABASE_URI")
