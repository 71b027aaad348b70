"""The record of a stage: a JSON file with one entry for each measurement, written whole after each of them.

runs: run → when, with which code and on which machine, and how it ended.
results: name of a measurement → its values, or an "error"; with the key of the code and the run that made it.
missing: names that the last run had no time for, each with the reason.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vovnet.files import write_json
from vovnet.parsing import parse_json
from vovnet.provenance import record_header

RUNNING, FINISHED, FAILED, STOPPED, KILLED = "running", "finished", "failed", "stopped", "killed"


class StageRecord:
    """The file DIR/STAGE.json. ValueError if there is a file of this name that is not such a record."""

    def __init__(self, folder: Path, stage: str, *, rehearsal: bool = False) -> None:
        self.path = folder / f"{stage}.json"
        self.content: dict[str, Any] = {
            "stage": stage,
            "rehearsal": rehearsal,
            "runs": {},
            "results": {},
            "missing": {},
        }
        self.run = ""
        if self.path.exists():
            self.content = _read(self.path, stage, rehearsal)

    def begin(self, command: str, machine: Mapping[str, Any], *, commit: str | None = None) -> None:
        """Start a run: its results are marked as its own. An earlier one that never ended was killed.

        commit: of the source, if it is a copy without git.
        """
        for earlier in self.content["runs"].values():
            if earlier["state"] == RUNNING:
                earlier["state"] = KILLED
        self.run = secrets.token_hex(4)
        header = {**record_header(command), "started": datetime.now(UTC).isoformat(timespec="seconds")}
        header["commit"] = header["commit"] or commit
        self.content["runs"][self.run] = {**header, "state": RUNNING, "machine": dict(machine)}
        self.content["missing"] = {}
        self._write()

    def get(self, name: str, key: str | None = None) -> dict[str, Any] | None:
        """The values of a measurement; None if there are none, only an error, or those of other code."""
        result: dict[str, Any] | None = self.content["results"].get(name)
        if result is None or "error" in result or (key is not None and result["key"] != key):
            return None
        return result

    def put(self, name: str, key: str, values: Mapping[str, Any]) -> None:
        """Write a result; an error never replaces values of the same code."""
        if "error" in values and self.get(name, key) is not None:
            return
        self.content["results"][name] = {"key": key, "run": self.run, **values}
        self.content["missing"].pop(name, None)
        self._write()

    def miss(self, name: str, reason: str) -> None:
        self.content["missing"][name] = reason
        self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """How the run ended. One that was never begun, because its process failed before, is noted all the same."""
        run = self.content["runs"].setdefault(self.run or secrets.token_hex(4), {**record_header()})
        run |= {"state": state, "ended": datetime.now(UTC).isoformat(timespec="seconds")}
        if error is not None:
            run["error"] = error
        self._write()

    def _write(self) -> None:
        write_json(self.path, self.content)


def _read(path: Path, stage: str, rehearsal: bool) -> dict[str, Any]:
    try:
        content = parse_json(path.read_bytes())
        found = content["stage"], content["rehearsal"]
        if not all(isinstance(content[part], dict) for part in ("runs", "results", "missing")):
            raise TypeError("runs, results or missing")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a record of a stage ({error}): move it away") from None
    if found != (stage, rehearsal):
        kinds = {True: "a rehearsal", False: "a run on a GPU"}
        raise ValueError(
            f"{path} is a record of {kinds[bool(found[1])]} of the stage {found[0]}, expected {kinds[rehearsal]} of "
            f"{stage}: choose another --output"
        )
    result: dict[str, Any] = content
    return result
