"""Reading the CSV log of an external power meter."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from vovnet.profiling.sensors import DeviceState, Method, Sample, Source


class Meter:
    """The log of an external meter: CSV with the columns `timestamp` and `watts`; other columns are ignored.

    A timestamp is in seconds since 1970, or ISO 8601 with a time zone. The log is read when the measurement ends, so
    its logger must run during the measurement. A log that is written later goes to `energy.evaluate` together with the
    recording. Raises ValueError or OSError at once for a log that cannot be read.
    """

    driver: str | None = None

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.name = f"meter log {self._path.name}"
        self.sources: Mapping[Method, Source] = {"meter": Source(self._path.name, "all that the meter feeds")}
        self.samples()  # a faulty log must be reported now, not after minutes of measuring

    def state(self, time_s: float) -> DeviceState:
        return DeviceState(time_s=time_s, load_average=os.getloadavg()[0])

    def samples(self) -> list[Sample]:
        """The whole log, ordered by time. Raises ValueError that names the faulty line."""
        lines = self._path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))  # the last line may be half written
        rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
        if missing := {"timestamp", "watts"} - set(rows.fieldnames):
            raise ValueError(f"{self._path} must have the columns timestamp,watts, lacks {sorted(missing)}")
        return sorted(self._sample(row, rows.line_num) for row in rows)

    def _sample(self, row: dict[str, str], line: int) -> Sample:
        try:
            sample = Sample(_unix_time_s(row["timestamp"].strip()), float(row["watts"]))
            if not all(map(math.isfinite, sample)):
                raise ValueError("not a finite number")
            return sample
        except (AttributeError, TypeError, ValueError) as error:  # the first two: the line is too short
            message = f"{self._path}, line {line}: expected a timestamp and watts, got {row} ({error})"
            raise ValueError(message) from None


def _unix_time_s(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("the time has no zone: add Z or +02:00")
    return time.timestamp()
