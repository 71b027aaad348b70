"""Reading the CSV log of an external power meter."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from vovnet.parsing import naming, read_lines
from vovnet.printing import line, quoted
from vovnet.profiling.energy.sensors import LIMIT_W, DeviceState, Method, Sample, Source

LATEST_S = 1e11  # year 5138; seconds since 1970 are less, milliseconds since 1973 are more


class Meter:
    """The log of an external meter: CSV with the columns `timestamp` and `watts`; other columns are ignored.

    A timestamp is in seconds since 1970, or ISO 8601 with a time zone, and is later than that of the line before. The
    log is read when the measurement ends, so its logger must run during the measurement. A log that is written later
    goes to `energy.evaluate` together with the recording. Raises ValueError or OSError at once for a log that cannot be
    read.
    """

    driver: str | None = None

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.name = f"meter log {self._path.name}"
        self.sources: Mapping[Method, Source] = {"meter": Source(self._path.name, "all that the meter feeds")}
        self.samples()  # a faulty log must be reported now, not after minutes of measuring

    def state(self, time_s: float) -> DeviceState:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # Windows has none
        return DeviceState(time_s=time_s, load_average=load)

    def samples(self) -> list[Sample]:
        """The whole log, ordered by time. Raises ValueError that names the faulty line."""
        try:
            numbered = list(self._numbered_samples())
        except csv.Error as error:
            raise ValueError(f"{self._path} must be CSV in UTF-8 ({error}): export it again") from None
        for (_, before), (number, sample) in pairwise(numbered):
            if sample.time_s <= before.time_s:
                what = "repeats" if sample.time_s == before.time_s else f"is {before.time_s - sample.time_s:g} s before"
                raise ValueError(
                    f"{self._path}, line {number}: its timestamp {what} that of the reading before; "
                    "each must be later: log fractions of a second, and start a new log after the clock was set"
                )
        return [sample for _, sample in numbered]

    def _numbered_samples(self) -> Iterator[tuple[int, Sample]]:
        if not self._path.exists():
            raise FileNotFoundError(f"the meter log {self._path} does not exist")
        with naming(self._path):
            *lines, _ = read_lines(self._path, "record_bytes")  # the last line may be half written
        rows = csv.reader(f"{text}\n" for text in lines)
        names = [name.strip().lower() for name in next(rows, [])]
        if missing := {"timestamp", "watts"} - set(names):
            what = f"lacks {' and '.join(sorted(missing))}: its first line is {quoted(','.join(names))}"
            raise ValueError(f"{self._path} must have the columns timestamp,watts, separated by commas, {what}")
        if len(set(names)) < len(names):
            raise ValueError(f"{self._path} must have each column once, got {line(','.join(names))}")
        for fields in filter(None, rows):
            try:
                yield rows.line_num, _sample(names, fields)
            except (IndexError, ValueError) as error:  # the first: the line is too short
                reason = "too few fields" if isinstance(error, IndexError) else error
                message = f"expected a timestamp and watts, got {line(','.join(fields))} ({reason})"
                raise ValueError(f"{self._path}, line {rows.line_num}: {message}") from None


def _sample(names: list[str], fields: list[str]) -> Sample:
    if len(fields) > len(names):
        raise ValueError(
            f"{len(fields)} fields for {len(names)} columns: write numbers with a decimal point and without separators"
        )
    time_s, power_w = _unix_time_s(fields[names.index("timestamp")].strip()), _number(fields[names.index("watts")])
    if power_w < 0:
        raise ValueError("watts below 0: is the meter connected the wrong way round?")
    if power_w > LIMIT_W:
        raise ValueError(f"more than {LIMIT_W:.0f} W: are these milliwatts, or is the order of the columns wrong?")
    return Sample(time_s, power_w)


def _number(text: str) -> float:
    """Plain ASCII digits, as programs write them; `float` also takes "1_000", "nan" and "infinity"."""
    if not re.fullmatch(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", text.strip()):
        raise ValueError(f"not a finite number with a decimal point: {quoted(text.strip())}")
    return float(text)


def _unix_time_s(text: str) -> float:
    try:
        time_s = _number(text)
    except ValueError as error:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"the timestamp is {error}, and not ISO 8601") from None
        if time.tzinfo is None:
            raise ValueError("the time has no zone: add Z or +02:00") from None
        return time.timestamp()
    if not 0 <= time_s < LATEST_S:
        raise ValueError("the timestamp is not in seconds since 1970: are these milliseconds?")
    return time_s
