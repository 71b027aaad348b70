"""Every tensor of networks whose packages are on no index has its place in ours.

Their names and shapes were written down when the authors' own code ran beside ours, with random weights, and gave the
same within 1e-6 (VoVNet.pytorch and vovnet-detectron2: to the bit).
"""

from __future__ import annotations

import pytest

from vovnet.weights.translate import translate

from .recorded_names import recorded_state

SOURCES = [
    ("vovnet_pytorch_vovnet39", "VoVNet.pytorch", "vovnet39", 1000),
    ("vovnet_detectron2_vovnet19_slim_dw_ese", "vovnet-detectron2", "vovnet19_slim_dw_ese", None),
    ("vovnet_detectron2_vovnet39_ese", "vovnet-detectron2", "vovnet39_ese", None),
    ("peleenet", "PeleeNet", "peleenet", 1000),
    ("pytorchcv_vovnet39", "pytorchcv", "vovnet39", 1000),
]


@pytest.mark.parametrize(("name", "scheme", "model", "classes"), SOURCES, ids=[source[0] for source in SOURCES])
def test_every_recorded_tensor_has_its_place(name: str, scheme: str, model: str, classes: int | None) -> None:
    state = recorded_state(name)
    found = translate(state, name)
    assert (found.scheme, found.model, found.num_classes, found.norm) == (scheme, model, classes, "batch")
    assert found.set_aside == {}

    def numbers(tensors: dict) -> list[float]:
        """The number that fills each tensor, but for the weights of PeleeNet's norms, which are adapted."""
        return sorted(
            tensor.flatten()[0].item()
            for key, tensor in tensors.items()
            if not (scheme == "PeleeNet" and key.endswith("norm.weight"))
        )

    assert numbers(found.state) == numbers(state)
    assert sum(tensor.numel() for tensor in found.state.values()) == sum(tensor.numel() for tensor in state.values())
