"""VoVNetV2's parameters and multiply-adds: exact, and equal to the printed digits of the authors' figures."""

import pytest
import torch

from vovnet import create_backbone
from vovnet.profiling.cost import count_multiply_adds, count_parameters

# name: backbone parameters, multiply-adds at 224 with a 1000-way classifier, the same in printed giga
COUNTS = {
    "vovnet19_slim_dw_ese": (1_384_752, 398_071_376, "0.398"),
    "vovnet19_dw_ese": (5_518_080, 1_333_489_824, "1.333"),
    "vovnet19_slim_ese": (2_653_136, 1_680_214_784, "1.680"),
    "vovnet19_ese": (10_180_416, 4_121_937_920, "4.122"),
    "vovnet39_ese": (25_184_128, 7_075_831_808, "7.076"),
    "vovnet57_ese": (41_454_912, 8_935_976_960, "8.936"),
    "vovnet99_ese": (69_523_520, 16_495_554_560, "16.496"),
}
# With a 1000-way classifier: eSE in every module, and in a stage's last only.
PLACEMENTS = {
    "vovnet39_ese": (26_209_128, 24_568_936),
    "vovnet57_ese": (42_479_912, 38_608_936),
    "vovnet99_ese": (70_548_520, 63_199_272),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    parameters, multiply_adds, printed = COUNTS[name]
    with torch.device("meta"):
        features, classifier = create_backbone(name, features_only=True), create_backbone(name)
    assert count_parameters(features) == parameters
    assert count_multiply_adds(classifier, (224, 224)) == multiply_adds
    assert f"{multiply_adds / 1e9:.3f}" == printed


@pytest.mark.parametrize("name", PLACEMENTS)
def test_counts_of_each_ese_placement(name):
    with torch.device("meta"):
        models = [create_backbone(name, ese=ese) for ese in ("all", "last")]
    assert tuple(map(count_parameters, models)) == PLACEMENTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_map_sizes_channels_and_strides(name):
    with torch.device("meta"):
        model = create_backbone(name, features_only=True)
        features = model(torch.empty(1, 3, 224, 224))
    assert [f.shape[-1] for f in features] == [56, 28, 14, 7]
    assert tuple(f.shape[1] for f in features) == model.channels
