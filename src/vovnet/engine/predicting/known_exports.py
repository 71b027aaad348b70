"""The exports that passed their test on this machine, remembered in the user's cache, so that the fastest one can run.

Each is a small JSON file of its own, written whole or not at all: two exports at the same time lose nothing, and a
damaged file is as if it were not there. Without a home folder, or if that cannot be written to, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

import vovnet
from vovnet.files import write_json
from vovnet.parsing import read_json
from vovnet.provenance import processor
from vovnet.records import RecordPart
from vovnet.runtime.cpu import instruction_set
from vovnet.runtime.export_info import PRECISIONS, ExportInfo
from vovnet.weights.cached import cache_folder

_MOST_BYTES = 20_000  # of the file of one export
_MOST_EXPORTS = 300
_NAME = "*-*.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
AveragePrecision = Annotated[float | None, Field(ge=0, le=1)]


class KnownExport(RecordPart):
    """An export that passed its test.

    weights_sha256: of the weights that it was made from, see `vovnet.weights.digest`.
    machine: processor and instruction set, on which it was tested and timed.
    path: absolute, of the file or folder.
    bytes, modified_us: its size and the time of its change, in microseconds; all files of a folder together.
    latency_ms: median of one image.
    ap_before, ap_after: average precision of the weights and of the export on the images of the test.
    vovnet: the version whose PyTorch model it equals.
    """

    model_config = ConfigDict(frozen=True)

    weights_sha256: Digest
    machine: str
    path: str
    bytes: int
    modified_us: int
    runtime: Literal["onnxruntime", "openvino", "mnn"]
    precision: Literal["float32", "bf16", "int8"]
    latency_ms: Annotated[float, Field(gt=0)]
    ap_before: AveragePrecision
    ap_after: AveragePrecision
    date: str
    vovnet: str

    @classmethod
    def of(
        cls,
        path: Path,
        info: ExportInfo,
        *,
        runtime: str,
        latency_ms: float,
        ap_before: float | None = None,
        ap_after: float | None = None,
    ) -> KnownExport:
        """An exported file or folder that has just passed. OSError if it is not there."""
        size, modified = _stamp(path)
        return cls.model_validate(
            {
                "weights_sha256": info.weights_sha256,
                "machine": this_machine(),
                "path": os.path.abspath(path),
                "bytes": size,
                "modified_us": modified,
                "runtime": runtime,
                "precision": info.precision,
                "latency_ms": latency_ms,
                "ap_before": ap_before,
                "ap_after": ap_after,
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "vovnet": vovnet.__version__,
            }
        )

    def is_unchanged(self) -> bool:
        """Whether the file or folder is still there as it was tested."""
        try:
            return _stamp(Path(self.path)) == (self.bytes, self.modified_us)
        except (OSError, ValueError):
            return False


def remember(export: KnownExport) -> bool:
    """Remember an export that passed; False if that cannot be written. It replaces what is known of the same path."""
    folder = memory_folder()
    if folder is None:
        return False
    try:
        write_json(folder / _file_name(export), export.model_dump())
    except OSError:
        return False
    with suppress(OSError):  # another process removes some too
        files = sorted(folder.glob(_NAME), key=lambda path: path.stat().st_mtime_ns)
        for oldest in files[: max(0, len(files) - _MOST_EXPORTS)]:
            oldest.unlink()
    return True


def known(weights_sha256: str, runtime: str | None = None) -> list[KnownExport]:
    """The exports of weights that passed on this machine with this version of vovnet, fastest first.

    runtime: only those that it runs; None is any.

    What is no longer there, or has changed since, is forgotten. Of equally fast ones the most precise is first.
    """
    found = []
    for path, export in _read_all(weights_sha256):
        here = export.machine == this_machine()
        if here and not export.is_unchanged():
            with suppress(OSError):
                path.unlink()
        elif here and export.vovnet == vovnet.__version__ and runtime in (None, export.runtime):
            found.append(export)
    return sorted(found, key=lambda item: (item.latency_ms, PRECISIONS.index(item.precision), item.path))


def fastest(weights_sha256: str, runtime: str | None = None) -> Path | None:
    """The fastest of `known`."""
    return next((Path(export.path) for export in known(weights_sha256, runtime)), None)


def any_known() -> bool:
    """Whether anything is remembered, which is known sooner than the digest of weights."""
    folder = memory_folder()
    return folder is not None and next(_files(folder, _NAME), None) is not None


def this_machine() -> str:
    """The processor and its instructions, which decide what is fast and what int8 computes."""
    return f"{processor()}, {instruction_set()}"


def memory_folder() -> Path | None:
    """Where exports are remembered; None without a home folder."""
    try:
        return cache_folder() / "known_exports"
    except OSError:
        return None


def _read_all(weights_sha256: str) -> Iterator[tuple[Path, KnownExport]]:
    """What is remembered of these weights, on any machine, and in which file."""
    folder = memory_folder()
    for path in () if folder is None else _files(folder, f"{weights_sha256[:16]}-*.json"):
        try:
            if path.stat().st_size > _MOST_BYTES:
                continue
            export = KnownExport.model_validate(read_json(path))
        except (OSError, ValueError):
            continue
        if export.weights_sha256 == weights_sha256:
            yield path, export


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    with suppress(OSError):  # it cannot be read
        yield from folder.glob(pattern)


def _file_name(export: KnownExport) -> str:
    place = hashlib.sha256(f"{export.machine}\n{export.runtime}\n{export.path}".encode(errors="surrogatepass"))
    return f"{export.weights_sha256[:16]}-{place.hexdigest()[:16]}.json"


def _stamp(path: Path) -> tuple[int, int]:
    """Bytes and latest change of a file, or of all files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    states = [file.stat() for file in files]
    return sum(state.st_size for state in states), max((state.st_mtime_ns // 1000 for state in states), default=0)
