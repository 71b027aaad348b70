"""A measurement with a value in every field."""

from __future__ import annotations

from vovnet.profiling.cost_types import LayerCost, ModelCost
from vovnet.profiling.energy.estimate import estimate
from vovnet.profiling.energy.measured import EnergyResult, MethodResult
from vovnet.profiling.energy.sensors import Source
from vovnet.profiling.measurement import Accuracy, Conditions, Measurement
from vovnet.profiling.memory import MemoryUse
from vovnet.profiling.peak import DevicePeak
from vovnet.profiling.speed import Latency, MeasuredValue
from vovnet.profiling.surroundings import Surroundings

LAYERS = (LayerCost(path="a", kind="Conv2d", multiply_adds=9), LayerCost(path="b", kind="ReLU", other_elements=4))
ENERGY = EnergyResult(
    0.5,
    figure=MethodResult("counter", Source("a", "b"), 0.5, (0.4, 0.6), -0.1, (-0.2, 0.0), 9.0, (1.0, 1.0), 0, (0.5,)),
)
MEASUREMENT = Measurement(
    name="a",
    runtime="PyTorch",
    input_shape=(2, 3, 8, 8),
    precision="float32",
    cost=ModelCost("A", ((2, 3, 8, 8),), "float32", LAYERS, {}, None),
    latency=Latency((0.02, 0.03)),
    ratio_to="a",
    ratio=MeasuredValue(1.0, (1.0, 1.0)),
    conditions=Conditions(
        "1a", "2026-01-02", "cpu", "a", 1, "a", {}, DevicePeak("float32", 50, 9), Surroundings(1, None, None, None, ())
    ),
    layer_seconds=(0.01, 0.0),  # a row that only holds parameters takes no time
    memory=MemoryUse("a", 0.0, None, 1.5, "a"),
    energy=ENERGY,
    estimate=estimate(9, 4),
    batches={4: Latency((0.05,))},
    stages={"read": Latency((0.01,))},
    accuracy=Accuracy("a", "test", 3, {"AP": 0.0, "AP50": 1.0}),
)
