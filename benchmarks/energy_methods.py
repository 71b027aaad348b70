"""The error of each method of measuring energy, on simulated devices with known energy.

It runs in virtual time, so it takes seconds. `python benchmarks/energy_methods.py` prints the table and writes
docs/records/energy_methods.json. The errors are those of the methods alone: the values that a board publishes are taken
as correct, except in the rows that say otherwise.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vovnet.files import write_json
from vovnet.profiling.energy.measured import MethodResult, measure_energy
from vovnet.profiling.energy.meter import Meter
from vovnet.profiling.energy.nvml import Nvml
from vovnet.profiling.energy.rapl import Rapl
from vovnet.profiling.energy.recording import Timeline
from vovnet.profiling.energy.sensors import Sensor
from vovnet.provenance import record_header

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/unit/profiling"))  # the devices that the tests measure
from simulated import CHIPS, H100, Chip, Device, FakeNvml, FakeSys  # noqa: E402

RECORD = ROOT / "docs/records/energy_methods.json"
NOTE = (
    "These are the errors of the methods alone, without the board's own ±5 %. Some boards measure power only part of "
    "the time: Pascal and Volta for 10 ms of every 20 ms, A100 and H100 for 25 ms of every 100 ms. On these, sampled "
    "power can be wrong if the period of the load is within a few per cent of the sensor's. The counter, and boards "
    "that measure continuously, are accurate for such loads too."
)

PROTOCOL = Timeline()


@dataclass(frozen=True)
class Load:
    """A load that repeats one iteration.

    phases: watts and seconds of each part of an iteration.
    runs: number of measurements, of which the worst is shown.
    """

    name: str
    phases: tuple[tuple[float, float], ...]
    timeline: Timeline = PROTOCOL
    jitter: float = 0.03
    board_gain: float = 1.0
    runs: int = 1


UNEVEN = ((300.0, 0.017), (140.0, 0.008))
SHORT = Timeline(trials=1, warmup_s=0, lead_s=0, window_s=1.5, window_ticks=0)
STEADY = Load("steady", ((250.0, 0.025),))
BURSTY = Load("bursty, 90 ms", ((400.0, 0.030), (100.0, 0.060)))
LOADS = (
    STEADY,
    BURSTY,
    Load("bursty, 97 ms, worst of 5", ((400.0, 0.030), (100.0, 0.067)), runs=5),
    Load("bursty, in step at 100 ms", ((400.0, 0.030), (100.0, 0.070)), jitter=0),
    Load("long, 30 s", UNEVEN, Timeline(trials=3, window_s=30)),
    Load("short, 1.5 s, no warm-up", UNEVEN, SHORT),
)
GAIN = Load("steady, board reads 5 % high", ((250.0, 0.025),), board_gain=1.05)


@dataclass(frozen=True)
class Row:
    """One result: its error, the length of a window, and the number of power readings in it."""

    board: str
    load: str
    method: str
    error_percent: float
    window_s: float
    samples: int


def board_rows(chip: Chip, load: Load) -> Iterator[Row]:
    """Errors of the counter and of sampled power in the same windows, then of the paper's method in other windows."""

    def sensor(device: Device, folder: Path) -> Sensor:
        return Nvml(FakeNvml(device, chip, board_gain=load.board_gain), "handle")

    for method in ("auto", "paper"):
        yield from _worst_rows(chip.name, load, method, sensor)


def cpu_rows(load: Load) -> Iterator[Row]:
    def sensor(device: Device, folder: Path) -> Sensor:
        machine = FakeSys(folder, device, range_uj=2_000_000_000)  # wraps every 16 s of work
        device.clock.start(0.020, machine.refresh)
        return Rapl(folder)

    yield from _worst_rows("two CPU packages", load, "rapl", sensor)


def meter_rows(load: Load) -> Iterator[Row]:
    def sensor(device: Device, folder: Path) -> Meter:
        log = folder / "meter.csv"
        log.write_text("timestamp,watts\n")

        def write() -> None:
            now_s = device.clock.now()
            with log.open("a") as file:
                file.write(f"{now_s},{device.mean_w(now_s, 0.25)}\n")

        device.clock.start(0.25, write)
        return Meter(log)

    yield from _worst_rows("external meter, 4 a second", load, "meter", sensor)


def all_rows() -> Iterator[Row]:
    for load in LOADS:
        for chip in CHIPS:
            yield from board_rows(chip, load)
        yield from meter_rows(load)
    for load in (STEADY, BURSTY):
        yield from cpu_rows(load)
    yield from board_rows(H100, GAIN)


def _worst_rows(board: str, load: Load, method: str, sensor: Callable[[Device, Path], Sensor | Meter]) -> Iterator[Row]:
    random.seed(f"{board} {load.name} {method}")  # for reproducible rows
    runs = [_rows(board, load, method, sensor) for _ in range(load.runs)]
    for same_method in zip(*runs, strict=True):
        yield max(same_method, key=lambda row: abs(row.error_percent))


def _rows(board: str, load: Load, method: str, sensor: Callable[[Device, Path], Sensor | Meter]) -> list[Row]:
    device = Device(load.phases, jitter=load.jitter)
    with tempfile.TemporaryDirectory() as folder:
        reader = sensor(device, Path(folder))
        result = measure_energy(device.run, reader, method=method, timeline=load.timeline, clock=device.clock)
    assert result.recording is not None
    window_s = round(statistics.median(window.seconds for window in result.recording.trials), 1)
    return [
        Row(board, load.name, value.method, _error_percent(value, device), window_s, value.samples_per_trial)
        for value in (result.figure, result.check)
        if value is not None
    ]


def _error_percent(result: MethodResult, device: Device) -> float:
    return round(100 * (result.energy_j_per_image / device.true_j_per_image - 1), 2)


def main() -> None:
    print(f"{'board':28}{'load':30}{'method':10}{'error, %':>9}{'window, s':>11}{'samples':>9}")
    rows = []
    for row in all_rows():
        rows.append(asdict(row))
        result = f"{row.error_percent:+9.2f}{row.window_s:11.1f}{row.samples:9}"
        print(f"{row.board:28}{row.load:30}{row.method:10}{result}", flush=True)
    print(NOTE)
    write_json(RECORD, {**record_header("make energy-methods"), "note": NOTE, "rows": rows})


if __name__ == "__main__":
    main()
