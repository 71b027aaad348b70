"""Puts weights on the Hugging Face Hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vovnet import __version__
from vovnet.errors import UsageError
from vovnet.files import new_folder
from vovnet.printing import line, quoted
from vovnet.urls import HUB_PREFIX
from vovnet.weights.hub import LOG_IN, REPOSITORY, REVISION, UnreachableError, hub_library, refusals_explained

_ABSOLUTE = re.compile(r"(?:[/~\\]|[A-Za-z]:[\\/])\S")


def hub_name(repository: str, revision: str | None) -> str:
    """The name by which pushed weights are loaded. UsageError unless it is one."""
    if REPOSITORY.fullmatch(repository.removeprefix(HUB_PREFIX)) is None:
        raise UsageError(f"expected a repository on the hub as OWNER/NAME, got {quoted(repository)}")
    if revision is not None and REVISION.fullmatch(revision) is None:
        raise UsageError(f"expected a branch of letters, digits, . - and _, got {quoted(revision)}")
    name = HUB_PREFIX + repository.removeprefix(HUB_PREFIX)
    return name if revision is None else f"{name}@{revision}"


def push(
    files: Mapping[str, Path | bytes], repository: str, *, private: bool = False, revision: str | None = None
) -> str:
    """Put files into a repository on the hub, in one commit, and return its address.

    files: what each name in the repository is to hold. Files of these names are replaced; all others stay.
    private: make the repository private if it is new. One that is there already must be.
    revision: a branch, made if it is missing; None is "main".

    The token is that of the environment or of the hub's own login. Raises UsageError for a public repository that is to
    be private, for a card that the hub refuses or with HF_HUB_OFFLINE=1, PermissionError without a token that may
    write, OSError if the hub gives no answer, ModuleNotFoundError without its library.
    """
    name = hub_name(repository, revision)
    repository = repository.removeprefix(HUB_PREFIX)
    hub = hub_library(name, "hub")
    if hub.constants.HF_HUB_OFFLINE:
        raise UsageError(f"{name} cannot be pushed while HF_HUB_OFFLINE is set: unset it")
    if hub.get_token() is None:
        raise PermissionError(f"{name} cannot be pushed without a login: {LOG_IN}")
    api = hub.HfApi(library_name="vovnet", library_version=__version__)
    try:
        with refusals_explained(name, repository):
            api.create_repo(repository, private=private or None, exist_ok=True)
            if private and not api.model_info(repository).private:
                raise UsageError(
                    f"{repository} is there already, and public: make it private on the hub, choose another name, or "
                    "leave out --private"
                )
            if revision is not None and not revision.startswith("refs/"):
                api.create_branch(repository, branch=revision, exist_ok=True)
            return str(_commit(hub, api, files, repository, revision))
    except RefusedCardError as error:
        raise UsageError(f"{name}: the hub refuses the card ({line(str(error), 300)})") from error
    except UnreachableError as error:
        raise OSError(f"{name}: the hub gave no answer ({error}); try again later, or check the network") from error


class RefusedCardError(ValueError):
    """The hub does not take what the card states, such as the licence."""


def _commit(hub: Any, api: Any, files: Mapping[str, Path | bytes], repository: str, revision: str | None) -> str:
    operations = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    try:
        done = api.create_commit(
            repository, operations, commit_message=f"Upload {' and '.join(files)} with vovnet", revision=revision
        )
    except OSError:  # some of the hub's are ValueErrors too
        raise
    except ValueError as error:  # before it sends a file, the library lets the hub check the card
        raise RefusedCardError(str(error)) from error
    address: str = done.commit_url
    return address


def write_folder(files: Mapping[str, Path | bytes], folder: Path) -> None:
    """Write the files to a folder, all or none. UsageError unless it is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{line(str(folder), 200)} must be a new or empty folder")
    with new_folder(folder) as temporary:
        for name, content in files.items():
            if isinstance(content, bytes):
                (temporary / name).write_bytes(content)
            else:
                shutil.copyfile(content, temporary / name)


def local_paths(record: Any) -> list[str]:
    """The paths on this machine that a record names, which whoever gets the weights can read."""
    return sorted({text for text in _texts(record) if _ABSOLUTE.match(text)})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
