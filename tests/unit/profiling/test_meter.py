from __future__ import annotations

from pathlib import Path

import pytest

from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.sensors import Sample


def test_a_meter_log(tmp_path: Path) -> None:
    log = tmp_path / "meter.csv"
    log.write_text("timestamp,watts\n10.5,30\n1970-01-01T00:00:12+00:00,3.1e1\n1970-01-01T01:00:13+01:00,32\n14,3")
    assert Meter(log).samples() == [
        Sample(10.5, 30),
        Sample(12, 31),
        Sample(13, 32),
    ]  # without the incomplete line


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("time,watts\n1,2\n", "timestamp"),
        ("timestamp,watts\n1,2\n2,\n", "line 3"),
        ("timestamp,watts\n1\n", "line 2"),
        ("timestamp,watts\n2026-01-01T00:00:00,5\n", "no zone"),
        ("timestamp,watts\n1,nan\n", "line 2.*not a finite number"),
        ("timestamp,watts\n1,5\ninf,5\n", "line 3.*not a finite number"),
        ("timestamp;watts\n1;5\n", "separated by commas.*first line is 'timestamp;watts'"),
        ("timestamp\twatts\n1\t5\n", "separated by commas.*first line is 'timestamp"),
        ("timestamp,power\n1,5\n", "lacks watts: its first line is 'timestamp,power'"),
        ("", "columns timestamp,watts"),
        ("timestamp,watts\n1,5\n2,-50\n", "line 3.*watts below 0"),
        ("timestamp,watts\n1,5\n2,50,5\n", "line 3.*3 fields for 2 columns"),  # a decimal comma
        ("timestamp,watts,volts\n1,1,234.5,230\n", "line 2.*4 fields for 3 columns"),  # thousands
        ('timestamp,watts\n1,"50,5"\n', "line 2.*decimal point: '50,5'"),
        ("timestamp,watts\n1,1 234\n", "line 2.*decimal point: '1 234'"),
        ("timestamp,watts\n1,1_234\n", "line 2.*decimal point: '1_234'"),
        ("timestamp,watts\n1,-inf\n", "line 2.*not a finite number"),
        ("timestamp,watts\n1,1e400\n", "line 2.*more than 20000 W"),
        ("timestamp,watts\n1,1e9\n", "line 2.*more than 20000 W"),
        ("timestamp,watts\n1,5\n2,50500\n", "line 3.*milliwatts"),
        ("watts,timestamp\n1700000000,50\n", "line 2.*order of the columns"),
        ("timestamp,watts\n1700000000000,50\n", "line 2.*milliseconds"),
        ("timestamp,watts\n1700000000000000,50\n", "line 2.*not in seconds since 1970"),
        ("timestamp,watts\n-5,50\n", "line 2.*not in seconds since 1970"),
        ("timestamp,watts\n10,5\n11,5\n10.5,5\n", r"line 4.*is 0\.5 s before"),
        ("timestamp,watts\n10,5\n11,5\n11,6\n", "line 4.*repeats that of the reading before"),
        ("timestamp,watts,watts\n1,5,6\n", "each column once"),
    ],
)
def test_a_faulty_meter_log_is_refused_at_once(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "meter.csv").write_text(text)
    with pytest.raises(ValueError, match=match):
        Meter(tmp_path / "meter.csv")


def test_a_meter_log_as_other_programs_write_it(tmp_path: Path) -> None:
    """Byte order mark, capitals, blanks, quotes, more columns, Windows line ends, an empty line, Z as time zone."""
    log = tmp_path / "meter.csv"
    text = (
        '\ufeff"Timestamp", Watts ,volts\r\n1970-01-01T00:00:10Z, 30.5 ,230\r\n\r\n"1970-01-01 01:00:11.5+01:00",31\r\n'
    )
    log.write_text(text, newline="")
    assert Meter(log).samples() == [Sample(10, 30.5), Sample(11.5, 31)]


def test_a_log_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "meter.csv").write_text("timestamp,watts\n1,5\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"meter\.csv is UTF-16 .* save it as UTF-8"):
        Meter(tmp_path / "meter.csv")


def test_a_log_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="meter.csv"):
        Meter(tmp_path / "meter.csv")


@pytest.mark.parametrize(
    "content",
    [
        b"timestamp,watts\n1,5\0\n",
        b"timestamp,watts\n1," + b"9" * 400 + b"\n",
        b"timestamp,watts\n1," + b"\x1b[31m" * 100_000 + b"\n",
        b"timestamp,watts\n1,1_000\n",
        ("x" * 1_000_000).encode(),
        b"timestamp,watts," + b"a," * 100_000 + b"\n",
        b'timestamp,watts\n"' + b"x\n" * 200_000,
    ],
)
def test_a_strange_log_is_a_short_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "meter.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"meter\.csv") as caught:
        Meter(tmp_path / "meter.csv")
    assert len(str(caught.value).replace(str(tmp_path), "")) < 500
    assert "\n" not in str(caught.value)
