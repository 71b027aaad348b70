"""A made-up measurement of runtimes."""

from __future__ import annotations

from dataclasses import replace

from vovnet.export.measuring.runtime_measurement import RuntimeRow, RuntimesMeasurement
from vovnet.profiling.energy.measured import EnergyResult
from vovnet.profiling.measurement import Accuracy, Conditions
from vovnet.profiling.speed import Latency, median_ratio
from vovnet.profiling.surroundings import Surroundings

NO_ENERGY = EnergyResult(None, reason="no sensor here")


def row(runtime: str, precision: str, boxes_ms: float, map_: float = 0.8652) -> RuntimeRow:
    """100 passes; the network alone takes 2 ms less."""
    network, boxes = (
        Latency(tuple((ms + number % 5 / 10) / 1e3 for number in range(100))) for ms in (boxes_ms - 2, boxes_ms)
    )
    return RuntimeRow(
        runtime,
        precision,
        version="1.2",
        file_bytes=2**20,
        network=network,
        boxes=boxes,
        start_s=(0.5, 0.3, 0.4),
        resident_mib=100.0,
        peak_mib=150.0,
        energy=NO_ENERGY,
        accuracy=Accuracy("bccd", "val", 87, {"AP": 0.57, "AP50": 0.9, "VOC07": map_}),
    )


def made_up(*rows: RuntimeRow, doubts: tuple[str, ...] = ()) -> RuntimesMeasurement:
    """The measurement with these rows, by default four of which one failed."""
    failed = RuntimeRow("mnn", "float32", reason="MNN is not installed")
    rows = rows or (row("torch", "float32", 40), row("onnxruntime", "float32", 24), failed, row("openvino", "int8", 6))
    first = rows[0].boxes
    assert first is not None
    return RuntimesMeasurement(
        model="bccd",
        detector="dsod300_vovnet27_slim",
        instructions="AVX512 VNNI",
        images=16,
        image_source="images of val of bccd",
        conditions=Conditions(
            run="12ab34cd",
            date="2026-11-28",
            device="cpu",
            device_name="Made-up CPU",
            threads=2,
            system="Linux",
            software={"torch": "2.14.1"},
            peak=None,
            surroundings=Surroundings(10.0, 0.0, None, None, doubts),
        ),
        rows=tuple(
            item if item.boxes is None else replace(item, ratio=median_ratio(item.boxes, first)) for item in rows
        ),
    )
