"""Exported detectors that are a folder: the network's files, and vovnet.json with its description and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vovnet.parsing import naming, parse_json, read_bounded
from vovnet.printing import line, quoted
from vovnet.runtime.export_info import ExportInfo

INFO_FILE = "vovnet.json"


def read_folder(folder: Path, limits: Mapping[str, str]) -> tuple[ExportInfo, dict[str, bytes]]:
    """The description and the content of the network's files, which are those that the description was written for.

    limits: for each file the name of the limit of its size, see `vovnet.limits.Limits`.

    ValueError if a file is missing, too large, damaged or of another export.
    """
    path = folder / INFO_FILE
    if not path.is_file():
        raise ValueError(
            f"{line(str(folder))} holds no {INFO_FILE}, so it is no detector that vovnet exported: "
            "export one with vovnet export"
        )
    with naming(path):
        text = read_bounded(path, "record_bytes")
        info, digests = ExportInfo.from_json(text), parse_json(text).get("files")
        if not isinstance(digests, dict) or digests.keys() != limits.keys():
            raise ValueError(f"states the files {quoted(digests)}, expected {' and '.join(limits)}: export it again")
    contents = {}
    for name, limit in limits.items():
        with naming(folder / name):
            contents[name] = read_bounded(folder / name, limit)
            if digests[name] != digest(contents[name]):
                raise ValueError(
                    f"is not the file that {INFO_FILE} describes: it is damaged, cut short or of another export; "
                    "copy the whole folder again, or export it again"
                )
    return info, contents


def digest(content: bytes) -> dict[str, object]:
    """What the description says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
