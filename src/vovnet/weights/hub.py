"""Weights on the Hugging Face Hub: "hf:owner/name" and timm's names. They stay in the hub's own cache.

Only safetensors files are read: nothing that comes from the hub can hold code.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vovnet.bounded_http import call_within
from vovnet.errors import UsageError, listed, typed
from vovnet.libraries import needs_extra
from vovnet.limits import check_limit, limits
from vovnet.printing import line, quoted
from vovnet.urls import HUB_PREFIX, shown_url
from vovnet.weights.cached import cache_folder, sha256_of

# The VoVNets of timm that have weights on the hub.
VOVNETS_ON_HUB = (
    "timm/ese_vovnet19b_dw.ra_in1k",
    "timm/ese_vovnet39b.ra_in1k",
    "timm/ese_vovnet57b.ra4_e3600_r256_in1k",
)
HUB_FILE = "model.safetensors"
HUB_TIMEOUT_S = 5.0
LOG_IN = "hf auth login, or a token in HF_TOKEN"

_FILES = (HUB_FILE, "best.safetensors")  # tried in this order where no file is named
_FORMS = "hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME@REVISION/FILE.safetensors"
_PART = r"(?!\.)[\w.-]{1,96}(?<!\.)"
REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)
REVISION = re.compile(r"refs/(?:pr|convert)/[\w.-]+|(?!\.)[\w.-]+(?<!\.)", re.ASCII)
_COMMIT = re.compile("[0-9a-f]{40}")
_PAGE = re.compile(
    rf"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/({REPOSITORY.pattern})"
    rf"(?:/tree/({REVISION.pattern})(?:/[^?#]*)?|/blob/({REVISION.pattern}/[^?#]+))?/?(?:[?#].*)?",
    re.ASCII,
)
_LOG = logging.getLogger("vovnet")


@dataclass(frozen=True)
class HubSource:
    """What "hf:…" names.

    repository: "owner/name".
    revision: a branch, tag or commit; None is "main".
    file: its path in the repository; None is the first of `_FILES` that is there.
    """

    text: str
    repository: str
    revision: str | None
    file: str | None

    @property
    def files(self) -> tuple[str, ...]:
        return _FILES if self.file is None else (self.file,)

    @property
    def place(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def parse_hub_source(text: str) -> HubSource:
    """The parts of "hf:…". UsageError unless it has one of the three forms, and names no other kind of file."""
    shown = line(text, 200)
    form = rf"({REPOSITORY.pattern})(?:@({REVISION.pattern}))?(?:/(.+))?"
    match = re.fullmatch(form, text.removeprefix(HUB_PREFIX).removeprefix("//"), re.ASCII)
    if match is None or any(part in ("", ".", "..") for part in (match[3] or "file").split("/")):
        raise UsageError(f"expected weights on the hub as {_FORMS}, got {quoted(text, 200)}")
    if match[3] is not None and not match[3].endswith(".safetensors"):
        raise UsageError(
            f"{shown} is no safetensors file, and other files may hold code: from the hub only .safetensors is read"
        )
    return HubSource(shown, match[1], match[2], match[3])


def refuse_page(url: str) -> None:
    """UsageError for the address of a page about weights on the hub, which people copy; not for that of a file."""
    if page := _PAGE.fullmatch(url):
        repository, revision, file = page.groups()
        name = HUB_PREFIX + "@".join(filter(None, (repository, revision or file)))
        raise UsageError(f"{shown_url(url)} is a page of the Hugging Face Hub, not a file: write {line(name, 200)}")


def from_hub(text: str) -> Path:
    """The file that "hf:…" names, in the hub's cache; downloaded if it is not there or there is a newer one.

    A commit never changes: its model.safetensors, or the file that is named, is taken from the cache if it is there.

    Without an answer of the hub, or with HF_HUB_OFFLINE=1, the file in the cache is taken. A new one must have the
    digest that the hub states. Raises UsageError for what is no such name, FileNotFoundError for what the hub does not
    have or does not show to this user, OSError if it cannot be asked, ModuleNotFoundError without its library.
    """
    source = parse_hub_source(text)
    hub = hub_library(text, "hub")
    if hub.constants.HF_HUB_OFFLINE:
        if cached := _in_cache(hub, source, source.files):
            return cached
        raise FileNotFoundError(
            f"{source.text} is not in the hub's cache {hub.constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to ask "
            "the hub: run once without it, or copy the cache from another machine"
        )
    never_changes = source.revision is not None and _COMMIT.fullmatch(source.revision)
    if never_changes and (cached := _in_cache(hub, source, source.files[:1])):
        return cached
    try:
        with refusals_explained(source.text, source.place):
            for name in source.files:
                if (metadata := _metadata(hub, source.repository, name, source.revision)) is not None:
                    check_limit("weights_bytes", metadata.size or 0, source.text)
                    return _downloaded(hub, source.repository, name, source.revision, metadata.etag)
            raise FileNotFoundError(_no_such_file(hub, source))
    except UnreachableError as error:
        if cached := _in_cache(hub, source, source.files):
            _LOG.warning("the hub gave no answer (%s): %s is taken from its cache", error, source.text)
            return cached
        raise OSError(
            f"{source.text} is not in the hub's cache, and {hub.constants.ENDPOINT} gave no answer ({error}): try "
            "again later, check the network, or copy the cache from another machine"
        ) from error


def from_timm(name: str) -> Path:
    """The file of a network of timm's, by a name such as those in `VOVNETS_ON_HUB`. One in a cache is not renewed."""
    manual = cache_folder() / f"{name}.safetensors"
    if manual.is_file():
        return manual
    hub = hub_library(name, "timm")
    cached = hub.try_to_load_from_cache(name, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        metadata = _metadata(hub, name, HUB_FILE, None)
        if metadata is None:
            raise FileNotFoundError(f"no {HUB_FILE}")
        return _downloaded(hub, name, HUB_FILE, None, metadata.etag)
    except AlteredError:
        raise
    except Exception as error:  # the hub's library passes on the errors of its network library, which has changed
        raise OSError(
            f"{name} could not be downloaded from the hub ({type(error).__name__}); "
            f"download {HUB_FILE} from https://huggingface.co/{name} and save it as {manual}"
        ) from error


class UnreachableError(OSError):
    """The hub did not answer, or with an error of its own."""


class AlteredError(OSError):
    """A file that is not the one that the hub states."""


def hub_library(wanted: str, extra: str) -> Any:
    """The hub's library, without its telemetry unless HF_HUB_DISABLE_TELEMETRY=0 asks for it."""
    stated = os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with needs_extra(extra, f"{line(wanted, 200)} needs an extra"):
        import huggingface_hub
        from huggingface_hub import constants
    if stated.upper() in ("1", "ON", "YES", "TRUE"):
        constants.HF_HUB_DISABLE_TELEMETRY = True  # it may have been imported before
    return huggingface_hub


@contextmanager
def refusals_explained(what: str, place: str) -> Iterator[None]:
    """Turns the errors of the hub's library into one sentence.

    FileNotFoundError for what is not there or not shown, PermissionError for what needs another token,
    `UnreachableError` for all else that keeps the hub from answering.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        address = f"https://huggingface.co/{place.partition('@')[0]}"
        raise FileNotFoundError(
            f"{what} is only for those who accept its conditions: do so at {address}, then log in ({LOG_IN})"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{what}: the hub has no such model, or it is private: check the name, or log in ({LOG_IN})"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f"{what}: the hub has no such branch, tag or commit of this model") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        reason = line(error.server_message or error.response.reason_phrase, 160)
        if status in (401, 403):
            raise PermissionError(
                f"{what}: the hub refuses this ({status} {reason}): log in with a token that may do it ({LOG_IN})"
            ) from error
        if 400 <= status < 500 and status not in (408, 429):
            raise OSError(f"{what}: the hub refuses this ({status} {reason})") from error
        raise UnreachableError(f"{status} {reason}") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{what} is no possible name on the hub: {line(str(error), 200)}") from error
    except TimeoutError as error:
        raise UnreachableError("no answer in time") from error
    except (errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise UnreachableError(line(typed(error), 160)) from error
    except (OSError, ValueError):
        raise
    except Exception as error:  # of its network library, which has changed
        raise UnreachableError(line(typed(error.__cause__ or error), 160)) from error


def _metadata(hub: Any, repository: str, file: str, revision: str | None) -> Any:
    """Size and digest of a file, None if the repository does not have it. TimeoutError without an answer in time."""
    from huggingface_hub.errors import EntryNotFoundError

    url = hub.hf_hub_url(repository, file, revision=revision)
    try:
        return call_within(2 * HUB_TIMEOUT_S, lambda: hub.get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S))
    except EntryNotFoundError:
        return None


def _downloaded(hub: Any, repository: str, file: str, revision: str | None, stated: str | None) -> Path:
    """The file in the cache, with the digest `stated`: SHA-256, or for a file that lies in git itself git's SHA-1."""
    if stated is None or re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", stated) is None:
        raise ValueError(f"the hub states no digest of {file} in {repository}")
    path = Path(
        call_within(
            limits().weights_seconds,
            lambda: hub.hf_hub_download(repository, file, revision=revision, etag_timeout=HUB_TIMEOUT_S),
        )
    )
    received = sha256_of(path) if len(stated) == 64 else _git_sha1(path)
    if received != stated:
        path.resolve().unlink()  # the next try downloads it again
        path.unlink(missing_ok=True)
        kind = "SHA-256" if len(stated) == 64 else "SHA-1"
        raise AlteredError(f"{repository} arrived with {kind} {received}, the hub states {stated}; try again")
    return path


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _in_cache(hub: Any, source: HubSource, names: Sequence[str]) -> Path | None:
    """The first of these files that is there."""
    for name in names:
        cached = hub.try_to_load_from_cache(source.repository, name, revision=source.revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def _no_such_file(hub: Any, source: HubSource) -> str:
    """That the file is not there, and what is."""
    files = call_within(
        2 * HUB_TIMEOUT_S, lambda: hub.HfApi().list_repo_files(source.repository, revision=source.revision)
    )
    missing = f"{source.text}: {source.place} has no {' or '.join(source.files)}"
    if found := sorted(file for file in files if file.endswith(".safetensors")):
        start = f"hf:{source.place}/"
        return f"{missing}; name one of its files: {listed([start + file for file in found], 3)}"
    return f"{missing}, nor another safetensors file: only these are read from the hub, because others may hold code"
