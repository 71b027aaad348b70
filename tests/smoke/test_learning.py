"""The whole chain learns: a detector trained on a few images finds nearly all their objects."""

import pytest

from vovnet.data.formats import open_dataset
from vovnet.engine.checkpoint import load_model
from vovnet.engine.config import load_config
from vovnet.engine.evaluate import evaluate
from vovnet.engine.train import train


@pytest.mark.slow
def test_overfits_five_images(small_voc, tmp_path):
    """About two minutes: 80 steps of 5 images, without augmentation."""
    path = tmp_path / "overfit.yaml"
    path.write_text(
        f"""
model: dsod300_vovnet27_slim
model_options: {{anchors: coco}}
data: {{root: {small_voc}, val: null}}
augment: {{photometric: 0, expand: 1, crop_min_scale: 1, flip: 0}}
optimizer: {{learning_rate: 0.05, clip_norm: 10}}
schedule: {{iterations: 80, kind: cosine, warmup_iterations: 10}}
batch_size: 5
micro_batch_size: 5
device: cpu
output: {tmp_path / "run"}
"""
    )
    train(load_config(path))
    model = load_model(tmp_path / "run" / "best.safetensors").model
    result = evaluate(model, open_dataset(small_voc, "train"), device="cpu", workers=0)
    assert result.voc.mean_ap11 is not None
    assert result.voc.mean_ap11 >= 0.9
